"""Names of ResNets in the files of torchvision and timm, of FPT, and of Detectron.

Caffe weights that were converted to PyTorch have torchvision's names. Which images a file was
trained on, normalised RGB (torchvision, timm) or BGR from 0 to 255 minus a mean (Caffe, Detectron,
FPT), is seen from its names or from the statistics behind its first convolution.
"""

from collections.abc import Mapping

from torch import Tensor

from ziggurat.checkpoints.names import WITHOUT_BATCH_COUNTS, NameMap

Renames = tuple[tuple[str, str], ...]

SCALE_AND_SHIFT = "weight|bias"
STATISTICS = "weight|bias|running_mean|running_var"
COUNTED_STATISTICS = "weight|bias|running_mean|running_var|num_batches_tracked"


def _pytorch(stem: str, stages: tuple[str, ...], norm: str) -> NameMap:
    """Make a table of torchvision's names, below other names of the stem and of the stages.

    Args:
        stem: Pattern of what stands in front of the stem.
        stages: Pattern of what each stage is called.
        norm: Entries of a norm, separated by bars.
    """
    renames: Renames = (
        (rf"{stem}conv1\.weight", "stem.conv.weight"),
        (rf"{stem}[bg]n1\.({norm})", r"stem.norm.\1"),
    )
    for i, stage in enumerate(stages):
        block, own = rf"{stage}\.(\d+)", rf"stages.{i}.blocks.\1"
        renames += (
            (rf"{block}\.conv(\d)\.weight", rf"{own}.conv\2.conv.weight"),
            (rf"{block}\.[bg]n(\d)\.({norm})", rf"{own}.conv\2.norm.\3"),
            (rf"{block}\.downsample\.0\.weight", rf"{own}.shortcut.conv.weight"),
            (rf"{block}\.downsample\.1\.({norm})", rf"{own}.shortcut.norm.\2"),
        )
    return NameMap(renames)


def _detectron() -> NameMap:
    renames: Renames = (
        ("conv1_w", "stem.conv.weight"),
        (r"(?:res_conv1_bn|conv1_gn)_s", "stem.norm.weight"),
        (r"(?:res_conv1_bn|conv1_gn)_b", "stem.norm.bias"),
    )
    branches = {"1": "shortcut", "2a": "conv1", "2b": "conv2", "2c": "conv3"}
    for i in range(4):
        for branch, layer in branches.items():
            start = rf"res{i + 2}_(\d+)_branch{branch}"
            own = rf"stages.{i}.blocks.\1.{layer}"
            renames += (
                (rf"{start}_w", rf"{own}.conv.weight"),
                (rf"{start}_[bg]n_s", rf"{own}.norm.weight"),
                (rf"{start}_[bg]n_b", rf"{own}.norm.bias"),
            )
    return NameMap(renames)


CLASSIFIER = NameMap(ignored=((r"fc\..+", "ImageNet classifier, not part of a backbone"),))

BATCH_COUNTS = NameMap(
    ignored=((r"(.+\.)?num_batches_tracked", "count of training batches, which frozen norms lack"),)
)

FOLDED_STATISTICS = NameMap(
    absent=(
        (
            r"(.+\.)?running_(mean|var)",
            "statistics of batch norms, which the file has folded into scales and shifts",
        ),
    )
)

OPTIMIZER_AND_CLASSIFIER = NameMap(
    ignored=(
        (r".+_momentum|lr", "state of the optimizer"),
        (r"(fc1000|pred)_[wb]", "ImageNet classifier, not part of a backbone"),
        (
            r"conv1_b|res\d_\d+_branch\d[abc]?_b",
            "bias of a convolution in front of a norm, which has its own",
        ),
    )
)

OTHER_BLOBS = OPTIMIZER_AND_CLASSIFIER + NameMap(
    ignored=(
        (
            r"(_?\[?mask|conv5_mask|fpn_|conv_rpn|rpn_|head_conv|fc[67]_|cls_score|bbox_pred).*",
            "part of a detector of which only the backbone is loaded",
        ),
    )
)

OTHER_PARTS_OF_FPT = NameMap(
    ignored=(
        (
            r"(Conv_Body\.(?!conv_body\.)|RPN\.|Box_|Mask_|Keypoint_).+",
            "part of a detector of which only the backbone is loaded",
        ),
    )
)

TORCHVISION_STAGES = ("layer1", "layer2", "layer3", "layer4")
FPT_STAGES = ("res2", "res3", "res4", "res5")

# Whole layouts; a file is in one of them, and of two that know it equally well the first is taken.
# Old files, and those from Caffe, have no counts of batches.
TORCHVISION_FROZEN = (
    _pytorch("", TORCHVISION_STAGES, STATISTICS) + CLASSIFIER + BATCH_COUNTS + WITHOUT_BATCH_COUNTS
)
"""For models whose norms are frozen; one that learns finds more of its entries in the next."""
TORCHVISION = _pytorch("", TORCHVISION_STAGES, COUNTED_STATISTICS) + CLASSIFIER
FPT_BODY = _pytorch(r"res1\.", FPT_STAGES, SCALE_AND_SHIFT) + FOLDED_STATISTICS
FPT = FPT_BODY + FPT_BODY.under("Conv_Body.conv_body.", "") + OTHER_PARTS_OF_FPT
BLOBS = _detectron() + FOLDED_STATISTICS
DETECTRON = BLOBS + OTHER_BLOBS
BACKBONE = (TORCHVISION_FROZEN, TORCHVISION, FPT, DETECTRON)

LARGEST_GAIN = 500.0
"""Variance behind the first convolution for the square of its weights: of normalised pixels at most
their number below a filter, 147, and of levels, whose variance is some 3500, thousands."""


def saw_levels(weights: Mapping[str, Tensor]) -> bool | None:
    """Tell whether a ResNet was trained on BGR levels 0..255; None where the file does not say.

    Args:
        weights: Entries of a file.
    """
    of_caffe2 = DETECTRON + FPT
    if any(of_caffe2.own_name(name) == "stem.conv.weight" for name in weights):
        return True
    weight, variance = weights.get("conv1.weight"), weights.get("bn1.running_var")
    if weight is None or variance is None:
        return None
    # Of all filters together: one that is all but zero says nothing.
    return float(variance.double().sum() / weight.double().square().sum()) > LARGEST_GAIN
