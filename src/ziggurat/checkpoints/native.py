"""Our own weight files: safetensors that carry their model's name, classes and preprocessing.

Such a file is all that prediction needs, and reading it runs nothing but ziggurat.
"""

from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn

from ziggurat import zoo
from ziggurat.backbones.gpvit_adapter import GPViTAdapter
from ziggurat.checkpoints import gpvit
from ziggurat.checkpoints.atomic import atomic_write
from ziggurat.checkpoints.auxiliary import one_sided_auxiliary
from ziggurat.checkpoints.class_rows import (
    CARRIED_OVER,
    ClassChange,
    has_names,
    require_same_order,
)
from ziggurat.checkpoints.description import Description
from ziggurat.checkpoints.mapped import release_of
from ziggurat.checkpoints.matching import (
    LoadReport,
    load_entries,
    match_entries,
    require_complete,
    shapes_of,
)
from ziggurat.checkpoints.names import NameMap
from ziggurat.checkpoints.read import StoredWeights, check_values
from ziggurat.checkpoints.tensor_file import (
    first_bytes,
    is_safetensors,
    read_metadata,
    read_safetensors,
)
from ziggurat.errors import ZigguratError
from ziggurat.models.detector import Detector
from ziggurat.models.semantic_segmenter import SemanticSegmenter
from ziggurat.preprocessing import CenterCrop, Preprocessing

SUFFIX = ".safetensors"
METADATA_KEY = "ziggurat"
SAME_NAMES = NameMap(renames=((r"(.+)", r"\1"),))

BACKBONE_ONLY = NameMap(
    renames=((r"backbone\.((?!norm\.|stages\.3\.cls_token).+)", r"\1"),),
    ignored=((r"(neck|head|auxiliary_head)\..+", "not part of the backbone"),),
    absent=(
        (r"norms\.(2|5|8)\..+", "a norm of a map that GPViT's classifier does not give"),
        (r"injections\..+", "TopFormer's injection, which its classifier has not"),
    ),
)
CLASS_TOKEN = NameMap(renames=((r"backbone\.(norm\..+|stages\.3\.cls_token)", r"\1"),))
NO_CLASS_TOKEN = NameMap(
    ignored=(
        (
            r"backbone\.(norm\..+|stages\.3\.cls_token)",
            "part of PVT's class token, which dense prediction has not",
        ),
    )
)
"""A backbone that classified serves dense prediction, with what differs between the two."""

ADAPTED = NameMap(
    renames=((r"backbone\.((?!norms\.).+)", r"\1"),),
    ignored=(
        (r"(neck|head|auxiliary_head)\..+", "not part of the backbone"),
        (r"backbone\.norms\..+", "norm of a map that an adapter does not give"),
    ),
    absent=gpvit.ADAPTER_NOT_IN_CLASSIFIERS.absent,
)
"""The plain GPViT of a classifier or segmenter serves detection, beside an adapter."""


def save_weights(model: zoo.Model, path: str | Path) -> None:
    """Write a weight file, whole or not at all; the same weights always give the same bytes.

    Entries keep their precision: those of a model in half precision take half the space. If the
    file cannot be written, a `ZigguratError` says why and what was there before is unchanged.

    Args:
        model: What to save, with its identity, classes and preprocessing.
        path: A file whose name ends in .safetensors.

    Raises:
        ZigguratError: If the classes have more or fewer names than the model has classes.
    """
    require_safetensors_name(path)
    if len(model.classes) != model.identity.num_classes:
        raise ZigguratError(
            f"{model.identity.name} has {model.identity.num_classes} classes but "
            f"{len(model.classes)} class names; give one name a class"
        )
    skeleton = model.skeleton if isinstance(model, Detector) else None
    palette = model.palette if isinstance(model, SemanticSegmenter) else None
    description = Description(
        model.identity, tuple(model.classes), model.preprocessing, skeleton, palette
    )
    tensors = {
        name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()
    }
    content = save(tensors, metadata={METADATA_KEY: description.to_json()})
    atomic_write(path, lambda file: file.write(content))


