"""The page of a model on the hub: metadata that the hub reads, and a text for people."""

from collections.abc import Mapping
from dataclasses import dataclass

from huggingface_hub import EvalResult, ModelCardData

from ziggurat.cards import MODELS
from ziggurat.preprocessing import CenterCrop, FitInside
from ziggurat.types import Task
from ziggurat.zoo import Model

SHOWN_CLASSES = 20

PIPELINES: dict[Task, str] = {
    "classification": "image-classification",
    "detection": "object-detection",
    "instance_segmentation": "image-segmentation",
    "keypoint_detection": "keypoint-detection",
    "semantic_segmentation": "image-segmentation",
}
"""What the hub calls the tasks."""

TEMPLATE = """\
---
{metadata}
---

# {title}

{name} for {task}, {parameters:.1f} M parameters, in the format of ziggurat.{source}

```python
import ziggurat

predictor = ziggurat.load("hf:{repository}")
prediction = predictor("photo.jpg")
prediction.save("out.jpg")
```

{results}

Images: {preprocessing}.

{num_classes} classes: {classes}.
"""


@dataclass(frozen=True)
class Results:
    """How good a model is.

    Attributes:
        dataset: What it was measured on.
        metrics: Name and value of each metric, as fractions.
    """

    dataset: str
    metrics: Mapping[str, float]


def model_card(model: Model, repository: str, *, licence: str, results: Results | None) -> str:
    """Write the card.

    Args:
        model: The model.
        repository: "USER/NAME" on the hub.
        licence: Licence of the weights by its name on the hub.
        results: How good it is, if that was measured.
    """
    identity = model.identity
    title = repository.rsplit("/", 1)[-1]
    data = ModelCardData(
        license=licence,
        library_name="ziggurat",
        pipeline_tag=PIPELINES[identity.task],
        tags=["ziggurat", identity.backbone],
        model_name=title,
        eval_results=None if results is None else _evaluations(model, results),
    )
    card = MODELS.get(identity.name)
    return TEMPLATE.format(
        metadata=data.to_yaml(),
        title=title,
        name=identity.name,
        task=identity.task,
        parameters=sum(p.numel() for p in model.parameters()) / 1e6,
        source="" if card is None else f" Architecture: {card.source}.",
        repository=repository,
        num_classes=identity.num_classes,
        results="No results were given." if results is None else _table(results),
        preprocessing=_preprocessing(model),
        classes=_class_names(model.classes),
    )


def _evaluations(model: Model, results: Results) -> list[EvalResult]:
    return [
        EvalResult(
            task_type=PIPELINES[model.identity.task],
            dataset_type=results.dataset.lower().replace(" ", "-"),
            dataset_name=results.dataset,
            metric_type=name,
            metric_value=value,
        )
        for name, value in results.metrics.items()
    ]


def _table(results: Results) -> str:
    rows = [f"| {name} | {100 * value:.1f} |" for name, value in results.metrics.items()]
    return "\n".join([f"| {results.dataset} | % |", "|---|---|", *rows])


def _preprocessing(model: Model) -> str:
    values = model.preprocessing
    if isinstance(values, CenterCrop):
        what = (
            f"short side to {values.resize} pixels (bicubic), the middle {values.crop} x "
            f"{values.crop} cut out"
        )
    else:
        how = "padded" if isinstance(values, FitInside) else "enlarged"
        what = (
            f"resized to fit in {values.long_side} x {values.short_side} pixels, sides {how} to "
            f"multiples of {values.divisor}"
        )
    if isinstance(values, CenterCrop) or values.channel_order == "rgb":
        return f"{what}, RGB from 0 to 1, mean {values.mean}, deviation {values.std}"
    mean, std = (
        tuple(round(255 * v, 4) for v in three[::-1]) for three in (values.mean, values.std)
    )
    return f"{what}, BGR from 0 to 255, mean {mean}, deviation {std}"


def _class_names(classes: tuple[str, ...]) -> str:
    rest = ", ..." if len(classes) > SHOWN_CLASSES else ""
    return ", ".join(classes[:SHOWN_CLASSES]) + rest
