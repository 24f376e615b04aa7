"""Models and backbones with weights: `create_model(..., pretrained=...)`.

`pretrained` is one of
    False                 fresh weights
    True                  the published file of the model, downloaded once
    "NAME"                a file of the catalogue by its name, see `ziggurat list --weights`
    "hf:USER/NAME"        weights that somebody pushed to the Hugging Face hub
    a path                an official file, or one of ziggurat

What was loaded and what was left out is logged to "ziggurat", and returned by `load_pretrained`; at
level WARNING if something keeps fresh weights because the file is of other classes.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from ziggurat import zoo
from ziggurat.backbones.timm_backbone import TimmBackbone
from ziggurat.cards import MODELS
from ziggurat.checkpoints import timm_backbone
from ziggurat.checkpoints.matching import LoadReport
from ziggurat.checkpoints.native import adopt_description, is_native, load_backbone, load_into
from ziggurat.checkpoints.official import (
    check_official,
    load_official,
    load_official_backbone,
)
from ziggurat.checkpoints.read import read_checkpoint
from ziggurat.errors import ZigguratError
from ziggurat.weights.cache import PINS, is_offline
from ziggurat.weights.catalogue import FILES, files_for
from ziggurat.weights.fetch import fetch
from ziggurat.weights.hub import HUB_PREFIX, pull
from ziggurat.weights.progress import download_bar
from ziggurat.weights.published_file import PublishedFile
from ziggurat.zoo import Backbone, Model

LOG = logging.getLogger("ziggurat")

PUBLISHED = "true"
"""Text that stands for True."""

ADAPTER_ENDING = "_adapter"
"""Backbones of GPViT's detectors start from the ImageNet file of the plain model."""


def create_model(
    name: str,
    *,
    pretrained: bool | str | Path = False,
    use_ema: bool = False,
    backbone: str | None = None,
    neck: str | None = None,
    num_classes: int | None = None,
    head_channels: int | None = None,
    head_depth: int | None = None,
    drop_path_rate: float | None = None,
    overlapping: bool = False,
    key_budget: int | None = None,
    self_levels: int | None = None,
    grounding_window: int | None = None,
    drop_block: float = 0.0,
    num_keypoints: int | None = None,
    auxiliary_head: bool | None = None,
) -> Model:
    """Build a model, with fresh or with trained weights.

    Args:
        name: A published name ("p2t_small", "mask_rcnn_p2t_small"), that of any other combination
            ("mask_rcnn_resnet50", "atss_fpt_pvt_v2_b0", "retinanet_timm:resnet18"), or a system
            ("mask_rcnn") together with `backbone`.
        pretrained: False for fresh weights, True for the published ones, or which ones: a name of
            the catalogue, a path, or "hf:USER/NAME".
        use_ema: Load the weights that were averaged over the training, where a file has both.
        backbone: Backbone of a system; the other names have their own.
        neck: Neck of a system, by default the one that it was published with.
        num_classes: Number of classes; by default as published, 1000, 80 or 150, or 1 (person).
            Where it is given and the file of `pretrained` has another, what depends on the classes
            keeps its fresh weights; where it is not, such a file is a mistake. A file of ziggurat
            also brings its preprocessing and, for as many classes, their names.
        head_channels: Width of neck and head; by default as published.
        head_depth: Convolutions of each tower of a dense detector's head; 4 as published.
        drop_path_rate: Stochastic depth of the last block; by default as published.
        overlapping: Whether a segmenter's classes may overlap: a pixel is asked for each class by
            itself, and results are a mask for each.
        key_budget: Most keys that a pixel of a Feature Pyramid Transformer reads in a softmax; by
            default all. It bounds the cost, and changes results.
        self_levels: How many of the coarsest maps look at themselves in such a neck; by default
            all. On the finest that costs most; without it the model is another one.
        grounding_window: Side of the square, in pixels, that a pixel of such a neck reads of each
            coarser map; by default the whole map, and 5 in segmenters with "fpt_paper".
        drop_block: Share of what such a neck's transformers found that training sets to 0, in
            squares.
        num_keypoints: Points of each object that a keypoint detector finds; 17 as published.
        auxiliary_head: Whether a segmenter has a head on a map of its backbone that helps it in
            training alone; by default as published, UPerNet with one and the others without. Where
            it is asked for and the file of `pretrained` has none, it keeps its fresh weights.

    An unknown name, an option out of range, or weights that cannot be had or do not fit are a
    `ZigguratError`.
    """
    model = zoo.create_model(
        name,
        backbone=backbone,
        neck=neck,
        num_classes=num_classes,
        head_channels=head_channels,
        head_depth=head_depth,
        drop_path_rate=drop_path_rate,
        overlapping=overlapping,
        key_budget=key_budget,
        self_levels=self_levels,
        grounding_window=grounding_window,
        drop_block=drop_block,
        num_keypoints=num_keypoints,
        auxiliary_head=auxiliary_head,
    )
    if _is_wanted(pretrained, use_ema):
        path = find_weights(model.identity.name, pretrained)
        if path.exists() and is_native(path):
            adopt_description(model, path)
        load_pretrained(model, path, reset_classes=num_classes is not None, use_ema=use_ema)
    return model