def require_safetensors_name(path: str | Path) -> None:
    """Raise unless a file is called as its format is.

    Raises:
        ZigguratError: If the name has another ending.
    """
    if Path(path).suffix != SUFFIX:
        raise ZigguratError(f"weights are saved as {SUFFIX}, got the name {path}; change it")


def load_weights(path: str | Path) -> zoo.Model:
    """Build the model that a weight file describes and load it, ready to predict.

    The model is in single precision; half-precision entries become so, no value changed.

    Args:
        path: A file of `save_weights`.

    Raises:
        ZigguratError: If the file cannot be read, is not ours, or is damaged.
    """
    description, stored = _read(Path(path))
    # First without memory: what a damaged file claims costs nothing until its tensors agree.
    try:
        with torch.device("meta"):
            own = zoo.build(description.identity).state_dict()
    except (ValueError, RuntimeError) as error:
        raise ZigguratError(f"{path} describes a model that cannot be built: {error}") from error
    report = match_entries(shapes_of(own), shapes_of(stored.tensors), SAME_NAMES)
    label, hint = description.identity.name, "the file is damaged, save or download it again"
    require_complete(report, own, SAME_NAMES, source=str(path), label=label, hint=hint)
    model = zoo.build(description.identity)
    load_entries(model, stored, SAME_NAMES, source=str(path), label=label, hint=hint)
    # Each kind of model has its kind of preprocessing.
    if type(model.preprocessing) is not type(description.preprocessing):
        raise ZigguratError(
            f"{path} is damaged: {label} does not take {description.preprocessing}; save or "
            "download it again"
        )
    _adopt(model, description)
    return model.eval()


def adopt_description(model: zoo.Model, path: str | Path) -> None:
    """Let a new model take over what a weight file of ours says of images and classes.

    It gets the file's preprocessing if it is of the same task, and names, colours and points of its
    classes if it has as many. A file that cannot be read is a `ZigguratError`.

    Args:
        model: A model whose weights are loaded next.
        path: A file for which `is_native` is true.
    """
    _adopt(model, read_description(Path(path)))


def _adopt(model: zoo.Model, description: Description) -> None:
    if type(model.preprocessing) is type(description.preprocessing):
        model.preprocessing = description.preprocessing
    if len(model.classes) != len(description.classes):
        return
    model.classes = description.classes
    skeleton, points = description.skeleton, description.identity.num_keypoints
    if skeleton is not None and model.identity.num_keypoints == points:
        assert isinstance(model, Detector)  # with keypoints, no other model could be built
        model.skeleton = skeleton
    if isinstance(model, SemanticSegmenter):
        model.palette = description.palette


def load_into(model: zoo.Model, path: str | Path, *, reset_classes: bool = False) -> LoadReport:
    """Load a weight file of ours into a model that exists, to train it further.

    Classes and preprocessing of the model stay as they are. If the file does not fit, was trained
    on pixels in other numbers, or has the same classes in another order, a `ZigguratError` says so
    and the model is unchanged.

    Args:
        model: Receives the weights.
        path: A file of `save_weights`.
        reset_classes: The classes may differ: what belongs to a class of the same name is carried
            over, other classes keep their initial values; all of them where one side has no names.
            Without it, classes may have other names, which is another word for the same thing.

    Returns:
        What was loaded and what was left, entry by entry.
    """
    description, stored = _read(Path(path))
    _check_body(path, description, model)
    before, now = description.classes, tuple(model.classes)
    differ = before != now and has_names(before) and has_names(now)
    if differ and not reset_classes and len(before) == len(now):
        require_same_order(str(path), before, now)
    names = SAME_NAMES
    if isinstance(model, SemanticSegmenter):
        file_without = description.identity.auxiliary_head is False
        names += one_sided_auxiliary(model, file_without=file_without)
    return load_entries(
        model,
        stored,
        names,
        source=f"{path}, which holds {description.identity.name},",
        label=model.identity.name,
        hint="choose the model that the file was made for; if only the classes differ, "
        f"{CARRIED_OVER}",
        reset_classes=reset_classes,
        classes=ClassChange(before, now) if differ and reset_classes else None,
    )


