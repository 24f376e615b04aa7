"""What timm's tools ask of every model, and our families answer differently.

A model has four features, fine to coarse: the maps after the four stages; of GPViT, which has one
stage, the maps after every third block; of TopFormer, the three finer token maps and the semantics,
in which all tokens are.

Shapes: B images, C channels, H x W map, N = H * W tokens.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ziggurat.backbones.gpvit import GPViT
from ziggurat.backbones.p2t import P2T
from ziggurat.backbones.pvt import PVT, SMALLEST_IMAGE
from ziggurat.backbones.pvt_v2 import PVTv2
from ziggurat.backbones.topformer import TOKEN_STRIDES, TopFormer
from ziggurat.layers.checkpointing import run_block
from ziggurat.layers.tokens import to_map, to_tokens

NUM_FEATURES = 4
BLOCKS_PER_FEATURE = 3
"""Of GPViT: its official dense-prediction backbones read blocks 2, 5, 8 and 11."""

JOINS_PREVIOUS = (99999,)
"""timm's mark in a group matcher: the parameters belong to the group in front of them."""

Staged = P2T | PVT | PVTv2


@dataclass(frozen=True)
class Feature:
    """A map that a model can give.

    Attributes:
        channels: Its number of channels.
        stride: Input pixels per pixel of it.
        module: Name in the backbone of the module whose output it is.
    """

    channels: int
    stride: int
    module: str


@dataclass(frozen=True)
class Family:
    """How timm's tools see the backbones of a family; all but `layers` take the backbone first.

    Attributes:
        features: The four features, fine to coarse.
        steps: Given images, yields the map of each feature as soon as it is there, and at last
            what the head reads.
        normed: Given the index of a feature and its map, the map behind the norm at the end of the
            backbone; the map itself where there is none or it was made for other channels.
        prune: Given a number of features and whether no norm is asked for, takes off what the
            first ones can do without.
        layers: The patterns of timm's group matcher, which order parameters from input to output:
            one group a block, or one a stage if coarse.
        smallest_image: Shortest side, in pixels, of which the backbone makes all features.
        undecayed: Last part of the names of parameters that have dimensions like weights, but
            should not decay.
    """

    features: Callable[[Any], list[Feature]]
    steps: Callable[[Any, Tensor], Iterator[Tensor]]
    normed: Callable[[Any, int, Tensor], Tensor]
    prune: Callable[[Any, int, bool], None]
    layers: Callable[[bool], dict[str, Any]]
    smallest_image: Callable[[Any], int] = lambda _: 1
    undecayed: tuple[str, ...] = ()


def _channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)


def _as_it_is(backbone: nn.Module, index: int, x: Tensor) -> Tensor:
    return x


# PVT, PVT v2, P2T


def _features_of_stages(backbone: Staged) -> list[Feature]:
    return [
        Feature(channels, stride, f"stages.{i}")
        for i, (channels, stride) in enumerate(
            zip(backbone.out_channels, backbone.out_strides, strict=True)
        )
    ]


def _run_stages(backbone: Staged, images: Tensor) -> Iterator[Tensor]:
    x = _channels_last(images)
    for stage in backbone.stages:
        x = stage(x)
        yield x
    yield x


def _prune_stages(backbone: Staged, count: int, without_norm: bool) -> None:
    del backbone.stages[count:]


def _layers_of_stages(coarse: bool) -> dict[str, Any]:
    stem = r"^backbone\.stages\.0\.(?:patch_embed|pos_embed)"
    stage = r"^backbone\.stages\.(\d+)"
    last_norm = (r"^backbone\.norm", JOINS_PREVIOUS)
    if coarse:
        return {"stem": stem, "blocks": [(stage, None), last_norm]}
    blocks = [
        (stage + r"\.blocks\.(\d+)", None),
        (stage + r"\.norm", JOINS_PREVIOUS),
        # Patch and position embedding, class token, the convolutions that P2T's blocks share:
        # whatever else a stage has, its first block needs.
        (stage, (0,)),
        last_norm,
    ]
    return {"stem": stem, "blocks": blocks}


