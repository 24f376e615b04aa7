"""Classes: those of the data against those of the model and of the weights it starts from."""

from ziggurat.data.findings import some
from ziggurat.doctor.clock import Clock
from ziggurat.doctor.findings import Finding
from ziggurat.doctor.subject import Subject

CHECK = "classes"


def check_classes(subject: Subject, clock: Clock) -> list[Finding]:
    """Hold names and number of the data's classes against the model's and the weights'."""
    del clock  # it takes no time
    classes, known = subject.data.classes, subject.model.identity.num_classes
    evidence = f"{len(classes)} in the data, {known} in the model"
    if known > len(classes):
        return [
            Finding(
                CHECK,
                "warning",
                f"{evidence}: {known - len(classes)} can never be learned",
                "leave model.num_classes out, which takes the number of the data",
            )
        ]
    description = subject.description
    if description is None or subject.config.model.reset_classes:
        return [Finding(CHECK, "ok", evidence)]
    of_weights = description.classes
    if of_weights == classes:
        return [Finding(CHECK, "ok", f"{evidence}, in the order of the weights")]
    first = next(
        i for i, pair in enumerate(zip(of_weights, classes, strict=False)) if len(set(pair)) > 1
    )
    evidence = (
        f"class {first} is {of_weights[first]!r} in {subject.config.model.weights} and "
        f"{classes[first]!r} in the data"
    )
    others = [name for name in of_weights if name not in classes]
    return [
        Finding(
            CHECK,
            "warning",
            f"{evidence}; the weights have also {some(others)}",
            "set model.reset_classes true, unless the classes mean the same under other names",
        )
    ]
