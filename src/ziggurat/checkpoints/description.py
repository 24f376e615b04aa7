"""What a ziggurat weight file says of itself: model, classes and preprocessing, as JSON.

A file describes its model in plain data, which is checked field by field: it names no code.
"""

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from ziggurat.class_lists import Colour
from ziggurat.errors import ZigguratError
from ziggurat.keypoints import Skeleton
from ziggurat.preprocessing import CenterCrop, ChannelOrder, FitAligned, FitInside, Preprocessing
from ziggurat.types import ModelIdentity, Task

FORMAT_VERSION = 3

ADDED_TO_IDENTITY: dict[str, Any] = {
    "key_budget": None,
    "self_levels": None,
    "grounding_window": None,
    "num_keypoints": None,
    "auxiliary_head": None,
}
"""What files of this version from before lack, and what that means."""

ADDED_TO_PREPROCESSING: dict[str, Any] = {"channel_order": "rgb"}
"""Likewise, in the kinds that have it."""

KINDS: dict[str, type[CenterCrop] | type[FitInside] | type[FitAligned]] = {
    "center_crop": CenterCrop,
    "fit_inside": FitInside,
    "fit_aligned": FitAligned,
}


@dataclass(frozen=True)
class Description:
    """All that is needed to build a model and to feed it.

    Attributes:
        identity: What `zoo.build` takes.
        classes: Name of each class.
        preprocessing: What the model expects of an image.
        skeleton: What the keypoints are; None for a model that finds none.
        palette: Colour of each class; None where the data gave none.
    """

    identity: ModelIdentity
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    skeleton: Skeleton | None = None
    palette: tuple[Colour, ...] | None = None

    def to_json(self) -> str:
        """Write it down; the same description always gives the same text."""
        content = {
            "format_version": FORMAT_VERSION,
            "identity": dataclasses.asdict(self.identity),
            "classes": list(self.classes),
            "preprocessing": preprocessing_to_dict(self.preprocessing),
        }
        if self.skeleton is not None:
            content["skeleton"] = dataclasses.asdict(self.skeleton)
        if self.palette is not None:
            content["palette"] = [list(colour) for colour in self.palette]
        return json.dumps(content, sort_keys=True)

    @classmethod
    def from_json(cls, text: str, where: str) -> "Description":
        """Read it back.

        Args:
            text: What `to_json` wrote.
            where: How error messages call the file.

        Raises:
            ZigguratError: If a field is missing, unknown or of a wrong kind.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ZigguratError(_broken(where, "its description is no JSON")) from error
        if not isinstance(values, dict):
            raise ZigguratError(_broken(where, "its description is no JSON object"))
        version = values.get("format_version")
        if version != FORMAT_VERSION:
            raise ZigguratError(
                f"{where} has the format version {version!r}, expected {FORMAT_VERSION}; update "
                "ziggurat to the version that wrote it"
            )
        expected = {"format_version", "identity", "classes", "preprocessing"}
        has_keypoints = "skeleton" in values
        optional = {"skeleton", "palette"} & set(values)
        _check_fields(values, expected | optional, "description", where)
        identity = _identity_from_dict(values["identity"], where)
        if has_keypoints != (identity.num_keypoints is not None):
            raise ZigguratError(_broken(where, "of keypoints and their skeleton it has only one"))
        classes = values["classes"]
        if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
            raise ZigguratError(_broken(where, "its classes are no list of names"))
        if len(classes) != identity.num_classes:
            raise ZigguratError(
                _broken(
                    where, f"it has {len(classes)} class names for {identity.num_classes} classes"
                )
            )
        preprocessing = preprocessing_from_dict(values["preprocessing"], where)
        skeleton = None
        if has_keypoints:
            skeleton = _skeleton_from_dict(values["skeleton"], identity.num_keypoints, where)
        palette = None
        if "palette" in values:
            palette = _palette_from_list(values["palette"], identity, where)
        return cls(identity, tuple(classes), preprocessing, skeleton, palette)


def preprocessing_to_dict(preprocessing: Preprocessing) -> dict[str, Any]:
    """Return the fields as plain data, with the kind beside them."""
    kind = next(name for name, cls in KINDS.items() if isinstance(preprocessing, cls))
    fields = dataclasses.asdict(preprocessing)
    return {"kind": kind} | {
        name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()
    }


def preprocessing_from_dict(values: object, where: str) -> Preprocessing:
    """Build a preprocessing from what `preprocessing_to_dict` gave.

    Args:
        values: Plain data, for instance from JSON.
        where: How error messages call the source.

    Raises:
        ZigguratError: If a field is missing, unknown or out of range.
    """
    if not isinstance(values, Mapping) or values.get("kind") not in list(KINDS):
        raise ZigguratError(_broken(where, f"its preprocessing is none of {', '.join(KINDS)}"))
    cls = KINDS[values["kind"]]
    names = {field.name for field in dataclasses.fields(cls)}
    added = {name: value for name, value in ADDED_TO_PREPROCESSING.items() if name in names}
    values = added | dict(values)
    _check_fields(values, names | {"kind"}, "preprocessing", where)
    fields: dict[str, Any] = {}
    for name in sorted(names):
        value = values[name]
        if name in ("mean", "std"):
            if not _is_colour(value) or (name == "std" and min(value) <= 0):
                raise ZigguratError(_broken(where, f"{name} of its preprocessing is {value!r}"))
            fields[name] = tuple(float(channel) for channel in value)
        elif name == "channel_order":
            if value not in get_args(ChannelOrder):
                raise ZigguratError(_broken(where, f"{name} of its preprocessing is {value!r}"))
            fields[name] = value
        else:
            if not _is_count(value):
                raise ZigguratError(_broken(where, f"{name} of its preprocessing is {value!r}"))
            fields[name] = value
    return cls(**fields)


def _identity_from_dict(values: object, where: str) -> ModelIdentity:
    if not isinstance(values, dict):
        raise ZigguratError(_broken(where, "it does not say which model it is"))
    names = {field.name for field in dataclasses.fields(ModelIdentity)}
    values = ADDED_TO_IDENTITY | values
    _check_fields(values, names, "identity", where)
    checks = {
        "task": values["task"] in get_args(Task),
        "system": isinstance(values["system"], str),
        "backbone": _is_backbone(values["backbone"], values["task"]),
        "num_classes": _is_count(values["num_classes"]),
        "neck": values["neck"] is None or _is_name(values["neck"]),
        "head_channels": values["head_channels"] is None or _is_count(values["head_channels"]),
        "head_depth": values["head_depth"] in (None, 0) or _is_count(values["head_depth"]),
        "overlapping": isinstance(values["overlapping"], bool),
        "key_budget": values["key_budget"] is None or _is_count(values["key_budget"]),
        "self_levels": values["self_levels"] in (None, 0) or _is_count(values["self_levels"]),
        "grounding_window": (
            values["grounding_window"] is None or _is_count(values["grounding_window"])
        ),
        "num_keypoints": values["num_keypoints"] is None or _is_count(values["num_keypoints"]),
        "auxiliary_head": (
            values["auxiliary_head"] is None or isinstance(values["auxiliary_head"], bool)
        ),
    }
    for name, is_right in checks.items():
        if not is_right:
            raise ZigguratError(_broken(where, f"{name} of its model is {values[name]!r}"))
    return ModelIdentity(**values)


def _skeleton_from_dict(values: object, num_keypoints: int | None, where: str) -> Skeleton:
    if not isinstance(values, dict):
        raise ZigguratError(_broken(where, "its skeleton is no object"))
    _check_fields(values, {"names", "edges", "pairs"}, "skeleton", where)
    names = values["names"]
    if (
        not isinstance(names, list)
        or not all(isinstance(name, str) for name in names)
        or len(names) != num_keypoints
    ):
        raise ZigguratError(_broken(where, f"its skeleton has no {num_keypoints} names"))
    pairs = {}
    for key in ("edges", "pairs"):
        if not isinstance(values[key], list) or not all(
            isinstance(pair, list)
            and len(pair) == 2
            and all(type(point) is int and 0 <= point < len(names) for point in pair)
            for pair in values[key]
        ):
            raise ZigguratError(_broken(where, f"{key} of its skeleton are {values[key]!r}"))
        pairs[key] = tuple((first, second) for first, second in values[key])
    return Skeleton(tuple(names), **pairs)


def _palette_from_list(values: object, identity: ModelIdentity, where: str) -> tuple[Colour, ...]:
    if identity.task != "semantic_segmentation":
        raise ZigguratError(_broken(where, f"a model for {identity.task} has no palette"))
    if (
        not isinstance(values, list)
        or len(values) != identity.num_classes
        or not all(
            isinstance(colour, list)
            and len(colour) == 3
            and all(type(level) is int and 0 <= level <= 255 for level in colour)
            for colour in values
        )
    ):
        raise ZigguratError(_broken(where, f"its palette is no {identity.num_classes} colours"))
    return tuple((red, green, blue) for red, green, blue in values)


def _check_fields(values: Mapping[str, Any], expected: set[str], what: str, where: str) -> None:
    if set(values) != expected:
        differing = sorted(set(values) ^ expected)
        raise ZigguratError(
            _broken(where, f"its {what} lacks, or should not have, {', '.join(differing)}")
        )


def _is_backbone(name: object, task: object) -> bool:
    if not isinstance(name, str) or task == "classification" or not name.startswith("timm:"):
        return _is_name(name)
    # Beyond a tag ("resnet18.a1_in1k") names of timm stand for places on a network or a disk.
    return re.fullmatch(r"timm:\w+(\.\w+)?", name, re.ASCII) is not None


def _is_name(name: object) -> bool:
    return isinstance(name, str) and re.fullmatch(r"\w+", name, re.ASCII) is not None


def _is_count(value: object) -> bool:
    return type(value) is int and value > 0


def _is_colour(value: object) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == 3
        and all(type(channel) in (int, float) and math.isfinite(channel) for channel in value)
    )


def _broken(where: str, fault: str) -> str:
    return f"{where} is damaged: {fault}; save or download it again"
