"""What a model costs: parameters, and the multiplications of one image at its published size.

Counted on the meta device, so that neither memory nor time is spent on numbers.
"""

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from ziggurat.cards import MODELS
from ziggurat.types import ImageSize
from ziggurat.zoo import check_known, create_model


@dataclass(frozen=True)
class Cost:
    """Size of a model and its work for one image, decoding left out.

    Attributes:
        parameters: Number of parameters.
        macs: Multiply-accumulates in convolutions, linear layers and attention.
        flops: Floating-point operations: a multiply-accumulate is two.
        image_size: Height and width the work is counted at.
    """

    parameters: int
    macs: int
    flops: int
    image_size: ImageSize


def count_cost(name: str) -> Cost:
    """Count parameters and operations of a published model at its published size.

    Args:
        name: Name of the model.
    """
    check_known("model", name, MODELS)
    size = MODELS[name].input_size
    with torch.device("meta"):
        model = create_model(name).eval()
        images = torch.empty(1, 3, *size)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(images)
    flops = int(counter.get_total_flops())
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Cost(parameters, flops // 2, flops, size)
