"""Put the entries of a file and of a model side by side, and copy only if nothing is left over."""

import difflib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ziggurat.checkpoints.names import NameMap
from ziggurat.errors import ZigguratError

Shape = tuple[int, ...]

CLASS_ENTRIES = ("head.fc.", "head.cls_logits.")
"""Our entries whose first dimension grows with the number of classes."""

SHOWN = 3
"""How many names of a kind an error message tells."""


@dataclass(frozen=True)
class LoadReport:
    """What became of every entry of a file and of a model.

    Attributes:
        matched: Name in the file and our name of each entry that is loaded.
        ignored: Name in the file and reason of each entry that is left out.
        missing: Our names that the file does not have.
        unexpected: Names in the file that the model does not have.
        wrong_shape: Name in the file, its shape there and the shape that the model has.
    """

    matched: tuple[tuple[str, str], ...]
    ignored: tuple[tuple[str, str], ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    wrong_shape: tuple[tuple[str, Shape, Shape], ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether every entry on both sides is accounted for."""
        return not (self.missing or self.unexpected or self.wrong_shape)

    def summary(self) -> str:
        """Say in a few lines what was loaded, what was not, and why."""
        lines = [f"{len(self.matched)} entries loaded"]
        for reason in dict.fromkeys(reason for _, reason in self.ignored):
            names = [name for name, other in self.ignored if other == reason]
            lines.append(f"{len(names)} ignored ({_some(names)}): {reason}")
        if self.missing:
            lines.append(f"{len(self.missing)} missing ({_some(self.missing)})")
        if self.unexpected:
            lines.append(f"{len(self.unexpected)} unexpected ({_some(self.unexpected)})")
        if self.wrong_shape:
            names = [f"{n} {got} instead of {want}" for n, got, want in self.wrong_shape]
            lines.append(f"{len(self.wrong_shape)} of another shape ({_some(names)})")
        return "\n".join(lines)


def match_entries(
    own: Mapping[str, Shape],
    official: Mapping[str, Shape],
    names: NameMap,
    *,
    reset_classes: bool = False,
) -> LoadReport:
    """Map every entry of a file exactly once.

    Args:
        own: Shapes of the model's entries.
        official: Shapes of the file's entries.
        names: How the file's names become ours.
        reset_classes: Leave out entries that differ only in the number of classes.

    Raises:
        ZigguratError: If two entries of the file have the same meaning.
    """
    matched, ignored, unexpected, wrong_shape = [], [], [], []
    targets: list[str] = []
    for name, shape in official.items():
        reason = names.reason_to_ignore(name)
        if reason is not None:
            ignored.append((name, reason))
            continue
        ours = names.own_name(name)
        if ours is None or ours not in own:
            unexpected.append(name)
            continue
        targets.append(ours)
        if shape == own[ours]:
            matched.append((name, ours))
        elif reset_classes and ours.startswith(CLASS_ENTRIES) and shape[1:] == own[ours][1:]:
            ignored.append((name, "made for other classes, ours keeps its initial values"))
        else:
            wrong_shape.append((name, shape, own[ours]))
    twice = [name for name, count in Counter(targets).items() if count > 1]
    if twice:
        raise ZigguratError(
            f"the checkpoint has {len(twice)} entries twice, under two official names "
            f"({_some(twice)}); keep one of each"
        )
    given = set(targets)
    missing = tuple(name for name in own if name not in given)
    return LoadReport(
        tuple(matched), tuple(ignored), missing, tuple(unexpected), tuple(wrong_shape)
    )


def load_entries(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    names: NameMap,
    *,
    source: str,
    label: str,
    hint: str,
    reset_classes: bool = False,
) -> LoadReport:
    """Copy weights into a model if all of them fit, and change nothing if one does not.

    Args:
        model: Receives the weights.
        weights: Entries of the file.
        names: How the file's names become ours.
        source: How messages call the file.
        label: How messages call the model.
        hint: What to do if they do not belong together.
        reset_classes: Leave out entries that differ only in the number of classes.

    Raises:
        ZigguratError: If anything is missing, unexpected or of another shape or kind.
        ValueError: If the model has no memory to load into.
    """
    own = model.state_dict()
    report = match_entries(shapes_of(own), shapes_of(weights), names, reset_classes=reset_classes)
    require_complete(report, own, names, source=source, label=label, hint=hint)
    for official, ours in report.matched:
        if own[ours].is_meta:
            raise ValueError(f"cannot load into {label}: it was built on the meta device")
        if own[ours].is_floating_point() != weights[official].is_floating_point():
            raise ZigguratError(
                f"entry {official!r} of {source} is {weights[official].dtype}, expected "
                f"{own[ours].dtype}; {hint}"
            )
    with torch.no_grad():
        for official, ours in report.matched:
            own[ours].copy_(weights[official])
    return report


def require_complete(
    report: LoadReport,
    own: Mapping[str, object],
    names: NameMap,
    *,
    source: str,
    label: str,
    hint: str,
) -> None:
    """Raise, with a sentence that names the first entries at fault, unless everything fits.

    Args:
        report: What fits and what does not.
        own: The model's entries.
        names: How the file's names become ours.
        source: How the sentence calls the file.
        label: How the sentence calls the model.
        hint: What to do.

    Raises:
        ZigguratError: If the report is not complete.
    """
    if report.is_complete:
        return
    faults = []
    if report.unexpected:
        shown = [_with_nearest(name, names, own) for name in report.unexpected[: SHOWN + 1]]
        faults.append(f"{len(report.unexpected)} of its entries are unknown ({_some(shown)})")
    if report.missing:
        faults.append(f"{len(report.missing)} entries are missing ({_some(report.missing)})")
    if report.wrong_shape:
        shapes = [f"{name} is {got}, expected {want}" for name, got, want in report.wrong_shape]
        faults.append(f"{len(shapes)} entries have another shape ({_some(shapes)})")
    raise ZigguratError(f"{source} does not fit {label}: {', '.join(faults)}; {hint}")


def shapes_of(weights: Mapping[str, Tensor]) -> dict[str, Shape]:
    """Return the shape of each entry."""
    return {name: tuple(value.shape) for name, value in weights.items()}


def _with_nearest(name: str, names: NameMap, own: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(names.own_name(name) or name, own, n=1)
    return f"{name}, nearest of ours {near[0]}" if near else name


def _some(names: list[str] | tuple[str, ...]) -> str:
    rest = ", ..." if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + rest