def _run_pvt(backbone: PVT, images: Tensor) -> Iterator[Tensor]:
    x = _channels_last(images)
    for stage in backbone.stages:
        x = stage(x)
        if stage.cls_token is None:
            yield x
        else:
            grid = (images.shape[2] // 32, images.shape[3] // 32)
            yield _channels_last(to_map(to_tokens(x)[:, 1:], grid))
    yield x if backbone.norm is None else backbone.norm(to_tokens(x))


def _normed_by_pvt(backbone: PVT, index: int, x: Tensor) -> Tensor:
    if backbone.norm is None or index < NUM_FEATURES - 1:
        return x
    return to_map(backbone.norm(to_tokens(x)), x.shape[2:])


def _prune_pvt(backbone: PVT, count: int, without_norm: bool) -> None:
    del backbone.stages[count:]
    if without_norm or count < NUM_FEATURES:
        backbone.norm = None


# GPViT


def _features_of_gpvit(backbone: GPViT) -> list[Feature]:
    after = range(BLOCKS_PER_FEATURE - 1, len(backbone.blocks), BLOCKS_PER_FEATURE)
    return [Feature(backbone.num_features, backbone.out_strides[0], f"blocks.{i}") for i in after]


def _run_gpvit(backbone: GPViT, images: Tensor) -> Iterator[Tensor]:
    x = backbone.patch_embed(images)
    for i, block in enumerate(backbone.blocks, start=1):
        x = run_block(block, x, use_checkpointing=backbone.use_checkpointing)
        if i % BLOCKS_PER_FEATURE == 0:
            yield x
    yield _normed_by_gpvit(backbone, NUM_FEATURES - 1, x)


def _normed_by_gpvit(backbone: GPViT, index: int, x: Tensor) -> Tensor:
    for norm in backbone.norms.values():  # one, or none after pruning
        x = norm(x)
    return x


def _prune_gpvit(backbone: GPViT, count: int, without_norm: bool) -> None:
    del backbone.blocks[count * BLOCKS_PER_FEATURE :]
    if without_norm:
        backbone.norms.clear()


def _layers_of_gpvit(coarse: bool) -> dict[str, Any]:
    block = r"^backbone\.blocks" if coarse else r"^backbone\.blocks\.(\d+)"
    return {
        "stem": r"^backbone\.patch_embed",
        "blocks": [(block, None), (r"^backbone\.norms", JOINS_PREVIOUS)],
    }


# TopFormer


def _features_of_topformer(backbone: TopFormer) -> list[Feature]:
    tokens = zip(backbone.token_channels, TOKEN_STRIDES, backbone.pyramid.token_rows, strict=True)
    finer = [
        Feature(channels, stride, f"pyramid.layers.{row}") for channels, stride, row in tokens
    ][:-1]
    last_block = f"blocks.{len(backbone.blocks) - 1}"
    return [*finer, Feature(backbone.num_features, TOKEN_STRIDES[-1], last_block)]


def _run_topformer(backbone: TopFormer, images: Tensor) -> Iterator[Tensor]:
    tokens = backbone.tokens(images)
    # By index: torch.compile cannot close a `yield from` that is left early.
    for i in range(min(len(tokens), NUM_FEATURES - 1)):
        yield tokens[i]
    if len(backbone.blocks) == 0:
        yield tokens[-1]
        return
    x = backbone.semantics(tokens)
    yield x
    yield x


def _prune_topformer(backbone: TopFormer, count: int, without_norm: bool) -> None:
    if count < NUM_FEATURES:
        del backbone.blocks[:]
        del backbone.pyramid.layers[backbone.pyramid.token_rows[count - 1] + 1 :]


def _layers_of_topformer(coarse: bool) -> dict[str, Any]:
    number = "" if coarse else r"\.(\d+)"
    return {
        "stem": r"^backbone\.pyramid\.stem",
        "pyramid": rf"^backbone\.pyramid\.layers{number}",
        "blocks": rf"^backbone\.blocks{number}",
    }


FAMILIES: Mapping[type[nn.Module], Family] = {
    PVT: Family(
        features=_features_of_stages,
        steps=_run_pvt,
        normed=_normed_by_pvt,
        prune=_prune_pvt,
        layers=_layers_of_stages,
        smallest_image=lambda _: SMALLEST_IMAGE,
        undecayed=("cls_token",),
    ),
    PVTv2: Family(
        features=_features_of_stages,
        steps=_run_stages,
        normed=_as_it_is,
        prune=_prune_stages,
        layers=_layers_of_stages,
        smallest_image=lambda backbone: backbone.smallest_image,
    ),
    P2T: Family(
        features=_features_of_stages,
        steps=_run_stages,
        normed=_as_it_is,
        prune=_prune_stages,
        layers=_layers_of_stages,
    ),
    TopFormer: Family(
        features=_features_of_topformer,
        steps=_run_topformer,
        normed=_as_it_is,
        prune=_prune_topformer,
        layers=_layers_of_topformer,
    ),
    GPViT: Family(
        features=_features_of_gpvit,
        steps=_run_gpvit,
        normed=_normed_by_gpvit,
        prune=_prune_gpvit,
        layers=_layers_of_gpvit,
        undecayed=("pos_embed", "group_token"),
    ),
}
