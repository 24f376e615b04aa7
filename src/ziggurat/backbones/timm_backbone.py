"""Any network of timm as a backbone (Wightman, github.com/huggingface/pytorch-image-models).

timm gives features in a dialect of its own: maps of other strides than ours, some with channels
last as a shape, sizes that are fixed unless it is asked, errors in its own words. This file is the
interpreter.

Shapes: B images, C channels, H x W map. Maps are (B, C, H, W) in channels_last memory.
"""

import inspect
import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import timm
import torch
from jaxtyping import Float
from timm.layers.drop import DropPath
from timm.layers.format import Format
from timm.models._features import FeatureGetterNet
from timm.models.mvitv2 import MultiScaleVit
from torch import Tensor, nn

from ziggurat.errors import ZigguratError, did_you_mean
from ziggurat.types import ImageSize

PYRAMID = (4, 8, 16, 32)
"""Strides of the maps that dense prediction wants; finer ones are left out where all are there."""

ANY_SIZE: dict[str, Any] = {
    "strict_img_size": False,
    "dynamic_img_size": True,
    "dynamic_img_pad": True,
}
"""How constructors of timm that know these words are asked for images of any size."""


class TimmBackbone(nn.Module):
    """A network of timm without its classifier, fresh weights.

    It gives the maps of strides 4, 8, 16 and 32, or all maps that timm gives where those four are
    not among them (vision transformers have one stride only). Where the network can take images
    of any size it does; where it cannot, `only_size` is the height and width that it takes.

    Args:
        name: Name of the network in `timm.list_models()`.
        drop_path_rate: Stochastic depth of the last block, where the network has it.
        in_channels: Channels of the images.

    Raises:
        ZigguratError: If timm has no such network, or it has no features or no stochastic depth.
    """

    def __init__(self, name: str, *, drop_path_rate: float = 0.0, in_channels: int = 3) -> None:
        super().__init__()
        check_network_name(name)
        self.name = name
        options: dict[str, Any] = {"in_chans": in_channels}
        if drop_path_rate > 0:
            options["drop_path_rate"] = drop_path_rate
        try:
            facts = _facts_of(name)
            wanted = set(PYRAMID) if set(PYRAMID) <= set(facts.strides) else set(facts.strides)
            network: Any = timm.create_model(
                name,
                features_only=True,
                out_indices=[i for i, stride in enumerate(facts.strides) if stride in wanted],
                **facts.options,
                **options,
            )
        except (AssertionError, AttributeError, RuntimeError, TypeError) as error:
            raise ZigguratError(
                f"timm cannot build {name!r} as a backbone with {options} ({error}); choose "
                "another network, or leave the options at their defaults"
            ) from error
        if drop_path_rate > 0 and not _has_drop_path(network):
            raise ZigguratError(
                f"{name!r} of timm has no stochastic depth, got drop_path_rate={drop_path_rate}; "
                "leave it at 0"
            )
        self.model = network
        self.out_channels: tuple[int, ...] = tuple(network.feature_info.channels())
        self.out_strides: tuple[int, ...] = tuple(network.feature_info.reduction())
        self.is_channels_last_shape = _has_channels_last(network)
        self.only_size = facts.only_size

    def forward(self, images: Float[Tensor, "B in H W"]) -> list[Float[Tensor, "B _ _ _"]]:
        """Return the maps, fine to coarse.

        Args:
            images: Normalised images.

        Raises:
            ZigguratError: If the network takes images of one size and these have another.
        """
        if self.only_size is not None and tuple(images.shape[2:]) != self.only_size:
            height, width = self.only_size
            raise ZigguratError(
                f"{self.name!r} of timm takes images of {height} x {width} pixels only, got "
                f"{images.shape[2]} x {images.shape[3]}; resize them, or choose a network that "
                "takes any size"
            )
        maps = self._features(images.contiguous(memory_format=torch.channels_last))
        if self.is_channels_last_shape:
            maps = [features.permute(0, 3, 1, 2) for features in maps]
        return [features.contiguous(memory_format=torch.channels_last) for features in maps]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute blocks again in the backward pass instead of keeping what is in them.

        Raises:
            ZigguratError: If timm has not written it for this network.
        """
        network: Any = self.model
        if isinstance(network, FeatureGetterNet):
            network = network.model
        try:
            network.set_grad_checkpointing(enable)
        except (AttributeError, AssertionError) as error:
            raise ZigguratError(
                f"{self.name!r} of timm has no gradient checkpointing; leave it off"
            ) from error

    def _features(self, images: Float[Tensor, "B in H W"]) -> list[Tensor]:
        """Run the network; some add maps that only fit where the strides divide the sides.

        Raises:
            ZigguratError: If the network fails and a stride does not divide a side.
            AssertionError: If it fails for another reason.
            RuntimeError: The same.
        """
        divisor = max(PYRAMID[-1], *self.out_strides)
        try:
            return list(self.model(images))
        except (AssertionError, RuntimeError) as error:
            height, width = images.shape[2:]
            if height % divisor == 0 and width % divisor == 0:
                raise
            raise ZigguratError(
                f"{self.name!r} of timm fails at images of {height} x {width} pixels ({error}); "
                f"it may need sides that are multiples of {divisor}"
            ) from error


def check_network_name(name: str) -> None:
    """Refuse names that would make timm look at the network or on the disk.

    Raises:
        ZigguratError: If timm does not list the name.
    """
    # A name with the tag of its weights ("resnet18.a1_in1k") builds the same network.
    known = timm.list_models()
    if name.split(".")[0] not in known or "/" in name or ":" in name:
        hint = did_you_mean(name, known, "timm.list_models() lists them")
        raise ZigguratError(f"unknown network of timm {name!r}; {hint}")


def _has_drop_path(model: nn.Module) -> bool:
    return any(isinstance(part, DropPath) and part.drop_prob > 0 for part in model.modules())


@dataclass(frozen=True)
class _Facts:
    """What has to be known of a network before it is built.

    Attributes:
        strides: Strides of all maps that timm gives.
        options: Options of its constructor that let it take images of any size.
        only_size: Height and width of its images, or None where it takes any.
    """

    strides: tuple[int, ...]
    options: dict[str, Any]
    only_size: ImageSize | None


@cache
def _facts_of(name: str) -> _Facts:
    """Look at a network on the meta device, where it fills no memory."""
    with torch.device("meta"):
        kind = type(timm.create_model(name))
        words = _words_of(kind)
        options = {word: value for word, value in ANY_SIZE.items() if word in words}
        network: Any = timm.create_model(name, features_only=True, **options).eval()
    strides = tuple(network.feature_info.reduction())
    _, height, width = network.pretrained_cfg["input_size"]
    # Strides divide both sides of the other size, which is larger and of another shape.
    step = math.lcm(PYRAMID[-1], strides[-1])
    other = (height // step + 2) * step, (width // step + 1) * step
    # MViT v2 looks into a table of one size, and the meta device does not check indices. What
    # fails at its own size as well cannot be tried there.
    is_fixed = issubclass(kind, MultiScaleVit) or (
        not _takes(network, other) and _takes(network, (height, width))
    )
    return _Facts(strides, options, (height, width) if is_fixed else None)


def _words_of(kind: type) -> set[str]:
    """Return the names of the arguments of a constructor, and of those that it hands them on to."""
    words: set[str] = set()
    for part in kind.__mro__:
        if "__init__" not in vars(part):
            continue
        parameters = inspect.signature(vars(part)["__init__"]).parameters
        words |= set(parameters)
        if not any(given.kind == given.VAR_KEYWORD for given in parameters.values()):
            break
    return words


def _takes(network: Any, size: ImageSize) -> bool:  # noqa: ANN401  timm has no type for them
    """Whether a network on the meta device gives maps of an image of a size."""
    try:
        with torch.no_grad(), torch.device("meta"):
            maps = network(torch.empty(1, 3, *size))
    except (AssertionError, IndexError, RuntimeError, ValueError):
        return False
    last, stride = maps[-1], network.feature_info.reduction()[-1]
    sides = last.shape[1:3] if _has_channels_last(network) else last.shape[2:]
    # Some resize every image to a smaller one of their own size; convolutions without padding
    # take a few cells away.
    return all(side > whole / stride / 2 for side, whole in zip(sides, size, strict=True))


def _has_channels_last(network: Any) -> bool:  # noqa: ANN401
    return getattr(network, "output_fmt", None) == Format.NHWC