def create_backbone(
    name: str,
    *,
    pretrained: bool | str | Path = False,
    use_ema: bool = False,
    drop_path_rate: float = 0.0,
    in_channels: int = 3,
) -> Backbone:
    """Build a backbone: images (B, 3, H, W) to a list of maps (B, C_i, H_i, W_i).

    Args:
        name: Name of the backbone, for example "p2t_small", or of any network of timm:
            "timm:convnext_tiny".
        pretrained: False for fresh weights, True for the published ImageNet weights, or which
            ones: a name of the catalogue, a path, or "hf:USER/NAME".
        use_ema: Load the weights that were averaged over the training, where a file has both.
        drop_path_rate: Stochastic depth of its last block; it grows linearly from 0.
        in_channels: Channels of the images.

    Raises:
        ZigguratError: If a name is unknown, a number is out of range, or the weights cannot be had
            or do not fit.
    """
    backbone = zoo.create_backbone(name, drop_path_rate=drop_path_rate, in_channels=in_channels)
    if not _is_wanted(pretrained, use_ema):
        return backbone
    if in_channels != 3:
        raise ZigguratError(
            f"published weights are for images of 3 channels, got in_channels={in_channels}; leave "
            "pretrained out, or adapt the first convolution yourself"
        )
    load_pretrained_backbone(backbone, name, pretrained, use_ema=use_ema)
    return backbone


def load_pretrained_backbone(
    backbone: nn.Module, name: str, source: bool | str | Path = True, *, use_ema: bool = False
) -> LoadReport:
    """Load trained weights into a backbone that exists.

    Args:
        backbone: Receives the weights.
        name: Name of the backbone.
        source: True for the published weights, or which ones: a name of the catalogue, a path, or
            "hf:USER/NAME".
        use_ema: Load the weights that were averaged over the training, where a file has both.

    Returns:
        What was loaded and what was left out, entry by entry.
    """
    if isinstance(backbone, TimmBackbone) and source is True:
        refuse_average(f"timm's weights of {name}", use_ema)
        report = timm_backbone.load_published(
            backbone, timm_backbone.kept_file(backbone.name) if is_offline() else None
        )
        _log(name, "timm", report)
        return report
    path = find_weights(name.removesuffix(ADAPTER_ENDING), source)
    with _naming_what_to_remove(path, name):
        if is_native(path):
            refuse_average(path, use_ema)
            report = load_backbone(backbone, name, path)
        elif isinstance(backbone, TimmBackbone):
            report = timm_backbone.load_file(backbone, path, use_ema=use_ema)
        else:
            report = load_official_backbone(backbone, name, path, use_ema=use_ema)
    _log(name, path, report)
    return report


def load_pretrained(
    model: Model,
    source: bool | str | Path = True,
    *,
    reset_classes: bool = False,
    use_ema: bool = False,
) -> LoadReport:
    """Load trained weights into a model that exists.

    Weights that cannot be had or do not fit are a `ZigguratError`, and the model is unchanged.

    Args:
        model: Receives the weights.
        source: True for the published weights, or which ones: a name of the catalogue, a path, or
            "hf:USER/NAME".
        reset_classes: The file may be of other classes: entries that depend on them keep the
            values that they have, all but those of classes of the same name. The report says so,
            and the log warns.
        use_ema: Load the weights that were averaged over the training, where a file has both.

    Returns:
        What was loaded and what was left out, entry by entry.
    """
    name = model.identity.name
    path = find_weights(name, source)
    with _naming_what_to_remove(path, name):
        if is_native(path):
            refuse_average(path, use_ema)
            report = load_into(model, path, reset_classes=reset_classes)
        else:
            report = load_official(model, path, reset_classes=reset_classes, use_ema=use_ema)
    loaded = {ours for _, ours in report.matched + report.resized + report.reordered}
    kept = model.state_dict().keys() - loaded - dict(report.absent).keys()
    _log(name, path, report, level=logging.WARNING if kept else logging.INFO)
    return report


