"""Load the files that the authors of the models published.

Every entry of a file is mapped exactly once to an entry of ours, or ignored for a reason that is
written in the table of its upstream repository; anything else is an error and changes nothing.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from torch import Tensor, nn

from ziggurat.backbones.gpvit import GPViT
from ziggurat.backbones.gpvit_adapter import GPViTAdapter
from ziggurat.backbones.p2t import P2T
from ziggurat.backbones.pvt import PVT
from ziggurat.backbones.pvt_v2 import PVTv2
from ziggurat.backbones.resnet import ResNet
from ziggurat.backbones.topformer import TopFormer
from ziggurat.checkpoints import (
    fpt,
    fpt_detector,
    gpvit,
    mmdet,
    mmdet_dense,
    mmdet_query,
    mmdet_rcnn,
    mmseg,
    p2t,
    pvt,
    pvt_v2,
    resnet,
    topformer,
)
from ziggurat.checkpoints.auxiliary import one_sided_auxiliary
from ziggurat.checkpoints.class_names import published_classes
from ziggurat.checkpoints.class_rows import ClassChange, has_names, require_same_order
from ziggurat.checkpoints.matching import (
    LoadReport,
    load_entries,
    match_entries,
    nearest_layout,
    require_complete,
    shapes_of,
)
from ziggurat.checkpoints.names import WITHOUT_BATCH_COUNTS, NameMap
from ziggurat.checkpoints.native import SAME_NAMES, is_native
from ziggurat.checkpoints.read import StoredWeights, given, read_stored
from ziggurat.errors import ZigguratError
from ziggurat.heads.atss import ATSSHead
from ziggurat.heads.cascade_mask_rcnn import CascadeMaskRCNNHead
from ziggurat.heads.detr import DETRHead
from ziggurat.heads.faster_rcnn import FasterRCNNHead
from ziggurat.heads.fcn import FCNHead
from ziggurat.heads.gfl import GFLHead
from ziggurat.heads.mask_rcnn import MaskRCNNHead
from ziggurat.heads.retinanet import RetinaNetHead
from ziggurat.heads.segformer import SegFormerHead
from ziggurat.heads.semantic_fpn import SemanticFPNHead
from ziggurat.heads.sparse_rcnn import SparseRCNNHead
from ziggurat.heads.topformer import TopFormerHead
from ziggurat.heads.upernet import UPerNetHead
from ziggurat.layers.adaptive_pooling import AdaptiveFeaturePooling
from ziggurat.models.classifier import Classifier
from ziggurat.models.detector import Detector
from ziggurat.models.semantic_segmenter import SemanticSegmenter
from ziggurat.necks.coarsest import Coarsest
from ziggurat.necks.fpn import FPN
from ziggurat.necks.fpt import FeaturePyramidTransformer, find_transformer

Names = TypeVar("Names")

Layouts = tuple[NameMap, ...]
"""Names of the same model in the files of several programs; a file is from one of them."""

BACKBONES: dict[type[nn.Module], Layouts] = {
    PVT: (pvt.BACKBONE,),
    PVTv2: (pvt_v2.BACKBONE, pvt_v2.TIMM_BACKBONE),
    P2T: (p2t.BACKBONE,),
    TopFormer: topformer.BACKBONE,
    GPViT: (gpvit.BACKBONE,),
    GPViTAdapter: (gpvit.ADAPTER,),
    ResNet: resnet.BACKBONE,
}
NOT_IN_CLASSIFIERS: dict[type[nn.Module], NameMap] = {
    TopFormer: topformer.NOT_IN_CLASSIFIERS,
    GPViT: gpvit.NOT_IN_CLASSIFIERS,
    GPViTAdapter: gpvit.ADAPTER_NOT_IN_CLASSIFIERS,
}
"""What a bare backbone may have beyond its file. The files of whole systems have it all."""
CLASSIFIERS: dict[type[nn.Module], Layouts] = {
    PVT: (pvt.CLASSIFIER,),
    PVTv2: (pvt_v2.CLASSIFIER, pvt_v2.TIMM),
    P2T: (p2t.CLASSIFIER,),
    TopFormer: topformer.CLASSIFIER,
    GPViT: (gpvit.CLASSIFIER,),
}
HEADS: dict[type[nn.Module], NameMap] = {
    RetinaNetHead: mmdet_dense.RETINANET,
    ATSSHead: mmdet_dense.ATSS,
    GFLHead: mmdet_dense.GFL,
    FasterRCNNHead: mmdet_rcnn.FASTER_RCNN,
    MaskRCNNHead: mmdet_rcnn.MASK_RCNN,
    CascadeMaskRCNNHead: mmdet_rcnn.CASCADE_MASK_RCNN,
    DETRHead: mmdet_query.DETR,
    SparseRCNNHead: mmdet_query.SPARSE_RCNN,
    SemanticFPNHead: mmseg.SEMANTIC_FPN,
    UPerNetHead: mmseg.UPERNET,
    FCNHead: mmseg.AUXILIARY_FCN,
    SegFormerHead: mmseg.SEGFORMER,
    TopFormerHead: mmseg.TOPFORMER,
}
PANET_HEADS: dict[type[nn.Module], tuple[NameMap, Layouts]] = {
    FasterRCNNHead: (fpt_detector.FASTER_RCNN, fpt_detector.FASTER_RCNN_BLOBS),
    MaskRCNNHead: (fpt_detector.MASK_RCNN, fpt_detector.MASK_RCNN_BLOBS),
}
"""Names of heads that read every level, in files of the published program and of Detectron."""


def load_official(
    model: nn.Module,
    source: str | Path | Mapping[str, object],
    *,
    reset_classes: bool = False,
    use_ema: bool = False,
) -> LoadReport:
    """Load official weights into a whole model or into a backbone.

    If the file cannot be read, does not fit, has the model's classes in another order, or is of a
    ResNet that was trained on pixels in other numbers, a `ZigguratError` says why and the model is
    unchanged. Classes of a detector or segmenter that have no names yet get those of the file, else
    those of the data that the model was published for.

    Args:
        model: A classifier, a detector, a segmenter, or a bare backbone, which takes its part of
            any of them; or a Feature Pyramid Transformer, or the head of a PANet.
        source: A .pth, .pt, .safetensors, .pdparams or .pkl file, or what is in one.
        reset_classes: The classes may differ, to train the model for those of one's own: what
            belongs to a class of the same name is carried over, others keep their initial values.
        use_ema: Load the weights that were averaged over the training, where a file has both.

    Returns:
        What was loaded and what was ignored, entry by entry.

    Raises:
        ZigguratError: If the file is one of ziggurat's own, which say themselves what they are.
    """
    if isinstance(source, Mapping):
        where = "the given mapping"
        stored = given(source, where, use_ema=use_ema)
    else:
        where = str(source)
        if is_native(source):
            raise ZigguratError(
                f"{where} is a weight file of ziggurat already, and no official one; use it as it "
                "is: `ziggurat.load`, or `ziggurat.load_pretrained` into a model that exists"
            )
        stored = read_stored(source, use_ema=use_ema)
    _check_pixels(model, stored, where, "this ResNet")
    return _load(model, stored, where, reset_classes=reset_classes)


def load_official_backbone(
    backbone: nn.Module, name: str, path: str | Path, *, use_ema: bool = False
) -> LoadReport:
    """Load official weights into the backbone of a name, if they want the images that it gets.

    A file that was trained on pixels in other numbers, or does not fit, is a `ZigguratError`.

    Args:
        backbone: Receives the weights; unchanged if they do not fit.
        name: Name of the backbone, for messages.
        path: A .pth, .pt, .safetensors, .pdparams or .pkl file.
        use_ema: Load the weights that were averaged over the training, where a file has both.
    """
    stored = read_stored(path, use_ema=use_ema)
    _check_pixels(backbone, stored, str(path), name)
    return _load(backbone, stored, str(path), reset_classes=False)


def _check_pixels(model: nn.Module, stored: StoredWeights, where: str, label: str) -> None:
    """Raise if a bare ResNet is for weights trained on pixels in other numbers than a file's.

    Args:
        model: What the file is loaded into; anything but a bare ResNet passes.
        stored: What is in the file.
        where: How the message calls it.
        label: How the message calls the ResNet.

    Raises:
        ZigguratError: If it is.
    """
    if not isinstance(model, ResNet):
        return
    levels = resnet.saw_levels(stored.tensors)
    if None in (levels, model.sees_levels) or levels == model.sees_levels:
        return
    normalized, raw = "normalised RGB, as of torchvision", "BGR levels from 0 to 255, as of Caffe"
    theirs, ours = (raw, normalized) if levels else (normalized, raw)
    fitting = "resnet50_caffe or resnet50_gn" if levels else "resnet50"
    raise ZigguratError(
        f"{where} was trained on {theirs}, and {label} is for weights trained on {ours}; choose "
        f"another file, or a backbone such as {fitting}"
    )


def check_official(model: nn.Module, path: str | Path) -> None:
    """Raise unless an official file fits a model, of which the shapes alone are looked at.

    A file that cannot be read or does not fit is a `ZigguratError`.

    Args:
        model: A model or a backbone, which may have been built on the meta device.
        path: A .pth, .pt, .safetensors, .pdparams or .pkl file.
    """
    weights, own = read_stored(path).tensors, model.state_dict()
    names = nearest_layout(_layouts(model), own, weights)
    report = match_entries(shapes_of(own), shapes_of(weights), names)
    require_complete(
        report,
        own,
        names,
        source=str(path),
        label=_label(model),
        hint=_hint(model, weights, reset_classes=False),
    )


def _load(
    model: nn.Module, stored: StoredWeights, where: str, *, reset_classes: bool
) -> LoadReport:
    names = nearest_layout(_layouts(model), model.state_dict(), stored.tensors)
    report = load_entries(
        model,
        stored,
        names,
        source=where,
        label=_label(model),
        hint=_hint(model, stored.tensors, reset_classes),
        reset_classes=reset_classes,
        classes=_class_change(model, stored, names, where, reset_classes=reset_classes),
    )
    if isinstance(model, Detector | SemanticSegmenter) and not has_names(model.classes):
        classes = stored.classes or published_classes(model.identity)
        if classes is not None and len(classes) == len(model.classes):
            model.classes = classes
    return report


def _class_change(
    model: nn.Module, stored: StoredWeights, names: NameMap, where: str, *, reset_classes: bool
) -> ClassChange | None:
    """Return the classes of the file and of the model, if what is shared is to be carried over.

    Classes in another order, which are not to be reset, are a `ZigguratError`.
    """
    if not isinstance(model, Classifier | Detector | SemanticSegmenter):
        return None
    # Classes of ImageNet have their folders' names in runs, and words in a file if any.
    named = None if isinstance(model, Classifier) else stored.classes
    before, now = named or published_classes(model.identity), tuple(model.classes)
    if before is None or before == now or not has_names(now):
        return None
    change, is_as_many = ClassChange(before, now), len(before) == len(now)
    if not (change.shared or is_as_many) or not _fits(change, model, stored, names):
        return None
    if reset_classes:
        return change
    if is_as_many:
        require_same_order(where, before, now)
    return None


def _fits(change: ClassChange, model: nn.Module, stored: StoredWeights, names: NameMap) -> bool:
    """Tell whether the file has rows for the classes that it should be of, but may not name."""
    own, weights = model.state_dict(), stored.tensors
    report = match_entries(
        shapes_of(own), shapes_of(weights), names, reset_classes=True, classes=change
    )
    return all(
        change.fits(ours, len(weights[official]), len(own[ours]))
        for official, ours in report.by_class
    )


def _layouts(model: nn.Module) -> Layouts:
    """Return the tables of the programs that save a model, and of its own `state_dict`."""
    return (*_official_layouts(model), SAME_NAMES)


def _official_layouts(model: nn.Module) -> Layouts:
    if isinstance(model, Classifier):
        return _lookup(CLASSIFIERS, model.backbone)
    if isinstance(model, Detector) and _is_panet(model.head):
        _lookup({ResNet: None}, model.backbone)
        return fpt_detector.whole(*PANET_HEADS[type(model.head)])
    if isinstance(model, Detector | SemanticSegmenter):
        rest = _neck_names(model.neck) + _lookup(HEADS, model.head)
        if isinstance(model, SemanticSegmenter):
            rest += one_sided_auxiliary(model)
            if model.auxiliary_head is not None:
                rest += _lookup(HEADS, model.auxiliary_head)
        backbones = _lookup(BACKBONES, model.backbone)
        return tuple(names.under("backbone.", "backbone.") + rest for names in backbones)
    if isinstance(model, FeaturePyramidTransformer):
        pyramid = fpt.ALL_PAIRS + WITHOUT_BATCH_COUNTS
        return (pyramid, pyramid.under("Conv_Body.", "") + fpt.OTHER_PARTS)
    if _is_panet(model):
        return (PANET_HEADS[type(model)][0] + fpt_detector.OTHER_PARTS,)
    others = NOT_IN_CLASSIFIERS.get(type(model), NameMap()) + mmdet.OTHER_PARTS
    return tuple(
        names + names.under("backbone.", "") + others for names in _lookup(BACKBONES, model)
    )


def _is_panet(head: nn.Module) -> bool:
    return type(head) in PANET_HEADS and isinstance(head.pooling, AdaptiveFeaturePooling)


def _neck_names(neck: nn.Module) -> NameMap:
    if isinstance(neck, Coarsest | nn.Identity):  # they have no entries
        return NameMap()
    _lookup({FPN: None}, neck)
    assert isinstance(neck, FPN)
    return mmdet.NORMED_FPN if neck.has_norm else mmdet.FPN


def _lookup(tables: Mapping[type[nn.Module], Names], module: nn.Module) -> Names:
    if type(module) not in tables:
        known = ", ".join(kind.__name__ for kind in tables)
        raise ZigguratError(
            f"official names are known for {known}, not for {type(module).__name__}; "
            "give a model or a backbone of these families"
        )
    return tables[type(module)]


def _label(model: nn.Module) -> str:
    if isinstance(model, Classifier | Detector | SemanticSegmenter):
        return model.identity.name
    if isinstance(model, FeaturePyramidTransformer):
        return "a Feature Pyramid Transformer"
    if _is_panet(model):
        return f"a {type(model).__name__}"
    return f"a {type(model).__name__} backbone"


def _hint(model: nn.Module, weights: Mapping[str, Tensor], reset_classes: bool) -> str:
    if any(re.match(rf"Conv_Body\.({fpt.SIMPLIFIED})\.", name) for name in weights):
        return (
            "its pyramid is the simplified transformer of the published configurations, which is "
            "not offered, as it gives 0 on its finest levels at its start; load the other parts, "
            "into `model.backbone` and `model.head`"
        )
    if _lacks_batch_norms(model, weights):
        return (
            "its pyramid has batch norms, choose the neck `fpt_batch_norm`, as in the name "
            "mask_rcnn_panet_fpt_batch_norm_resnet50_caffe"
        )
    is_system = any(name.startswith(("backbone.", "Conv_Body.", "conv_rpn_")) for name in weights)
    if any("backbone.stages." in name for name in weights):
        return "ziggurat wrote it, load best.safetensors or last.safetensors with `ziggurat.load`"
    if all(name.startswith("model.") for name in weights):
        return "all its names begin with 'model.', as Lightning saves them: take that off first"
    if isinstance(model, Detector | SemanticSegmenter) and not is_system:
        return "it looks like an ImageNet file, load it into `model.backbone`"
    if isinstance(model, Classifier) and is_system:
        return "it looks like the file of a detector or segmenter, which has no classifier"
    if isinstance(model, Classifier | Detector | SemanticSegmenter) and not reset_classes:
        return (
            "choose the model that the file was made for, with its number of classes "
            "(`num_classes`, --num_classes); to train for other classes, `reset_classes` of "
            "`ziggurat.load_official`, in a run --model.reset_classes true, begins with fresh ones"
        )
    return "choose the model that the file was made for"


def _lacks_batch_norms(model: nn.Module, weights: Mapping[str, Tensor]) -> bool:
    """Whether a Feature Pyramid Transformer has other norms than its file."""
    transformer = find_transformer(model)
    if transformer is None or any(isinstance(x, nn.BatchNorm2d) for x in transformer.modules()):
        return False
    return any(name.endswith("norm_layer.running_mean") for name in weights)
