"""Names in the files of github.com/ChenhongyiYang/GPViT: classifiers, segmenters and detectors.

Blocks of both kinds are `layers.N` in the official names; what is in them tells them apart.
"""

from math import isqrt

from jaxtyping import Float
from torch import Tensor

from ziggurat.backbones.gpvit import resize_positions
from ziggurat.checkpoints.names import NameMap, Shape
from ziggurat.errors import ZigguratError
from ziggurat.layers.tokens import to_tokens

BATCH_NORM = "weight|bias|running_mean|running_var|num_batches_tracked"
LAYER = r"layers\.(\d+)"


def resize_position_embedding(
    value: Float[Tensor, "1 N C"], shape: Shape
) -> Float[Tensor, "1 M C"]:
    """Interpolate a position embedding to our grid as the model itself does, bicubically.

    Args:
        value: Position embedding of a file.
        shape: Shape of ours.

    Raises:
        ZigguratError: If the file's embedding is not one of a square grid.
    """
    if isqrt(value.shape[1]) ** 2 != value.shape[1]:
        raise ZigguratError(
            f"a position embedding has {value.shape[1]} rows, expected those of a square grid; "
            "resize it to one before loading"
        )
    side = isqrt(shape[1])
    return to_tokens(resize_positions(value.float(), side, side))


def _conv_norm(official: str, index: int, own: str) -> tuple[tuple[str, str], ...]:
    """Return the names of a convolution and of its norm, which follows it in a sequence."""
    return (
        (rf"{official}\.{index}\.weight", f"{own}.conv.weight"),
        (rf"{official}\.{index + 1}\.({BATCH_NORM})", rf"{own}.norm.\1"),
    )


PATCH_EMBED = (
    (r"pos_embed", r"patch_embed.pos_embed"),
    (r"patch_embed\.projection\.(weight|bias)", r"patch_embed.proj.\1"),
    *_conv_norm(r"patch_embed\.stem", 0, "patch_embed.stem.0"),
    *_conv_norm(r"patch_embed\.convs", 0, "patch_embed.stem.1"),
    *_conv_norm(r"patch_embed\.convs", 3, "patch_embed.stem.2"),
)

STRIPE_BLOCK = (
    (rf"{LAYER}\.(norm1|norm2)\.(weight|bias)", r"blocks.\1.\2.\3"),
    (rf"{LAYER}\.(qkv|proj)\.(weight|bias)", r"blocks.\1.attn.\2.\3"),
    (rf"{LAYER}\.attns\.([01])\.get_v\.(weight|bias)", r"blocks.\1.attn.lepe.\2.\3"),
    (rf"{LAYER}\.ffn\.layers\.0\.0\.(weight|bias)", r"blocks.\1.mlp.fc1.\2"),
    (rf"{LAYER}\.ffn\.layers\.1\.(weight|bias)", r"blocks.\1.mlp.fc2.\2"),
    (rf"{LAYER}\.dw\.weight", r"blocks.\1.dwconv.weight"),
)

GROUP = rf"{LAYER}\.group_layer"
MIXER = rf"{LAYER}\.mixer\.layers\.0"
UNGROUP = rf"{LAYER}\.un_group_layer"
GROUP_PROPAGATION_BLOCK = (
    (rf"{LAYER}\.group_token", r"blocks.\1.group_token"),
    (rf"{GROUP}\.(norm_query|norm_key)\.(weight|bias)", r"blocks.\1.group.\2.\3"),
    (rf"{GROUP}\.attn\.k_proj\.(weight|bias)", r"blocks.\1.group.k.\2"),
    (rf"{MIXER}\.(norm1|norm2)\.(weight|bias)", r"blocks.\1.mixer.\2.\3"),
    (rf"{MIXER}\.patch_mixer\.0\.(weight|bias)", r"blocks.\1.mixer.token_mlp.0.\2"),
    (rf"{MIXER}\.patch_mixer\.3\.(weight|bias)", r"blocks.\1.mixer.token_mlp.2.\2"),
    (rf"{MIXER}\.channel_mixer\.0\.(weight|bias)", r"blocks.\1.mixer.channel_mlp.0.\2"),
    (rf"{MIXER}\.channel_mixer\.3\.(weight|bias)", r"blocks.\1.mixer.channel_mlp.2.\2"),
    (rf"{UNGROUP}\.(norm_query|norm_key)\.(weight|bias)", r"blocks.\1.ungroup.\2.\3"),
    (rf"{UNGROUP}\.attn\.(q|k|v)_proj\.(weight|bias)", r"blocks.\1.ungroup.\2.\3"),
    (rf"{UNGROUP}\.attn\.proj\.(weight|bias)", r"blocks.\1.ungroup.proj.\2"),
    (rf"{UNGROUP}\.proj\.(weight|bias)", r"blocks.\1.ungroup.merge.\2"),
    (rf"{UNGROUP}\.norm2\.(weight|bias)", r"blocks.\1.norm2.\2"),
    (rf"{UNGROUP}\.ffn\.layers\.0\.0\.(weight|bias)", r"blocks.\1.mlp.fc1.\2"),
    (rf"{UNGROUP}\.ffn\.layers\.1\.(weight|bias)", r"blocks.\1.mlp.fc2.\2"),
    (rf"{LAYER}\.dwconv\.0\.weight", r"blocks.\1.dwconv.conv.weight"),
    (rf"{LAYER}\.dwconv\.1\.({BATCH_NORM})", r"blocks.\1.dwconv.norm.\2"),
)

