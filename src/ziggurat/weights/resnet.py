"""ResNets on ImageNet: torchvision's, and those that FPT starts from (Caffe's and Detectron's)."""

from ziggurat.weights.published_file import CC_BY_SA, IMAGENET, PublishedFile, drive_file

FPT = "https://github.com/dongzhang89/FPT/blob/master/README.md"
TORCHVISION = "https://docs.pytorch.org/vision/stable/models.html"
DETECTRON = "https://github.com/facebookresearch/Detectron/blob/main/MODEL_ZOO.md"
DETECTRON_GN = "https://github.com/facebookresearch/Detectron/blob/main/projects/GN/README.md"
DETECTRON_SERVER = "https://dl.fbaipublicfiles.com/detectron/ImageNetPretrained"

CAFFE_PIXELS = "blue, green, red from 0 to 255, mean subtracted, not divided"
STRIDE_IN_1X1 = "stride in the 1x1 convolution, normalisation frozen to scale and shift"


def _torchvision(
    model: str, sha256_prefix: str, top1: float, top5: float, resize: int
) -> PublishedFile:
    return PublishedFile(
        name=f"{model}-{sha256_prefix}.pth",
        model=model,
        task="classification",
        metrics=(("top1", top1), ("top5", top5)),
        dataset=IMAGENET,
        source=TORCHVISION,
        licence="BSD-3-Clause",
        preprocessing=f"short side to {resize} (bilinear), middle 224 x 224, ImageNet mean and "
        "deviation",
        url=f"https://download.pytorch.org/models/{model}-{sha256_prefix}.pth",
        # torchvision names its files by the first digits of their hash.
        sha256_prefix=sha256_prefix,
        remark="stride in the 3x3 convolution",
    )


def _caffe(model: str, drive: str) -> PublishedFile:
    return PublishedFile(
        name=f"{model}.pth",
        model=model,
        task="classification",
        metrics=(),
        dataset=IMAGENET,
        source=FPT,
        licence=None,
        preprocessing=CAFFE_PIXELS,
        page=drive_file(drive),
        remark=STRIDE_IN_1X1,
    )


def _detectron(
    path: str,
    model: str,
    remark: str,
    *,
    source: str = DETECTRON,
    metrics: tuple[tuple[str, float], ...] = (),
) -> PublishedFile:
    return PublishedFile(
        name=path.rsplit("/", 1)[-1],
        model=model,
        task="classification",
        metrics=metrics,
        dataset=IMAGENET,
        source=source,
        licence=CC_BY_SA,
        preprocessing=CAFFE_PIXELS,
        url=f"{DETECTRON_SERVER}/{path}",
        remark=remark,
    )


def _detectron_gn(path: str, model: str, top1: float) -> PublishedFile:
    # The page states errors, 24.0 and 22.6 %.
    metrics = (("top1", top1),)
    return _detectron(path, model, "group normalisation", source=DETECTRON_GN, metrics=metrics)


FILES = (
    _torchvision("resnet50", "0676ba61", 76.13, 92.862, 256),
    _torchvision("resnet50", "11ad3fa6", 80.858, 95.434, 232),
    _torchvision("resnet101", "63fe2227", 77.374, 93.546, 256),
    _torchvision("resnet101", "cd907fc2", 81.886, 95.78, 232),
    _torchvision("resnet152", "394f9c45", 78.312, 94.046, 256),
    _torchvision("resnet152", "f82ba261", 82.284, 96.002, 232),
    _torchvision("resnext101_32x8d", "8ba56ff5", 79.312, 94.526, 256),
    _torchvision("resnext101_32x8d", "110c445d", 82.834, 96.228, 232),
    _caffe("resnet50_caffe", "1wHSvusQ1CiEMc5Nx5R8adqoHQjIDWXl1"),
    _caffe("resnet101_caffe", "1x2fTMqLrn63EMW0VuK4GEa2eQKzvJ_7l"),
    _caffe("resnet152_caffe", "1NSCycOb7pU0KzluH326zmyMFUU55JslF"),
    _detectron("MSRA/R-50.pkl", "resnet50_caffe", STRIDE_IN_1X1),
    _detectron("MSRA/R-101.pkl", "resnet101_caffe", STRIDE_IN_1X1),
    _detectron_gn("47261647/R-50-GN.pkl", "resnet50_gn", 76.0),
    _detectron_gn("47592356/R-101-GN.pkl", "resnet101_gn", 77.4),
    _detectron("20171220/X-101-32x8d.pkl", "resnext101_32x8d_caffe2", "normalisation frozen"),
    _detectron("FBResNeXt/X-101-64x4d.pkl", "resnext101_64x4d", "normalisation frozen"),
    _detectron("25093814/X-152-32x8d-IN5k.pkl", "resnext152_32x8d", "trained on ImageNet-5k"),
)
