"""TopFormer: the authors' files, and those of PaddleViT and PaddleSeg.

The authors publish on Google Drive and Baidu, PaddleViT as well; PaddleSeg's own training runs
have direct addresses.
"""

from ziggurat.weights.published_file import (
    ADE20K,
    APACHE,
    CROP_224,
    IMAGENET,
    INSIDE_2048_448,
    INSIDE_2048_512,
    PublishedFile,
    drive_file,
    drive_folder,
)

AUTHORS = "https://github.com/hustvl/TopFormer/blob/main/README.md"
PADDLE_VIT = (
    "https://github.com/BR-IDL/PaddleViT/blob/develop/image_classification/TopFormer/README.md"
)
PADDLE_SEG = "https://github.com/PaddlePaddle/PaddleSeg/blob/develop/configs/topformer/README.md"
PADDLE_SERVER = "https://paddleseg.bj.bcebos.com/dygraph"
IMAGENET_FOLDER = drive_folder("1NLz3QCDbaXJ2DeGxLPUfupZZbojceDJM")


def _paddle_vit(
    name: str, size: str, drive: str, top1: float, top5: float, remark: str
) -> PublishedFile:
    return PublishedFile(
        name=f"{name}.pdparams",
        model=f"topformer_{size}",
        task="classification",
        metrics=(("top1", top1), ("top5", top5)),
        dataset=IMAGENET,
        source=PADDLE_VIT,
        licence=APACHE,
        preprocessing=CROP_224,
        page=drive_file(drive),
        remark=remark,
    )


def _authors_imagenet(size: str) -> PublishedFile:
    return PublishedFile(
        name=f"topformer_{size}.pth",
        model=f"topformer_{size}",
        task="classification",
        metrics=(),
        dataset=IMAGENET,
        source=AUTHORS,
        licence=None,
        preprocessing=CROP_224,
        page=IMAGENET_FOLDER,
        remark="a folder with all sizes",
    )


def _authors_ade20k(size: str, run: str, drive: str, miou: float) -> PublishedFile:
    is_small = run.startswith("448x448")
    return PublishedFile(
        name=f"topformer_{size}_{run}_ade20k.pth",
        model=f"topformer_seg_{size}",
        task="semantic_segmentation",
        metrics=(("mIoU", miou),),
        dataset=ADE20K,
        source=AUTHORS,
        licence=None,
        preprocessing=INSIDE_2048_448 if is_small else INSIDE_2048_512,
        limits=(448, 2048) if is_small else None,
        page=drive_file(drive),
    )


def _paddle_seg(size: str, miou: float) -> PublishedFile:
    run = f"topformer_{size}_ade20k_512x512_160k"
    return PublishedFile(
        name=f"{run}.pdparams",
        model=f"topformer_seg_{size}",
        task="semantic_segmentation",
        metrics=(("mIoU", miou),),
        dataset=ADE20K,
        source=PADDLE_SEG,
        licence=APACHE,
        preprocessing=INSIDE_2048_512,
        url=f"{PADDLE_SERVER}/ade20k/{run}/model.pdparams",
    )


def _paddle_seg_backbone(size: str) -> PublishedFile:
    name = f"topformer_{size}_imagenet_pretrained"
    return PublishedFile(
        name=f"{name}.pdparams",
        model=f"topformer_{size}",
        task="classification",
        metrics=(),
        dataset=IMAGENET,
        source=PADDLE_SEG,
        licence=APACHE,
        preprocessing=CROP_224,
        page=f"{PADDLE_SERVER}/backbone/{name}.zip",
        remark="an archive: unpack it and take the .pdparams file inside",
    )


CONVERTED = "the authors' weights, converted for Paddle"

FILES = (
    _paddle_vit(
        "topformer_tiny", "tiny", "1CXhp26GYA-yIUvf1PEEVuhKUt2Qq_EoS", 65.98, 87.32, CONVERTED
    ),
    _paddle_vit(
        "topformer_small", "small", "1-eJLnHhwpy_6kLKOG-pAvSfKdHePurUz", 72.44, 91.17, CONVERTED
    ),
    _paddle_vit(
        "topformer_base", "base", "1jC_NVpaTRqFJ4ACnv_TTs9kH1yPvHE4H", 75.25, 92.67, CONVERTED
    ),
    _paddle_vit(
        "topformer_base_from_scratch",
        "base",
        "1dUCl4MznaYgv4M9zzmgx45fSOFn5k7Dh",
        74.22,
        91.74,
        "trained by PaddleViT; the numbers are those of the averaged weights",
    ),
    *(_authors_imagenet(size) for size in ("tiny", "small", "base")),
    *(_paddle_seg_backbone(size) for size in ("tiny", "small", "base")),
    _paddle_seg("tiny", 32.49),
    _paddle_seg("small", 35.60),
    _paddle_seg("base", 38.28),
    _authors_ade20k("tiny", "448x448_2x8_160k", "1HsdinQHVKGzi8INJy29L48Ho1MmIeCZN", 32.5),
    _authors_ade20k("tiny", "448x448_4x8_160k", "1UW6kmt5oxssxHylGaZg5CByP7xcFrOcF", 33.4),
    _authors_ade20k("tiny", "512x512_2x8_160k", "11mxM2roRD-wXRYjw7YzKQVbQs2jsvYYw", 33.6),
    _authors_ade20k("tiny", "512x512_4x8_160k", "1OnS3_PwjJuNMWCKisreNxw_Lma8uR8bV", 34.6),
    _authors_ade20k("small", "512x512_2x8_160k", "16TJLt_lxJ-QvrDmYvhY_6vxRCYpyIN1n", 36.5),
    _authors_ade20k("small", "512x512_4x8_160k", "19041fMb4HuDyNhIYdW1r5612FyzpexP0", 37.0),
    _authors_ade20k("base", "512x512_2x8_160k", "1pYUUB4N6FVjXt1NKygtQis5WmhGECrNt", 38.3),
    _authors_ade20k("base", "512x512_4x8_160k", "1m7CxYKWAyJzl5W3cj1vwsW4DfqAb_rqz", 39.2),
)