def find_weights(model: str, source: bool | str | Path = True) -> Path:
    """Return the local path of weights, after downloading them if need be.

    Args:
        model: Name of the model that they are for.
        source: True for the published weights, or which ones: a name of the catalogue, a path, or
            "hf:USER/NAME".

    Raises:
        ZigguratError: If there is no such file, or it cannot be had.
    """
    if isinstance(source, bool):
        if not source:
            raise ZigguratError(f"no weights were asked for {model!r}: pretrained is False")
        return _fetch(_published(model))
    text = str(source)
    if not isinstance(source, str | Path) or not text.strip():
        raise ZigguratError(
            f"weights are True, a name of the catalogue, a path or {HUB_PREFIX}USER/NAME, got "
            f"{source!r}; leave them out for fresh ones"
        )
    if text.startswith(HUB_PREFIX):
        return pull(text)
    path = Path(source)
    # A file on the disk goes before one of the catalogue: it was named by somebody who has it.
    if path.exists() or text not in FILES:
        return path
    return _fetch(FILES[text])


def source_of(text: str) -> bool | str:
    """Return what a text of the command line means as a source of weights.

    Args:
        text: "true" for the published weights, or which ones.
    """
    return True if text == PUBLISHED else text


def is_path(text: str) -> bool:
    """Tell whether a text of the command line means a file on the disk.

    Args:
        text: What `source_of` takes.
    """
    is_name = text in (PUBLISHED, *FILES) and not Path(text).exists()
    return not (is_name or text.startswith(HUB_PREFIX))


def _published(model: str) -> PublishedFile:
    """Return the file that `pretrained=True` means.

    Raises:
        ZigguratError: If nothing is published, or only a person can get it.
    """
    files = files_for(model)
    if not files:
        raise ZigguratError(
            f"no weights are published for {model!r}; give the path of a file, "
            "`ziggurat list --weights` shows what is published"
        )
    if files[0].url is None:
        raise ZigguratError(
            f"the weights of {model!r} cannot be downloaded by a program: {files[0].how_to_get}"
        )
    return files[0]


def _fetch(file: PublishedFile) -> Path:
    with download_bar(file.name) as on_progress:
        return fetch(file, check=lambda path: _check_fits(file, path), on_progress=on_progress)


def _check_fits(file: PublishedFile, path: Path) -> None:
    """Raise unless a download has the backbone that it is published for.

    The backbone alone: it tells one model from another, and a file of which only that can be used
    is useful too.
    """
    name = _backbone_of(file.model)
    if name not in zoo.BACKBONES:  # published, and not built here by a name
        read_checkpoint(path)
        return
    is_system = file.model in MODELS and file.task != "classification"
    with torch.device("meta"):
        # Some systems have a backbone of their own kind; classifiers one with more than maps need.
        backbone = zoo.create_model(file.model).backbone if is_system else zoo.create_backbone(name)
    check_official(backbone, path)


def _backbone_of(model: str) -> str:
    return MODELS[model].backbone if model in MODELS else model


@contextmanager
def _naming_what_to_remove(path: Path, name: str) -> Iterator[None]:
    """Say of a kept download that does not fit its own model how to get another one.

    Yields:
        Nothing; inside, the file is loaded.

    Raises:
        ZigguratError: If the file does not fit.
    """
    try:
        yield
    except ZigguratError as error:
        file = FILES.get(path.name)
        is_kept = path.with_name(PINS).exists()
        if file is None or not is_kept or _backbone_of(file.model) != _backbone_of(name):
            raise
        raise ZigguratError(
            f"{error}; should the download be another file than it is called, remove {path} and "
            f"its entry in {path.with_name(PINS)}, and run again"
        ) from error


def _is_wanted(pretrained: bool | str | Path, use_ema: bool) -> bool:
    if pretrained is False and use_ema:
        raise ZigguratError("use_ema chooses among trained weights, got pretrained=False; set it")
    return pretrained is not False


def refuse_average(source: object, use_ema: bool) -> None:
    """Raise if averaged weights are asked for where no file has a choice.

    Args:
        source: What the weights come from.
        use_ema: Whether they are asked for.

    Raises:
        ZigguratError: If they are.
    """
    if use_ema:
        raise ZigguratError(f"{source} holds weights once, averaged or not; leave use_ema out")


def _log(name: str, path: Path | str, report: LoadReport, *, level: int = logging.INFO) -> None:
    LOG.log(level, "%s from %s: %s", name, path, report.summary().replace("\n", "; "))
