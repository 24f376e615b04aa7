"""A classifier of ours with the interface that timm's tools expect of a model.

It is made of the same backbone and head as a model of `ziggurat.create_model` and has the same
entries under the same names: the weights of one load into the other.

Shapes: B images, C channels, H x W map, K classes.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.errors import ZigguratError
from ziggurat.heads.linear import (
    AveragePool,
    ClassTokenPool,
    GroupTokenPool,
    LinearHead,
    NormalizedAveragePool,
)
from ziggurat.layers.tokens import to_tokens
from ziggurat.timm_bridge.families import FAMILIES, Family
from ziggurat.timm_bridge.weights import with_own_names
from ziggurat.zoo import create_classifier_parts, create_linear_head

POOL_NAMES: Mapping[type[nn.Module], str] = {
    AveragePool: "avg",
    NormalizedAveragePool: "avg",
    ClassTokenPool: "token",
    GroupTokenPool: "map",
}
"""timm's names of the pools; a classifier has the one that its weights were trained with."""


class TimmHead(nn.Module):
    """`LinearHead` of which timm's tools may take the pool, the dropout or the layer off.

    Args:
        head: Gives pool and linear layer.
        drop_rate: Dropout of the pooled vector in training.
    """

    def __init__(self, head: LinearHead, drop_rate: float) -> None:
        super().__init__()
        self.pool = head.pool
        self.drop = nn.Dropout(drop_rate)
        self.fc: nn.Module = head.fc

    def forward(
        self, features: Float[Tensor, "B ..."], pre_logits: bool = False
    ) -> Float[Tensor, "B ..."]:
        """Return logits, or the vectors that they are made of."""
        vectors: Tensor = self.drop(self.pool(features))
        return vectors if pre_logits else self.fc(vectors)


