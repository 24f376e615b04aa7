"""Files of github.com/yuhuan-wu/P2T: all of them on Google Drive, for non-commercial use.

Detectors and segmenters lie in a folder each, under names of their own.
"""

from ziggurat.weights.published_file import (
    ADE20K,
    CC_BY_NC_SA,
    COCO,
    CROP_224,
    IMAGENET,
    INSIDE_1333_800,
    INSIDE_2048_512,
    PublishedFile,
    drive_file,
    drive_folder,
)

SOURCE = "https://github.com/yuhuan-wu/P2T/blob/main/README.md"
DETECTORS = drive_folder("1fcg7n3Ga8cYoT-3Ar0PeQXjAC3AnQYyY")
SEGMENTERS = drive_folder("1SH9zmdGKvnpFBVU3dXS6-TZT04CZgkX9")
IN_FOLDER = "a folder with the weights and logs of all sizes"


def _imagenet(model: str, drive: str, top1: float, top5: float) -> PublishedFile:
    return PublishedFile(
        name=f"{model}.pth",
        model=model,
        task="classification",
        metrics=(("top1", top1), ("top5", top5)),
        dataset=IMAGENET,
        source=SOURCE,
        licence=CC_BY_NC_SA,
        preprocessing=CROP_224,
        page=drive_file(drive),
    )


def _retinanet(letter: str, backbone: str, ap: float) -> PublishedFile:
    return PublishedFile(
        name=f"retinanet_p2t_{letter}_fpn_1x_coco.pth",
        model=f"retinanet_{backbone}",
        task="detection",
        metrics=(("AP", ap),),
        dataset=COCO,
        source=SOURCE,
        licence=CC_BY_NC_SA,
        preprocessing=INSIDE_1333_800,
        page=DETECTORS,
        remark=IN_FOLDER,
    )


def _mask_rcnn(
    letter: str, backbone: str, ap: float, mask_ap: float, sha256_prefix: str | None = None
) -> PublishedFile:
    ending = "" if sha256_prefix is None else f"-{sha256_prefix}"
    return PublishedFile(
        name=f"mask_rcnn_p2t_{letter}_fpn_1x_coco{ending}.pth",
        model=f"mask_rcnn_{backbone}",
        task="instance_segmentation",
        metrics=(("AP", ap), ("mask_AP", mask_ap)),
        dataset=COCO,
        source=SOURCE,
        licence=CC_BY_NC_SA,
        preprocessing=INSIDE_1333_800,
        page=DETECTORS,
        sha256_prefix=sha256_prefix,
        remark=IN_FOLDER,
    )


def _semantic_fpn(letter: str, backbone: str, miou: float) -> PublishedFile:
    return PublishedFile(
        name=f"sem_fpn_p2t_{letter}_ade20k_80k.pth",
        model=f"semantic_fpn_{backbone}",
        task="semantic_segmentation",
        metrics=(("mIoU", miou),),
        dataset=ADE20K,
        source=SOURCE,
        licence=CC_BY_NC_SA,
        preprocessing=INSIDE_2048_512,
        page=SEGMENTERS,
        remark=IN_FOLDER,
    )


FILES = (
    _imagenet("p2t_tiny", "1x9EweWx77pXrHOCc7RJF3sYK2rht0_4m", 79.8, 94.9),
    _imagenet("p2t_small", "1FlwhyVKw0zqj2mux248gIQFQ8DGPi8rS", 82.4, 96.0),
    _imagenet("p2t_base", "1iZoWexUTPUDSIZiJHNRt2zZl2kFj68F4", 83.5, 96.6),
    _imagenet("p2t_large", "13jBJ7ShDJd1juViC-zPtfLXYPRwkNfya", 83.9, 96.7),
    _retinanet("t", "p2t_tiny", 41.3),
    _retinanet("s", "p2t_small", 44.4),
    _retinanet("b", "p2t_base", 46.1),
    _retinanet("l", "p2t_large", 47.2),
    # The authors' page calls this file by its full name, which ends in its hash.
    _mask_rcnn("t", "p2t_tiny", 43.3, 39.6, "d875fa68"),
    _mask_rcnn("s", "p2t_small", 45.5, 41.4),
    _mask_rcnn("b", "p2t_base", 47.2, 42.7),
    _mask_rcnn("l", "p2t_large", 48.3, 43.5),
    _semantic_fpn("t", "p2t_tiny", 43.4),
    _semantic_fpn("s", "p2t_small", 46.7),
    _semantic_fpn("b", "p2t_base", 48.7),
    _semantic_fpn("l", "p2t_large", 49.4),
)