def _check_body(path: str | Path, description: Description, model: zoo.Model) -> None:
    """Refuse a model that saw other pixels, and a detector or segmenter on another backbone.

    ResNets of Caffe and of torchvision have entries of the same names and shapes, and stride in
    other places.

    Raises:
        ZigguratError: If it is one.
    """
    theirs, ours = description.preprocessing, model.preprocessing
    if isinstance(theirs, CenterCrop) != isinstance(ours, CenterCrop):
        return
    if not isinstance(ours, CenterCrop):
        _require_backbone(path, description, model.identity.backbone)
    if _pixels_in_words(theirs) != _pixels_in_words(ours):
        raise ZigguratError(
            f"{path} was trained on {_pixels_in_words(theirs)}, and {model.identity.name} gets "
            f"{_pixels_in_words(ours)} here; choose other weights, or in Python give the model the "
            "`preprocessing` of `ziggurat.load`"
        )


def _pixels_in_words(wanted: Preprocessing) -> str:
    order = "rgb" if isinstance(wanted, CenterCrop) else wanted.channel_order
    return f"{order.upper()} with mean {wanted.mean} and deviation {wanted.std}"


def _require_backbone(path: str | Path, description: Description, name: str) -> None:
    """Raise unless a weight file holds the backbone of a name.

    Raises:
        ZigguratError: If it holds another one.
    """
    if description.identity.backbone != name:
        raise ZigguratError(
            f"{path} holds the backbone {description.identity.backbone} of "
            f"{description.identity.name}, expected {name}; choose weights of a model with {name}"
        )


def load_backbone(backbone: nn.Module, name: str, path: str | Path) -> LoadReport:
    """Load the backbone of a weight file of ours into a backbone that exists.

    The file may be of another task: what only a classifier has is left out, and what it has not,
    such as GPViT's adapter, keeps its initial values; the report says so. A file that cannot be
    read or holds another backbone is a `ZigguratError`.

    Args:
        backbone: Receives the weights; unchanged if they do not fit.
        name: Name of the backbone in the zoo.
        path: A file of `save_weights`.
    """
    description, stored = _read(Path(path))
    is_adapted = isinstance(backbone, GPViTAdapter)
    if is_adapted and f"{description.identity.backbone}_adapter" == name:
        names = ADAPTED
    else:
        _require_backbone(path, description, name)
        names = BACKBONE_ONLY + _class_token_of(backbone)
    return load_entries(
        backbone,
        stored,
        names,
        source=f"the backbone of {description.identity.name} in {path}",
        label=f"the backbone {name}",
        hint="choose weights of a model with the same backbone, or the official ImageNet file",
    )


def _class_token_of(backbone: nn.Module) -> NameMap:
    has_one = any(entry.endswith("cls_token") for entry in backbone.state_dict())
    return CLASS_TOKEN if has_one else NO_CLASS_TOKEN


def is_native(path: str | Path) -> bool:
    """Tell whether a file is one of `save_weights`; other safetensors files are not."""
    path = Path(path)
    if not is_safetensors(path, first_bytes(path)):
        return False
    return METADATA_KEY in read_metadata(path)


def read_description(path: Path) -> Description:
    """Return what a weight file says of its model, without touching a tensor.

    Args:
        path: A file for which `is_native` is true.
    """
    return Description.from_json(read_metadata(path)[METADATA_KEY], str(path))


def _read(path: Path) -> tuple[Description, StoredWeights]:
    if not is_safetensors(path, first_bytes(path)):
        raise _foreign(path)
    metadata, weights = read_safetensors(path)
    if METADATA_KEY not in metadata:
        raise _foreign(path)
    description = Description.from_json(metadata[METADATA_KEY], str(path))
    if (description.identity.head_depth or 0) > len(weights):
        raise ZigguratError(
            f"{path} is damaged: it describes {description.identity.head_depth} layers and holds "
            f"{len(weights)} tensors; save or download it again"
        )
    release = release_of(path)
    for name, value in weights.items():
        check_values(name, value, str(path))
        release(value)
    return description, StoredWeights(weights, release)


def _foreign(path: Path) -> ZigguratError:
    return ZigguratError(
        f"{path} is not a weight file of ziggurat: an official file becomes one with `ziggurat "
        "convert`, and a training run keeps its own as best.safetensors and last.safetensors"
    )