class TimmClassifier(nn.Module):
    """Images to logits, by any of our families; arguments and methods are named as timm does.

    Args:
        name: Our name of the model.
        num_classes: Number of classes K; 0 leaves the linear layer out.
        in_chans: Channels of the images.
        global_pool: timm's name of the pool that the model has anyway, or "" to leave it out,
            which needs `num_classes=0`.
        drop_rate: Dropout in front of the linear layer.
        drop_path_rate: Stochastic depth of the last block; it grows linearly from 0.
        device: Where to put the parameters.
        dtype: Type of the parameters.
    """

    def __init__(
        self,
        name: str,
        *,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str | None = None,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.in_chans = in_chans
        self.num_classes = max(num_classes, 1)
        self.backbone, head = create_classifier_parts(
            name, self.num_classes, drop_path_rate=drop_path_rate, in_channels=in_chans
        )
        self.head = TimmHead(head, drop_rate)
        self.global_pool = POOL_NAMES[type(head.pool)]
        features = self.family.features(self.backbone)
        self.feature_info: list[dict[str, Any]] = [
            {"num_chs": f.channels, "reduction": f.stride, "module": f"backbone.{f.module}"}
            for f in features
        ]
        self.num_features = self.head_hidden_size = self.backbone.num_features
        self.is_cut = False
        if num_classes < 1 or global_pool is not None:
            self.reset_classifier(num_classes, global_pool)
        self.to(device=device, dtype=dtype)

    @property
    def family(self) -> Family:
        """How timm's tools see its backbone; not an attribute, so that the model can be pickled."""
        return FAMILIES[type(self.backbone)]

    def forward(self, x: Float[Tensor, "B in H W"]) -> Float[Tensor, "B ..."]:
        """Return logits; vectors without classes, what `forward_features` gives without a pool."""
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Float[Tensor, "B in H W"]) -> Float[Tensor, "B ..."]:
        """Return what the head reads: the last map, or normed tokens with a class token first."""
        if self.is_cut:
            *_, x = self.family.steps(self.backbone, x)
            return x
        return self.backbone.forward_features(x)

    def forward_head(
        self, x: Float[Tensor, "B ..."], pre_logits: bool = False
    ) -> Float[Tensor, "B ..."]:
        """Return the logits of what `forward_features` gave, or the pooled vectors."""
        logits: Tensor = self.head(x, pre_logits)
        return logits

    def forward_intermediates(
        self,
        x: Float[Tensor, "B in H W"],
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return what `forward_features` gives, and maps of the four features on the way.

        Args:
            x: Normalised images.
            indices: Which features: a number of last ones, their indices, or None for all.
            norm: Apply the norm behind a map, where the family has one that is not yet in it.
            stop_early: Compute nothing behind the last map that is asked for; what is returned
                beside the maps is then that map, as it is without a norm.
            output_fmt: "NCHW" for maps, "NHWC" or "NLC" for views of them.
            intermediates_only: Return the maps alone.

        Raises:
            ZigguratError: If the images are smaller than the backbone can take.
        """
        smallest = self.family.smallest_image(self.backbone)
        if not torch.compiler.is_compiling() and min(x.shape[2:]) < smallest:
            raise ZigguratError(
                f"{self.name} needs images of at least {smallest} x {smallest} pixels, got "
                f"{x.shape[2]} x {x.shape[3]}; enlarge or pad them"
            )
        view = _view(output_fmt)
        chosen = self._chosen(indices)
        steps = self.family.steps(self.backbone, x)
        if stop_early or intermediates_only:
            steps = islice(steps, max(chosen) + 1)
        maps = []
        for i, x in enumerate(steps):
            if i in chosen:
                maps.append(view(self.family.normed(self.backbone, i, x) if norm else x))
        return maps if intermediates_only else (x, maps)

    def prune_intermediate_layers(
        self,
        indices: int | Sequence[int] = 1,
        prune_norm: bool = False,
        prune_head: bool = True,
    ) -> list[int]:
        """Take off what some features do not need, so that no parameter stays without a gradient.

        Args:
            indices: The features that are needed, as in `forward_intermediates`.
            prune_norm: Whether their maps are wanted without a norm behind them.
            prune_head: Whether the head goes even if the last feature stays.

        Returns:
            The indices of the needed features, counted from the first.
        """
        chosen = self._chosen(indices)
        count = max(chosen) + 1
        self.family.prune(self.backbone, count, prune_norm)
        self.is_cut |= prune_norm or count < len(self.feature_info)
        if prune_head or self.is_cut:
            self.reset_classifier(0, "")
        self.feature_info = self.feature_info[:count]
        self.num_features = self.head_hidden_size = self.feature_info[-1]["num_chs"]
        return chosen

    def get_classifier(self) -> nn.Module:
        """Return the linear layer, or an identity where there are no classes."""
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the linear layer by a fresh one.

        Args:
            num_classes: Number of classes; 0 leaves the layer out.
            global_pool: As in the constructor; None leaves the pool as it is.

        Raises:
            ZigguratError: If the model has no such pool, or classes without a pool, or no end.
        """
        if self.is_cut and (num_classes or global_pool):
            raise ZigguratError(
                f"{self.name} was cut behind one of its features and cannot classify, got "
                f"num_classes={num_classes}, global_pool={global_pool!r}; create it again"
            )
        head = create_linear_head(self.name, self.num_features, max(num_classes, 1))
        own_pool = POOL_NAMES[type(head.pool)]
        wanted = self.global_pool if global_pool is None else global_pool
        if wanted not in (own_pool, ""):
            raise ZigguratError(
                f"{self.name} has no global_pool={wanted!r}; its weights are trained with "
                f"{own_pool!r}, and '' leaves the pool out"
            )
        if num_classes < 0 or (num_classes and not wanted):
            raise ZigguratError(
                f"{self.name} cannot have num_classes={num_classes} with global_pool={wanted!r}; "
                f"without a pool num_classes is 0, with global_pool={own_pool!r} any number"
            )
        head.to(next(self.parameters()))
        if wanted != self.global_pool:
            self.head.pool = head.pool if wanted else nn.Identity()
        self.head.fc = head.fc if num_classes else nn.Identity()
        self.head.train(self.training)
        self.global_pool = wanted
        self.num_classes = num_classes

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute blocks again in the backward pass instead of keeping what is in them."""
        self.backbone.set_grad_checkpointing(enable)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return patterns that order parameters from input to output, for layer-wise decay.

        Args:
            coarse: One group a stage instead of one a block.
        """
        return self.family.layers(coarse)

    def no_weight_decay(self) -> set[str]:
        """Return the parameters that should not decay though they have more than one dimension."""
        return {
            name
            for name, _ in self.named_parameters()
            if name.rpartition(".")[2] in self.family.undecayed
        }

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:  # noqa: ANN401 - what it returns has no public name
        """Load a state; one with the names of an official file, as timm reads it, is one too."""
        return super().load_state_dict(with_own_names(state_dict, self), strict, assign)

    def _chosen(self, indices: int | Sequence[int] | None) -> list[int]:
        count = len(self.feature_info)
        if indices is None:
            return list(range(count))
        if isinstance(indices, int):
            if not 0 < indices <= count:
                raise ZigguratError(
                    f"{self.name} has {count} features, got indices={indices} for that many last "
                    f"ones; give 1 to {count}"
                )
            return list(range(count - indices, count))
        if not indices or not all(-count <= i < count for i in indices):
            raise ZigguratError(
                f"{self.name} has features 0 to {count - 1}, got indices={list(indices)}; give "
                "some of them, or negative indices that count from the last"
            )
        return [i % count for i in indices]


def _view(layout: str) -> Callable[[Tensor], Tensor]:
    """Return what shows a channels_last map in one of timm's layouts.

    Raises:
        ZigguratError: If the layout is unknown.
    """
    views: dict[str, Callable[[Tensor], Tensor]] = {
        "NCHW": lambda x: x,
        "NHWC": lambda x: x.permute(0, 2, 3, 1),
        "NLC": to_tokens,
    }
    if layout not in views:
        raise ZigguratError(f"unknown output_fmt {layout!r}; known are {', '.join(views)}")
    return views[layout]
