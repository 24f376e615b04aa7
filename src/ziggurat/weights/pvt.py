"""Files of github.com/whai362/PVT: PVT v1 and v2, ImageNet, COCO and ADE20K.

The ImageNet files are in the repository's release `v2`; detectors and segmenters are on Google
Drive. timm's copies of the v2 files, under timm's names, are on the Hugging Face hub.
"""

from ziggurat.types import Task
from ziggurat.weights.published_file import (
    ADE20K,
    APACHE,
    COCO,
    CROP_224,
    IMAGENET,
    INSIDE_1066_640,
    INSIDE_1333_800,
    INSIDE_2048_512,
    PublishedFile,
    drive_file,
)

REPOSITORY = "https://github.com/whai362/PVT"
CLASSIFICATION = f"{REPOSITORY}/blob/v2/classification/README.md"
DETECTION = f"{REPOSITORY}/blob/v2/detection/README.md"
SEGMENTATION = f"{REPOSITORY}/blob/v2/segmentation/README.md"


def _imagenet(model: str, top1: float, size: str, *more: tuple[str, float]) -> PublishedFile:
    return PublishedFile(
        name=f"{model}.pth",
        model=model,
        task="classification",
        metrics=(("top1", top1), *more),
        dataset=IMAGENET,
        source=CLASSIFICATION,
        licence=APACHE,
        preprocessing=CROP_224,
        url=f"{REPOSITORY}/releases/download/v2/{model}.pth",
        published_size=size,
    )


def _timm(model: str, size: str) -> PublishedFile:
    hub = f"https://huggingface.co/timm/{model}.in1k"
    return PublishedFile(
        name=f"{model}.in1k.safetensors",
        model=model,
        task="classification",
        metrics=(),
        dataset=IMAGENET,
        source=hub,
        licence=APACHE,
        preprocessing=CROP_224,
        url=f"{hub}/resolve/main/model.safetensors",
        published_size=size,
        remark="in timm's layout; timm itself crops 0.9 of the short side",
    )


def _coco(
    run: str, model: str, drive: str, ap: float, mask_ap: float | None = None, remark: str = ""
) -> PublishedFile:
    task: Task = "detection" if mask_ap is None else "instance_segmentation"
    is_small = run.endswith("_640")
    return PublishedFile(
        name=f"{run}.pth",
        model=model,
        task=task,
        metrics=(("AP", ap),) if mask_ap is None else (("AP", ap), ("mask_AP", mask_ap)),
        dataset=COCO,
        source=DETECTION,
        licence=APACHE,
        preprocessing=INSIDE_1066_640 if is_small else INSIDE_1333_800,
        limits=(640, 1066) if is_small else None,
        page=drive_file(drive),
        remark=remark,
    )


def _ade20k(size: str, model: str, drive: str, miou: float) -> PublishedFile:
    return PublishedFile(
        name=f"fpn_pvt_{size}_ade20k_40k.pth",
        model=f"semantic_fpn_{model}",
        task="semantic_segmentation",
        metrics=(("mIoU", miou),),
        dataset=ADE20K,
        source=SEGMENTATION,
        licence=APACHE,
        preprocessing=INSIDE_2048_512,
        page=drive_file(drive),
    )


