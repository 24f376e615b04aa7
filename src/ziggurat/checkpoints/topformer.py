"""Names in the files of github.com/hustvl/TopFormer, PaddleSeg and github.com/BR-IDL/PaddleViT.

The first two share their names and publish segmenters, whose backbone is under `backbone.`, and
classifiers; PaddleViT publishes classifiers under names of its own. Inverted residuals are counted
from 1 in the first layout, from 0 in the second and in ours; the very first has no expansion, so
that what follows in it has lower numbers than elsewhere.
"""

from ziggurat.checkpoints.names import WITHOUT_BATCH_COUNTS, NameMap

Renames = tuple[tuple[str, str], ...]

NUM_ROWS = 10
"""Inverted residuals of the larger variants; Tiny has one less."""


def _norm(official: str, own: str) -> Renames:
    """Name a batch norm, whose statistics PyTorch and Paddle call differently."""
    same = "weight|bias|running_mean|running_var|num_batches_tracked"
    return (
        (rf"{official}\.(?P<entry>{same})", rf"{own}.\g<entry>"),
        (rf"{official}\._mean", f"{own}.running_mean"),
        (rf"{official}\._variance", f"{own}.running_var"),
    )


def _conv_norm(conv: str, norm: str, own: str) -> Renames:
    return ((rf"{conv}\.weight", f"{own}.conv.weight"), *_norm(norm, f"{own}.norm"))


def _hustvl_row(index: int) -> Renames:
    parts = ("depthwise", "project") if index == 0 else ("expand", "depthwise", "project")
    renames: Renames = ()
    for position, part in enumerate(parts):
        # Every second number is an activation.
        official = rf"tpm\.layer{index + 1}\.conv\.{2 * position}"
        own = f"pyramid.layers.{index}.{part}"
        renames += _conv_norm(rf"{official}\.c", rf"{official}\.bn", own)
    return renames


def _paddlevit_row(index: int) -> Renames:
    parts = ("depthwise",) if index == 0 else ("expand", "depthwise")
    start, own = rf"tpm\.layers\.{index}\.conv", f"pyramid.layers.{index}"
    renames: Renames = ()
    for position, part in enumerate(parts):
        official = rf"{start}\.{position}"
        renames += _conv_norm(rf"{official}\.conv", rf"{official}\.norm", f"{own}.{part}")
    # The projection has no activation, and its two layers stand bare.
    conv, norm = len(parts), len(parts) + 1
    return renames + _conv_norm(rf"{start}\.{conv}", rf"{start}\.{norm}", f"{own}.project")


def _injections() -> Renames:
    renames: Renames = ()
    parts = {"local_embedding": "local", "global_act": "gate", "global_embedding": "shift"}
    for number in (1, 2, 3):
        for theirs, ours in parts.items():
            official = rf"SIM\.{number}\.{theirs}"
            own = f"injections.{number - 1}.{ours}"
            renames += _conv_norm(rf"{official}\.conv", rf"{official}\.bn", own)
    return renames


def _blocks(start: str, query: str, conv: str, norm: str) -> Renames:
    block, own = rf"{start}\.(\d+)", r"blocks.\1"
    renames: Renames = ()
    for theirs, ours in (
        (rf"attn\.{query}(q|k|v)", r"attn.\2"),
        (r"attn\.(proj)\.1", r"attn.\2"),
        (r"mlp\.(fc1|fc2)", r"mlp.\2"),
    ):
        part = rf"{block}\.{theirs}"
        renames += _conv_norm(rf"{part}\.{conv}", rf"{part}\.{norm}", f"{own}.{ours}")
    return (*renames, (rf"{block}\.mlp\.dwconv\.(weight|bias)", rf"{own}.mlp.dwconv.\2"))


HUSTVL_FEATURES = NameMap(
    renames=(
        *_conv_norm(r"tpm\.stem\.0\.c", r"tpm\.stem\.0\.bn", "pyramid.stem"),
        *(rename for index in range(NUM_ROWS) for rename in _hustvl_row(index)),
        *_blocks(r"trans\.transformer_blocks", "to_", "c", "bn"),
        *_injections(),
    )
)

PADDLEVIT_FEATURES = NameMap(
    renames=(
        *_conv_norm(r"tpm\.stem\.conv", r"tpm\.stem\.norm", "pyramid.stem"),
        *(rename for index in range(NUM_ROWS) for rename in _paddlevit_row(index)),
        *_blocks(r"trans\.layers", "", "conv", "norm"),
    )
)

HEAD = NameMap(
    renames=(
        *_norm(r"head\.bn", "head.pool.bn"),
        (r"head\.l\.(weight|bias)", r"head.fc.\1"),
    )
)

PADDLE_HEAD = HEAD + NameMap(transposed=(r"head\.l\.weight",))

UNUSED_HEAD = NameMap(
    ignored=((r"head\.(bn|l)\..+", "ImageNet classifier, not part of a backbone"),)
)
NOT_IN_CLASSIFIERS = NameMap(
    absent=(
        (
            r"injections\..+",
            "semantics injection, which classifiers do not have; it is trained from its start",
        ),
    )
)
"""What a classifier's file need not have for the backbone of a segmenter."""

# Whole layouts; a file is in one of them. PaddleSeg writes the first without counts of batches.
HUSTVL_CLASSIFIER = HUSTVL_FEATURES.under("", "backbone.") + HEAD + WITHOUT_BATCH_COUNTS
HUSTVL_BACKBONE = HUSTVL_FEATURES + UNUSED_HEAD + WITHOUT_BATCH_COUNTS
PADDLEVIT_CLASSIFIER = (
    PADDLEVIT_FEATURES.under("", "backbone.") + PADDLE_HEAD + WITHOUT_BATCH_COUNTS
)
PADDLEVIT_BACKBONE = PADDLEVIT_FEATURES + UNUSED_HEAD + WITHOUT_BATCH_COUNTS
CLASSIFIER = (HUSTVL_CLASSIFIER, PADDLEVIT_CLASSIFIER)
BACKBONE = (HUSTVL_BACKBONE, PADDLEVIT_BACKBONE)
