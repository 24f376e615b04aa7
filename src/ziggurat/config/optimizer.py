"""How the weights of a run are moved: the optimizer, and what decays and learns at which rate."""

from dataclasses import dataclass
from typing import Literal

from ziggurat.config.checks import require, require_counts, require_positive

NoDecay = Literal[
    "vectors",
    "norms",
    "inner_norms",
    "conv_norms",
    "biases",
    "dense_biases",
    "positions",
    "tokens",
]
"""Kinds of parameters that weight decay may leave alone."""


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW or SGD, and its parameter groups."""

    lr: float
    """Learning rate at the reference batch."""
    reference_batch: int | None = None
    """Images per step lr is meant for: it is scaled by images per step / this; null keeps it."""
    kind: Literal["adamw", "sgd"] = "adamw"
    """AdamW, or gradient descent with momentum."""
    weight_decay: float = 0.05
    """Weight decay: decoupled from the gradient in AdamW, a part of it in SGD."""
    betas: tuple[float, float] | None = None
    """AdamW's decay of the running mean of gradients and of their squares; null for 0.9, 0.999."""
    momentum: float | None = None
    """SGD's decay of the running sum of gradients; null for 0.9."""
    no_decay: tuple[NoDecay, ...] = ("vectors",)
    """What does not decay: vectors (biases, scales of norms), or only norms (those of tokens and
    of whole maps), inner_norms (norms but a backbone's last), conv_norms (those inside a
    convolution), biases, dense_biases (biases but those of depthwise convolutions), positions (of
    cells and of levels), tokens (learned ones); an empty list lets everything decay."""
    head_decays: bool = False
    """Whether everything in the heads decays, whatever no_decay says."""
    backbone_lr_factor: float = 1.0
    """Learning rate of the backbone as a multiple of lr."""
    head_lr_factor: float = 1.0
    """Learning rate of the heads as a multiple of lr."""
    bias_lr_factor: float = 1.0
    """Learning rate of biases as a multiple of that of the weights beside them."""
    layer_decay: float | None = None
    """Factor of the learning rate from each block of the backbone to the one before it, counted
    from the heads; null lets all learn alike."""

    def __post_init__(self) -> None:
        require_positive(
            "optimizer",
            lr=self.lr,
            backbone_lr_factor=self.backbone_lr_factor,
            head_lr_factor=self.head_lr_factor,
            bias_lr_factor=self.bias_lr_factor,
        )
        require_counts("optimizer", 1, reference_batch=self.reference_batch)
        require(self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, "at least 0")
        decay = self.layer_decay
        require(
            decay is None or 0 < decay < 1, "optimizer.layer_decay", decay, "above 0 and below 1"
        )
        require(
            all(0 <= beta < 1 for beta in self.betas or ()),
            "optimizer.betas",
            self.betas,
            "at least 0 and below 1",
        )
        require(
            self.betas is None or self.kind == "adamw",
            "optimizer.betas",
            self.betas,
            f"null where optimizer.kind is {self.kind}",
        )
        require(
            self.momentum is None or (self.kind == "sgd" and 0 <= self.momentum < 1),
            "optimizer.momentum",
            self.momentum,
            "at least 0 and below 1, or null where optimizer.kind is adamw",
        )
        require(
            len(set(self.no_decay)) == len(self.no_decay),
            "optimizer.no_decay",
            self.no_decay,
            "a list that names nothing twice",
        )
