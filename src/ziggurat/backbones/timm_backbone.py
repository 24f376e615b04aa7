"""Any network of timm as a backbone (Wightman, github.com/huggingface/pytorch-image-models).

timm gives features in a dialect of its own: maps of other strides than ours, some with channels
last as a shape, errors in its own words. This file is the interpreter.

Shapes: B images, C channels, H x W map. Maps are (B, C, H, W) in channels_last memory.
"""

from typing import Any

import timm
import torch
from jaxtyping import Float
from timm.layers.drop import DropPath
from timm.layers.format import Format
from timm.models._features import FeatureGetterNet
from torch import Tensor, nn

from ziggurat.errors import ZigguratError, did_you_mean
from ziggurat.types import ImageSize

PYRAMID = (4, 8, 16, 32)
"""Strides of the maps that dense prediction wants; finer ones are left out where all are there."""


class TimmBackbone(nn.Module):
    """A network of timm without its classifier, fresh weights.

    It gives the maps of strides 4, 8, 16 and 32, or all maps that timm gives where those four are
    not among them (vision transformers have one stride only).

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
            with torch.device("meta"):
                probe: Any = timm.create_model(name, features_only=True)
            strides = probe.feature_info.reduction()
            wanted = set(PYRAMID) if set(PYRAMID) <= set(strides) else set(strides)
            network: Any = timm.create_model(
                name,
                features_only=True,
                out_indices=[i for i, stride in enumerate(strides) if stride in wanted],
                **options,
            )
        except (RuntimeError, TypeError, AttributeError) as error:
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
        self.is_channels_last_shape = getattr(network, "output_fmt", None) == Format.NHWC
        self.only_size = _only_size(network)

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
            RuntimeError: If it fails for another reason.
        """
        divisor = max(PYRAMID[-1], *self.out_strides)
        try:
            return list(self.model(images))
        except RuntimeError as error:
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


def _only_size(model: nn.Module) -> ImageSize | None:
    facts: Any = model.pretrained_cfg
    if not facts.get("fixed_input_size"):
        return None
    _, height, width = facts["input_size"]
    return height, width
