"""One step of a model: inference, or forward, backward and AdamW; and what it costs in FLOPs."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ziggurat.bench.results import Setting, Variant
from ziggurat.inference.fast.optimize import optimize_for_inference

Step = Callable[[], None]

MEMORY_FORMATS = {
    "channels_last": torch.channels_last,
    "contiguous": torch.contiguous_format,
}
LEARNING_RATE = 1e-6
"""Small, so that weights stay what they are: training must not drift into infinite values."""


def make_images(setting: Setting, device: torch.device, memory_format: str) -> Tensor:
    """Draw a batch of images.

    Args:
        setting: Says how many and how large.
        device: Where they lie.
        memory_format: Order of the values in memory, a key of `MEMORY_FORMATS`.
    """
    images = torch.randn(setting.batch, 3, *setting.image_size, device=device)
    return images.contiguous(memory_format=MEMORY_FORMATS[memory_format])


def count_flops(model: nn.Module, setting: Setting) -> int:
    """Count the operations of one step in products and convolutions, on the meta device.

    A training step is taken as three times the forward pass, as is usual: each product of it has
    two of the same size in the backward pass. PyTorch's own counter overstates the gradients of
    depthwise convolutions by their number of channels.
    """
    # Frozen: under no_grad the counter fails where a module is given a view of a parameter.
    twin = copy.deepcopy(model).to("meta").eval().requires_grad_(False)
    images = torch.empty(setting.batch, 3, *setting.image_size, device="meta")
    counter = FlopCounterMode(display=False)
    with counter:
        twin(images)
    forward = int(counter.get_total_flops())
    return 3 * forward if setting.is_training else forward


def make_variant(model: nn.Module, variant: Variant) -> nn.Module:
    """Return the model in the form that is measured.

    Args:
        model: The model as written, on its device and in its mode.
        variant: Form of the model.
    """
    if variant == "compiled":
        compiled: nn.Module = torch.compile(model, dynamic=False)  # type: ignore[assignment]
        return compiled
    if variant == "fast":
        return optimize_for_inference(model)
    return model


def prepare_step(
    model: nn.Module,
    variant: Variant,
    setting: Setting,
    device: torch.device,
    memory_format: str,
) -> Step:
    """Put a model on its device and return a function that takes one step of the setting.

    Args:
        model: A model as it was built; it is changed.
        variant: Form in which it is measured.
        setting: What a step is.
        device: Where it runs.
        memory_format: Order of images and weights in memory, a key of `MEMORY_FORMATS`.
    """
    model = model.train(setting.is_training).to(device)
    model = model.to(memory_format=MEMORY_FORMATS[memory_format])
    images = make_images(setting, device, memory_format)
    return make_step(make_variant(model, variant), images, setting)


def make_step(model: nn.Module, images: Tensor, setting: Setting) -> Step:
    """Return a function that takes one step.

    Args:
        model: The model, in the mode of the setting.
        images: The batch, the same for each step.
        setting: Precision, and whether to train.
    """
    autocast = torch.autocast(
        images.device.type, dtype=torch.bfloat16, enabled=setting.dtype == "bf16"
    )
    if not setting.is_training:

        def infer() -> None:
            with torch.inference_mode(), autocast:
                model(images)

        return infer

    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=True)

    def train() -> None:
        with autocast:
            raw = model(images)
        stand_in_loss(raw).backward()
        optimizer.step()
        optimizer.zero_grad()

    return train


def stand_in_loss(raw: object) -> Tensor:
    """Return the mean square of each tensor in a model's raw output, added up.

    It stands in for losses that need targets, alike for classifiers, backbones and detectors.
    """
    return torch.stack([t.float().square().mean() for t in _tensors(raw)]).sum()


def _tensors(raw: object) -> Iterator[Tensor]:
    if isinstance(raw, Tensor):
        yield raw
        return
    parts: Iterable[object] = ()
    if isinstance(raw, Mapping):
        parts = raw.values()
    elif is_dataclass(raw):
        parts = vars(raw).values()
    elif isinstance(raw, Sequence) and not isinstance(raw, str):
        parts = raw
    for part in parts:
        yield from _tensors(part)
