"""Load the files that the authors of the models published.

Every entry of a file is mapped exactly once to an entry of ours, or ignored for a reason that is
written in the table of its upstream repository; anything else is an error and changes nothing.
"""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from ziggurat.backbones.p2t import P2T
from ziggurat.checkpoints import mmdet, p2t
from ziggurat.checkpoints.matching import LoadReport, load_entries
from ziggurat.checkpoints.names import NameMap
from ziggurat.checkpoints.read import read_checkpoint, select_weights
from ziggurat.errors import ZigguratError
from ziggurat.heads.retinanet import RetinaNetHead
from ziggurat.models.classifier import Classifier
from ziggurat.models.detector import Detector

BACKBONES: dict[type[nn.Module], NameMap] = {P2T: p2t.BACKBONE}
CLASSIFIERS: dict[type[nn.Module], NameMap] = {P2T: p2t.CLASSIFIER}
HEADS: dict[type[nn.Module], NameMap] = {RetinaNetHead: mmdet.RETINANET}


def load_official(
    model: nn.Module,
    source: str | Path | Mapping[str, object],
    *,
    reset_classes: bool = False,
) -> LoadReport:
    """Load official weights into a whole model or into a backbone.

    If the file cannot be read or does not fit, a `ZigguratError` says why and the model is
    unchanged.

    Args:
        model: A classifier, a detector, or a bare backbone, which takes its part of any of them.
        source: A .pth, .pt or .safetensors file, or what is in one.
        reset_classes: Leave entries that differ only in the number of classes at their initial
            values, to train the model for classes of one's own.

    Returns:
        What was loaded and what was ignored, entry by entry.
    """
    if isinstance(source, Mapping):
        where = "the given mapping"
        weights = select_weights(source, where)
    else:
        where = str(source)
        weights = read_checkpoint(source)
    return load_entries(
        model,
        weights,
        _name_map(model),
        source=where,
        label=_label(model),
        hint=_hint(model, weights, reset_classes),
        reset_classes=reset_classes,
    )


def _name_map(model: nn.Module) -> NameMap:
    if isinstance(model, Classifier):
        return _lookup(CLASSIFIERS, model.backbone)
    if isinstance(model, Detector):
        features = _lookup(BACKBONES, model.backbone).under("backbone.", "backbone.")
        return features + mmdet.FPN + _lookup(HEADS, model.head)
    names = _lookup(BACKBONES, model)
    return names + names.under("backbone.", "") + mmdet.OTHER_PARTS


def _lookup(tables: Mapping[type[nn.Module], NameMap], module: nn.Module) -> NameMap:
    if type(module) not in tables:
        known = ", ".join(kind.__name__ for kind in tables)
        raise ZigguratError(
            f"official names are known for {known}, not for {type(module).__name__}; "
            "give a model of `ziggurat.create_model` or `ziggurat.create_backbone`"
        )
    return tables[type(module)]


def _label(model: nn.Module) -> str:
    if isinstance(model, Classifier | Detector):
        return model.identity.name
    return f"a {type(model).__name__} backbone"


def _hint(model: nn.Module, weights: Mapping[str, Tensor], reset_classes: bool) -> str:
    is_system = any(name.startswith("backbone.") for name in weights)
    if any("backbone.stages." in name for name in weights):
        return "ziggurat wrote it, load best.safetensors or last.safetensors with `load_weights`"
    if isinstance(model, Detector) and not is_system:
        return "it looks like an ImageNet file, load it into `model.backbone`"
    if isinstance(model, Classifier) and is_system:
        return "it looks like the file of a detector or segmenter, which has no classifier"
    if isinstance(model, Classifier | Detector) and not reset_classes:
        return (
            "choose the model that the file was made for, with its number of classes, or "
            "`reset_classes` if only the classes differ"
        )
    return "choose the model that the file was made for"
