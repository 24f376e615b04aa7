"""Names of the Feature Pyramid Transformer in its published code, whose levels are p2 to p5.

No trained weights were ever published; the names are those that its all-pairs network would store.
"""

from ziggurat.checkpoints.names import NameMap

Renames = tuple[tuple[str, str], ...]

LEVELS = (2, 3, 4, 5)

SELF: Renames = (
    (r"conv_qs\.(.+)", r"qk.\1"),
    (r"conv_vs\.(.+)", r"v.\1"),
    (r"attention\.weight", "prior.weight"),
    (r"conv\.weight", "proj.weight"),
    (r"norm_layer\.(.+)", r"norm.\1"),
)
GROUNDING: Renames = (
    (r"theta\.(.+)", r"q.\1"),
    (r"phi\.(.+)", r"k.\1"),
    (r"g\.(.+)", r"v.\1"),
    (r"W_z\.0\.(.+)", r"proj.\1"),
    (r"W_z\.1\.(.+)", r"norm.\1"),
)
RENDERING: Renames = (
    (r"conv1x1\.weight", "gate.conv.weight"),
    (r"bn_low\.(.+)", r"gate.norm.\1"),
    (r"conv3x3\.weight", "coarse.conv.weight"),
    (r"bn_high\.(.+)", r"coarse.norm.\1"),
    (r"str_conv3x3\.weight", "fine.conv.weight"),
    (r"bn_reduction\.(.+)", r"fine.norm.\1"),
)


def _below(official: str, own: str, names: Renames) -> Renames:
    return tuple((rf"{official}\.{pattern}", f"{own}.{name}") for pattern, name in names)


def _renames() -> Renames:
    renames: Renames = ()
    for i, level in enumerate(LEVELS):
        renames += (
            (rf"fpn_p{level}_1x1\.(?:0\.)?(weight|bias)", rf"laterals.{i}.0.\1"),
            (rf"fpn_p{level}_1x1\.1\.(.+)", rf"laterals.{i}.1.\1"),
            (rf"fpt_p{level}\.(?:0\.)?(weight|bias)", rf"fusions.{i}.conv.\1"),
            (rf"fpt_p{level}\.1\.(.+)", rf"fusions.{i}.norm.\1"),
            *_below(f"st_p{level}", f"selfs.{i}", SELF),
        )
        for j, coarse in enumerate(LEVELS[i + 1 :], i + 1):
            renames += _below(f"gt_p{level}_p{coarse}", f"grounds.{i}_{j}", GROUNDING)
            renames += _below(f"rt_p{coarse}_p{level}", f"renders.{j}_{i}", RENDERING)
    return renames


ALL_PAIRS = NameMap(
    renames=_renames(),
    ignored=(
        (r"rt_p\d_p\d\.(conv_reduction|conv_cat)\.weight", "never used by the published code"),
    ),
    repeated=(
        (
            r"(st_p\d)\.conv_ks\.(.+)",
            r"\1.conv_qs.\2",
            "conv_ks is a second name of conv_qs, which makes queries and keys",
        ),
    ),
)

SIMPLIFIED = r"st|rt|conv_top|ground_lateral_modules|posthoc_modules|fpt_rendering_conv\d_modules"
"""Parts of the network that the published configurations mean, in front of the dot."""
NOT_OFFERED = (
    "part of the simplified transformer of the published configurations, which gives 0 on its "
    "finest levels at its start and is not offered"
)

OTHER_PARTS = NameMap(
    ignored=(
        (
            r"(Conv_Body\.conv_body\.|RPN\.|Box_|Mask_|Keypoint_).+",
            "part of a detector of which only the pyramid is loaded",
        ),
    )
)
