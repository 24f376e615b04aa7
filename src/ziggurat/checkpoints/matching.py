"""Put the entries of a file and of a model side by side, and copy only if nothing is left over."""

import difflib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ziggurat.checkpoints.class_rows import ClassChange
from ziggurat.checkpoints.names import NameMap, Shape
from ziggurat.checkpoints.read import StoredWeights, is_finite
from ziggurat.errors import ZigguratError

CLASS_ENTRIES = (
    "head.fc.",
    "head.cls_logits.",
    *(
        f"head.{branch}.{output}."
        for branch in ("box_head", "boxes.box_head", *(f"box_heads.{i}" for i in range(3)))
        for output in ("logits", "deltas")
    ),
    *(f"head.{branch}.logits." for branch in ("mask_head", *(f"mask_heads.{i}" for i in range(3)))),
    *(f"head.stages.{stage}.cls_logits." for stage in range(6)),
    "head.classifier.logits.",
    "auxiliary_head.classifier.logits.",
    "head.prototypes",
)
"""Our entries whose first dimension grows with the number of classes."""

SHOWN = 3
"""How many names of a kind an error message tells."""


@dataclass(frozen=True)
class LoadReport:
    """What became of every entry of a file and of a model, each in one place.

    Attributes:
        matched: Name in the file and our name of each entry that is loaded as it is.
        resized: Name in the file and our name of each position embedding that is loaded
            interpolated, since it was learned for another grid.
        reordered: Name in the file and our name of each entry that is loaded with its classes in
            our order, in which background is last, or left out where it means nothing.
        by_class: Name in the file and our name of each entry of which the rows of shared classes
            are loaded.
        classes: How many those are, in words.
        ignored: Name in the file and reason of each entry that is left out.
        absent: Our name and reason of each entry that the file may lack, and does; it keeps its
            initial value.
        missing: Our names that the file should have and has not.
        unexpected: Names in the file that the model does not have.
        wrong_shape: Name in the file, its shape there and the shape that fits the model.
        has_unused_average: Whether the file also holds averaged weights, which were not asked for.
    """

    matched: tuple[tuple[str, str], ...]
    resized: tuple[tuple[str, str], ...] = ()
    reordered: tuple[tuple[str, str], ...] = ()
    by_class: tuple[tuple[str, str], ...] = ()
    classes: str = ""
    ignored: tuple[tuple[str, str], ...] = ()
    absent: tuple[tuple[str, str], ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    wrong_shape: tuple[tuple[str, Shape, Shape], ...] = ()
    has_unused_average: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether every entry on both sides is accounted for."""
        return not (self.missing or self.unexpected or self.wrong_shape)

    def summary(self) -> str:
        """Say in a few lines what was loaded, what was not, and why."""
        lines = [f"{len(self.matched + self.resized + self.reordered)} entries loaded"]
        if self.resized:
            names = [name for name, _ in self.resized]
            lines.append(f"{len(names)} of them resized to the grid of the model ({_some(names)})")
        if self.reordered:
            names = [name for name, _ in self.reordered]
            lines.append(f"{len(names)} of them with background last or left out ({_some(names)})")
        if self.by_class:
            names = [name for name, _ in self.by_class]
            lines.append(f"{len(names)} loaded in part ({_some(names)}): {self.classes}")
        lines += _by_reason("ignored", self.ignored)
        lines += _by_reason("not in the file", self.absent)
        if self.missing:
            lines.append(f"{len(self.missing)} missing ({_some(self.missing)})")
        if self.unexpected:
            lines.append(f"{len(self.unexpected)} unexpected ({_some(self.unexpected)})")
        if self.wrong_shape:
            names = [f"{n} {got} instead of {want}" for n, got, want in self.wrong_shape]
            lines.append(f"{len(self.wrong_shape)} of another shape ({_some(names)})")
        if self.has_unused_average:
            lines.append(
                "the file also holds averaged weights (EMA), which were not loaded: they are with "
                "`use_ema=True`, on the command line `--ema`, in a run `--model.use_ema true`"
            )
        return "\n".join(lines)


def nearest_layout(
    layouts: Sequence[NameMap], own: Mapping[str, object], official: Mapping[str, object]
) -> NameMap:
    """Return the table that knows most entries of a file.

    Several programs save the same model, each by its own names; a file is from one of them.

    Args:
        layouts: The tables of those programs.
        own: The model's entries.
        official: The file's entries.
    """
    return max(layouts, key=lambda names: sum(names.own_name(name) in own for name in official))


def match_entries(
    own: Mapping[str, Shape],
    official: Mapping[str, Shape],
    names: NameMap,
    *,
    reset_classes: bool = False,
    classes: ClassChange | None = None,
) -> LoadReport:
    """Map every entry of a file exactly once.

    Args:
        own: Shapes of the model's entries.
        official: Shapes of the file's entries.
        names: How the file's names become ours.
        reset_classes: Leave out entries that differ only in the number of classes.
        classes: Classes on both sides, by which rows are then carried over.

    Raises:
        ZigguratError: If two entries of the file have the same meaning.
    """
    matched: list[tuple[str, str]] = []
    reordered: list[tuple[str, str]] = []
    resized, by_class, ignored, unexpected, wrong_shape = [], [], [], [], []
    targets: list[str] = []
    for name, stored in official.items():
        reason = names.reason_to_ignore(name)
        if reason is not None:
            ignored.append((name, reason))
            continue
        ours = names.own_name(name)
        if ours is None or ours not in own:
            unexpected.append(name)
            continue
        targets.append(ours)
        turn = -1 if names.is_transposed(name) else 1
        shape, expected = stored[::turn], own[ours]
        fitting = expected[::turn]
        rows = names.rows_of_classes(name)
        if rows is not None:
            shape, fitting = rows.own_shape(shape), rows.official_shape(fitting)
        is_of_classes = _is_of_classes(ours) and shape[1:] == expected[1:]
        if is_of_classes and classes is not None:
            by_class.append((name, ours))
        elif shape == expected:
            (matched if rows is None else reordered).append((name, ours))
        elif names.resizing_rule(ours) and shape[:1] + shape[2:] == expected[:1] + expected[2:]:
            resized.append((name, ours))
        elif reset_classes and is_of_classes:
            ignored.append((name, "made for other classes, ours keeps its initial values"))
        else:
            wrong_shape.append((name, stored, fitting))
    twice = [name for name, count in Counter(targets).items() if count > 1]
    if twice:
        raise ZigguratError(
            f"the checkpoint has {len(twice)} entries twice, under two official names "
            f"({_some(twice)}); keep one of each"
        )
    absent = _absent(own, set(targets), names)
    missing = tuple(name for name in own if name not in absent and name not in targets)
    return LoadReport(
        matched=tuple(matched),
        resized=tuple(resized),
        reordered=tuple(reordered),
        by_class=tuple(by_class),
        classes="" if classes is None else classes.summary(),
        ignored=tuple(ignored),
        absent=tuple(absent.items()),
        missing=missing,
        unexpected=tuple(unexpected),
        wrong_shape=tuple(wrong_shape),
    )


def _is_of_classes(own: str) -> bool:
    # The entries of a head alone have no name in front.
    return own.startswith(CLASS_ENTRIES) or f"head.{own}".startswith(CLASS_ENTRIES)


def _absent(own: Mapping[str, Shape], given: set[str], names: NameMap) -> dict[str, str]:
    """Find the groups of entries that a file may lack and lacks altogether."""
    absent: dict[str, str] = {}
    for pattern, reason in names.absent:
        group = [name for name in own if re.fullmatch(pattern, name)]
        if given.isdisjoint(group):
            absent |= dict.fromkeys(group, reason)
    return absent


def load_entries(
    model: nn.Module,
    stored: StoredWeights,
    names: NameMap,
    *,
    source: str,
    label: str,
    hint: str,
    reset_classes: bool = False,
    classes: ClassChange | None = None,
) -> LoadReport:
    """Copy weights into a model if all of them fit, and change nothing if one does not.

    Args:
        model: Receives the weights.
        stored: Entries of the file.
        names: How the file's names become ours.
        source: How messages call the file.
        label: How messages call the model.
        hint: What to do if they do not belong together.
        reset_classes: Leave out entries that differ only in the number of classes.
        classes: Classes on both sides, by which rows are then carried over.

    Raises:
        ZigguratError: If anything is missing, unexpected or of another shape or kind.
        ValueError: If the model has no memory to load into.
    """
    if any(getattr(module, "holds_weights_anew", False) for module in model.modules()):
        raise ZigguratError(
            f"weights cannot be loaded into {label}: it is optimized for inference and holds them "
            "laid out anew; load them into the plain model and optimize that"
        )
    own, weights = model.state_dict(), stored.tensors
    report = match_entries(
        shapes_of(own), shapes_of(weights), names, reset_classes=reset_classes, classes=classes
    )
    require_complete(report, own, names, source=source, label=label, hint=hint)
    _check_repeated(weights, names, source)
    values: dict[str, Tensor] = {}
    copied = report.matched + report.resized + report.reordered + report.by_class
    for official, ours in copied:
        if own[ours].is_meta:
            raise ValueError(f"cannot load into {label}: it was built on the meta device")
        value = weights[official]
        if own[ours].is_floating_point() != value.is_floating_point():
            raise ZigguratError(
                f"entry {official!r} of {source} is {value.dtype}, expected "
                f"{own[ours].dtype}; {hint}"
            )
        value = value.mT if names.is_transposed(official) else value
        rows = names.rows_of_classes(official)
        value = value if rows is None else rows.own(value)
        rule = names.resizing_rule(ours)
        if rule is not None and value.shape != own[ours].shape:
            value = rule(value, tuple(own[ours].shape))
        if classes is not None and (official, ours) in report.by_class:
            value = classes.rows(ours, value, own[ours])
        _check_range(value, own[ours], f"entry {official!r} of {source}")
        values[ours] = value
    with torch.no_grad():
        for ours, value in values.items():
            own[ours].copy_(value)
            stored.release(value)
    return replace(report, has_unused_average=stored.has_unused_average)


def _check_range(value: Tensor, own: Tensor, entry: str) -> None:
    """Raise unless the numbers of an entry are numbers in the precision of the model, too.

    Raises:
        ZigguratError: If one becomes infinite.
    """
    is_wider = own.is_floating_point() and torch.finfo(value.dtype).max > torch.finfo(own.dtype).max
    if is_wider and not is_finite(value.to(own.dtype)):
        raise ZigguratError(
            f"{entry} holds values beyond the range of {own.dtype}; load it into a model in "
            "float32, or use another file where even that cannot hold them"
        )


def _check_repeated(weights: Mapping[str, Tensor], names: NameMap, source: str) -> None:
    """Raise unless entries that stand for another one hold the same.

    Raises:
        ZigguratError: If one differs.
    """
    for name, value in weights.items():
        other = names.repeated_name(name)
        if other is not None and not (other in weights and _is_equal(value, weights[other])):
            raise ZigguratError(
                f"entries {name!r} and {other!r} of {source} differ, and are one: "
                f"{names.reason_to_ignore(name)}; get the file of the published network"
            )


def _is_equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool((one == other).all())


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


def _by_reason(what: str, entries: Sequence[tuple[str, str]]) -> list[str]:
    lines = []
    for reason in dict.fromkeys(reason for _, reason in entries):
        names = [name for name, other in entries if other == reason]
        lines.append(f"{len(names)} {what} ({_some(names)}): {reason}")
    return lines


def _some(names: list[str] | tuple[str, ...]) -> str:
    rest = ", ..." if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + rest
