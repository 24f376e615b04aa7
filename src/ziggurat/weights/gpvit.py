"""Files of github.com/ChenhongyiYang/GPViT: 28 of them, in the repository's release v0.0.1."""

from ziggurat.types import Task
from ziggurat.weights.published_file import (
    ADE20K,
    APACHE,
    COCO,
    CROP_224,
    IMAGENET,
    INSIDE_1333_800,
    INSIDE_2048_512,
    PublishedFile,
)

REPOSITORY = "https://github.com/ChenhongyiYang/GPViT"


def _file(
    run: str,
    model: str,
    task: Task,
    dataset: str,
    preprocessing: str,
    *metrics: tuple[str, float],
) -> PublishedFile:
    return PublishedFile(
        name=f"{run}.pth",
        model=model,
        task=task,
        metrics=metrics,
        dataset=dataset,
        source=f"{REPOSITORY}/blob/main/README.md",
        licence=APACHE,
        preprocessing=preprocessing,
        url=f"{REPOSITORY}/releases/download/v0.0.1/{run}.pth",
    )


def _imagenet(backbone: str, top1: float, top5: float) -> PublishedFile:
    metrics = (("top1", top1), ("top5", top5))
    return _file(f"{backbone}_in1k_300e", backbone, "classification", IMAGENET, CROP_224, *metrics)


def _mask_rcnn(backbone: str, schedule: str, ap: float, mask_ap: float) -> PublishedFile:
    return _file(
        f"{backbone}_maskrcnn_{schedule}",
        f"mask_rcnn_{backbone}",
        "instance_segmentation",
        COCO,
        INSIDE_1333_800,
        ("AP", ap),
        ("mask_AP", mask_ap),
    )


def _retinanet(backbone: str, schedule: str, ap: float) -> PublishedFile:
    return _file(
        f"{backbone}_retinanet_{schedule}",
        f"retinanet_{backbone}",
        "detection",
        COCO,
        INSIDE_1333_800,
        ("AP", ap),
    )


def _segmenter(backbone: str, system: str, miou: float) -> PublishedFile:
    return _file(
        f"{backbone}_{system}",
        f"{system}_{backbone}",
        "semantic_segmentation",
        ADE20K,
        INSIDE_2048_512,
        ("mIoU", miou),
    )


FILES = (
    _imagenet("gpvit_l1", 80.5, 95.4),
    _imagenet("gpvit_l2", 83.4, 96.6),
    _imagenet("gpvit_l3", 84.1, 96.9),
    _imagenet("gpvit_l4", 84.3, 96.9),
    _mask_rcnn("gpvit_l1", "1x", 48.1, 42.7),
    _mask_rcnn("gpvit_l2", "1x", 49.9, 43.9),
    _mask_rcnn("gpvit_l3", "1x", 50.4, 44.4),
    _mask_rcnn("gpvit_l4", "1x", 51.0, 45.0),
    _mask_rcnn("gpvit_l1", "3x", 50.2, 44.3),
    _mask_rcnn("gpvit_l2", "3x", 51.4, 45.1),
    _mask_rcnn("gpvit_l3", "3x", 51.6, 45.2),
    _mask_rcnn("gpvit_l4", "3x", 52.1, 45.7),
    _retinanet("gpvit_l1", "1x", 45.8),
    _retinanet("gpvit_l2", "1x", 48.0),
    _retinanet("gpvit_l3", "1x", 48.3),
    _retinanet("gpvit_l4", "1x", 48.7),
    _retinanet("gpvit_l1", "3x", 48.1),
    _retinanet("gpvit_l2", "3x", 49.0),
    _retinanet("gpvit_l3", "3x", 49.4),
    _retinanet("gpvit_l4", "3x", 49.8),
    _segmenter("gpvit_l1", "upernet", 49.1),
    _segmenter("gpvit_l2", "upernet", 50.2),
    _segmenter("gpvit_l3", "upernet", 51.7),
    _segmenter("gpvit_l4", "upernet", 52.5),
    _segmenter("gpvit_l1", "segformer", 46.9),
    _segmenter("gpvit_l2", "segformer", 49.2),
    _segmenter("gpvit_l3", "segformer", 50.8),
    _segmenter("gpvit_l4", "segformer", 51.3),
)