TRANSFORMER = NameMap(
    renames=PATCH_EMBED + STRIPE_BLOCK + GROUP_PROPAGATION_BLOCK,
    resized=((r"patch_embed\.pos_embed", resize_position_embedding),),
)

NORMS = NameMap(
    renames=(
        (r"ln1\.(weight|bias)", r"norms.11.\1"),
        (r"norm(2|5|8)\.(weight|bias)", r"norms.\1.\2"),
    )
)
NOT_IN_CLASSIFIERS = NameMap(
    absent=(
        (
            r"norms\.(?!11\.).+",
            "norms of inner maps, which ImageNet files do not have; they start at 1 and 0",
        ),
    )
)
"""What a classifier's file need not have for the backbone of a segmenter."""

SAMPLING = r"(sampling_offsets|attention_weights|value_proj|output_proj)\.(weight|bias)"


def _interaction(official: str, own: str) -> tuple[tuple[str, str], ...]:
    r"""Return the names of an injector or of an extractor, whose number is \1 in both names."""
    return (
        (rf"{official}\.gamma", rf"{own}.gamma"),
        (rf"{official}\.(query_norm|feat_norm|ffn_norm)\.(weight|bias)", rf"{own}.\2.\3"),
        (rf"{official}\.attn\.{SAMPLING}", rf"{own}.attn.\2.\3"),
        (rf"{official}\.ffn\.(fc1|fc2)\.(weight|bias)", rf"{own}.mlp.\2.\3"),
        (rf"{official}\.ffn\.dwconv\.dwconv\.(weight|bias)", rf"{own}.mlp.dwconv.\2"),
    )


PYRAMID = NameMap(
    renames=(
        (r"level_embed", r"level_embed"),
        *_conv_norm(r"spm\.stem", 0, "prior.stem.0"),
        *_conv_norm(r"spm\.stem", 3, "prior.stem.1"),
        *_conv_norm(r"spm\.stem", 6, "prior.stem.2"),
        *_conv_norm(r"spm\.conv2", 0, "prior.downs.0"),
        *_conv_norm(r"spm\.conv3", 0, "prior.downs.1"),
        *_conv_norm(r"spm\.conv4", 0, "prior.downs.2"),
        (r"spm\.fc1\.(weight|bias)", r"prior.projs.4.\1"),
        (r"spm\.fc2\.(weight|bias)", r"prior.projs.8.\1"),
        (r"spm\.fc3\.(weight|bias)", r"prior.projs.16.\1"),
        (r"spm\.fc4\.(weight|bias)", r"prior.projs.32.\1"),
        *_interaction(r"interactions\.(\d+)\.injector", r"injectors.\1"),
        *_interaction(r"interactions\.(\d+)\.extractor", r"extractors.\1"),
        *_interaction(r"interactions\.3\.extra_extractors\.(0)", r"extractors.4"),
        *_interaction(r"interactions\.3\.extra_extractors\.(1)", r"extractors.5"),
        (r"up\.(weight|bias)", r"up.\1"),
        (rf"ad_norm1\.({BATCH_NORM})", r"norms.4.\1"),
        (rf"ad_norm2\.({BATCH_NORM})", r"norms.8.\1"),
        (rf"ad_norm3\.({BATCH_NORM})", r"norms.16.\1"),
        (rf"ad_norm4\.({BATCH_NORM})", r"norms.32.\1"),
    ),
    ignored=((r"(ln1|norm[258])\.(weight|bias)", "norm of a map that an adapter does not give"),),
)
ADAPTER_NOT_IN_CLASSIFIERS = NameMap(
    absent=(
        (
            r"level_embed|(prior|injectors|extractors|up|norms)\..+",
            "the adapter, which ImageNet files do not have; it keeps its initial values",
        ),
    )
)
"""What a classifier's file need not have for the backbone of a detector."""

HEAD = NameMap(
    renames=(
        (r"neck\.group_token", r"head.pool.group_token"),
        (r"neck\.norm_query\.(weight|bias)", r"head.pool.norm_query.\1"),
        (r"neck\.attn\.k_proj\.weight", r"head.pool.k.weight"),
        (r"head\.fc\.(weight|bias)", r"head.fc.\1"),
    )
)

UNUSED_HEAD = NameMap(
    ignored=(
        (
            r"neck\.(group_token|norm_query\..+|attn\..+)|head\.fc\.(weight|bias)",
            "ImageNet classifier, not part of a backbone",
        ),
    )
)

CLASSIFIER = (TRANSFORMER + NORMS).under("backbone.", "backbone.") + HEAD
BACKBONE = TRANSFORMER + NORMS + UNUSED_HEAD
ADAPTER = TRANSFORMER + PYRAMID + UNUSED_HEAD