FILES = (
    _imagenet("pvt_tiny", 75.1, "51M"),
    _imagenet("pvt_small", 79.8, "93M", ("top5", 94.95)),
    _imagenet("pvt_medium", 81.2, "168M"),
    _imagenet("pvt_large", 81.7, "234M"),
    _imagenet("pvt_v2_b0", 70.5, "14M"),
    _imagenet("pvt_v2_b1", 78.7, "54M"),
    _imagenet("pvt_v2_b2", 82.0, "97M"),
    _imagenet("pvt_v2_b2_li", 82.1, "86M"),
    _imagenet("pvt_v2_b3", 83.1, "173M"),
    _imagenet("pvt_v2_b4", 83.6, "239M"),
    _imagenet("pvt_v2_b5", 83.8, "313M"),
    _timm("pvt_v2_b0", "14.7 MB"),
    _timm("pvt_v2_b1", "56.1 MB"),
    _timm("pvt_v2_b2", "101 MB"),
    _timm("pvt_v2_b2_li", "90.2 MB"),
    _timm("pvt_v2_b3", "181 MB"),
    _timm("pvt_v2_b4", "250 MB"),
    _timm("pvt_v2_b5", "328 MB"),
    # PVT v1, 1x schedule.
    _coco(
        "retinanet_pvt_t_fpn_1x_coco",
        "retinanet_pvt_tiny",
        "1ZbS-g3oqAChkYiDYTiZLzw61lal2pgbl",
        36.7,
    ),
    _coco(
        "retinanet_pvt_s_fpn_1x_coco",
        "retinanet_pvt_small",
        "1U02ngyT_IYxS8SlU3WXf5r0TFsoBE3Lm",
        40.4,
    ),
    _coco(
        "retinanet_pvt_s_fpn_1x_coco_640",
        "retinanet_pvt_small",
        "1L5wh2rYsVnuC_CEeFE6yMhU1kENt2gnk",
        38.7,
    ),
    _coco(
        "retinanet_pvt_m_fpn_1x_coco",
        "retinanet_pvt_medium",
        "1DJCmbrpLJhQi20ztSCmtruDaXtqOsrns",
        41.9,
    ),
    _coco(
        "retinanet_pvt_l_fpn_1x_coco",
        "retinanet_pvt_large",
        "1zG_Ji_GamjQgPbe6hHOjZlIHs5jZbVFL",
        42.6,
    ),
    _coco(
        "mask_rcnn_pvt_t_fpn_1x_coco",
        "mask_rcnn_pvt_tiny",
        "1JGcl7ZnDIf-qQjrCXVtb71XeRWOIu7Xf",
        36.7,
        35.1,
    ),
    _coco(
        "mask_rcnn_pvt_s_fpn_1x_coco",
        "mask_rcnn_pvt_small",
        "1XGJQTivM_KviRDVvKTPgkJQhFco2oXSA",
        40.4,
        37.8,
    ),
    _coco(
        "mask_rcnn_pvt_m_fpn_1x_coco",
        "mask_rcnn_pvt_medium",
        "1m0TFlJOVSLaAA4alVqp_VRckg0uRGTJ-",
        42.0,
        39.0,
    ),
    _coco(
        "mask_rcnn_pvt_l_fpn_1x_coco",
        "mask_rcnn_pvt_large",
        "1zG_Ji_GamjQgPbe6hHOjZlIHs5jZbVFL",
        42.9,
        39.5,
        remark="the authors' table gives it the address of RetinaNet PVT-Large",
    ),
    _coco("detr_pvt_s_8x2_50ep_coco", "detr_pvt_small", "1rIf2qUEvaeV2ZMzhVyiXxEplE0bCi3Jv", 34.7),
    # PVT v2, 1x schedule.
    *(
        _coco(f"retinanet_{model}_fpn_1x_coco", f"retinanet_{model}", drive, ap)
        for model, drive, ap in (
            ("pvt_v2_b0", "1K6OkU3CYVglnLSDSvsY8HpDcISB6eKzM", 37.2),
            ("pvt_v2_b1", "1UyBfxAyQygVgAtBeynXrG2iCJj70kiP9", 41.2),
            ("pvt_v2_b2_li", "1v3j4D1FZuasPi6lGHoHM3bok7PM8F1sg", 43.6),
            ("pvt_v2_b2", "1VqrLiQ0329HpqiG3BU3q0LoXi6ncS1_k", 44.6),
            ("pvt_v2_b3", "1Lz4qRtDoYT8RvDpVxJCvstM3qTtHlLqL", 45.9),
            ("pvt_v2_b4", "1GCiE6tniZrG36vumnGi9d79xQEXCS-l2", 46.1),
            ("pvt_v2_b5", "10cUAXpajabSpAJVSPRNywkOiUlgIjN0e", 46.2),
        )
    ),
    *(
        _coco(f"mask_rcnn_{model}_fpn_1x_coco", f"mask_rcnn_{model}", drive, ap, mask_ap)
        for model, drive, ap, mask_ap in (
            ("pvt_v2_b0", "1eRDCU0Erv-kWwCFCwU_VljdjpHk9ktAY", 38.2, 36.2),
            ("pvt_v2_b1", "1Y4xgILkl7bh3-DV3rksZTGlN_VTLAIkO", 41.8, 38.8),
            ("pvt_v2_b2_li", "1DWUryElNqWzaNuPafWL0GuOSQxqvqxba", 44.1, 40.5),
            ("pvt_v2_b2", "1F3-FBjDLkskZFvhECO3sSkHwBg8Mx_j0", 45.3, 41.2),
            ("pvt_v2_b3", "1Uq9KpUSLt1-B_6tgVTc1-neuxYBMTI1S", 47.0, 42.5),
            ("pvt_v2_b4", "1IpdgEHAe3XNlIldk6drzOWRcE-wFCv7v", 47.5, 42.7),
            ("pvt_v2_b5", "1BvI5XXaGbv3tbLrXbVQ5K45gFVEHbBGX", 47.4, 42.5),
        )
    ),
    # PVT v2, 3x schedule with several scales.
    *(
        _coco(
            f"cascade_mask_rcnn_{model}_fpn_3x_mstrain_fp16",
            f"cascade_mask_rcnn_{model}",
            drive,
            ap,
            mask_ap,
        )
        for model, drive, ap, mask_ap in (
            ("pvt_v2_b2_li", "1dG4O-M0EqKYdTtZqJdRjJopiwwnoakee", 50.9, 44.0),
            ("pvt_v2_b2", "11jmqwLQSqQ1zin9D2sRYqeC8YfzGaN3V", 51.1, 44.4),
        )
    ),
    *(
        _coco(f"{system}_{model}_fpn_3x_mstrain_fp16", f"{system}_{model}", drive, ap)
        for system, model, drive, ap in (
            ("atss", "pvt_v2_b2_li", "1CB4teTBwOpofCrHM91QvKKFLKcVMzZVi", 48.9),
            ("atss", "pvt_v2_b2", "1TKbj-i7oLgC7zstFuV0Neumu4iKMpBGh", 49.9),
            ("gfl", "pvt_v2_b2_li", "1CnXlOEs9g7-LAoaDFcukTh5x0R4popZp", 49.2),
            ("gfl", "pvt_v2_b2", "1XODtTQ3UAQz75vqhXBddqn7JpQke0vn6", 50.2),
        )
    ),
    *(
        _coco(
            f"sparse_rcnn_{model}_fpn_300_proposals_crop_mstrain_480-800_3x_coco",
            f"sparse_rcnn_{model}",
            drive,
            ap,
        )
        for model, drive, ap in (
            ("pvt_v2_b2_li", "1W8Wt2WbyhEi0JOUblaEcH9gx0I6z1wAv", 48.9),
            ("pvt_v2_b2", "1xtn-wD_nYSwudF1SqsSHl7opEXM4dhPN", 50.1),
        )
    ),
    # Numbers of the published code; those of the paper are 0.9 to 2.1 lower.
    _ade20k("t", "pvt_tiny", "13SaiOJ9hH7Wwg_AyeQ158LNV9vtjq6Lu", 36.6),
    _ade20k("s", "pvt_small", "13fy-FXAfYnHgHRaUiJWVBON670wFLIiD", 41.9),
    _ade20k("m", "pvt_medium", "10ErJJZCcucnjjo8et2ivuHRzxbwc04y2", 43.5),
    _ade20k("l", "pvt_large", "1JkaXbTorIWLj9Oe5Dh6kzH_1vtrRFJRL", 43.5),
)
