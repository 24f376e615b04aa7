"""What a model costs: parameters, and the multiplications of one image at its published size.

Counted on the meta device, so that neither memory nor time is spent on numbers. The count is that
of convolutions, linear layers and attention; published tables differ in what else they count, see
`ModelCard.size_note`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ziggurat import zoo
from ziggurat.cards import MODELS
from ziggurat.types import ImageSize, Task

USUAL_SIZES: dict[Task, ImageSize] = {
    "classification": (224, 224),
    "detection": (800, 1280),
    "instance_segmentation": (800, 1280),
    "keypoint_detection": (800, 1280),
    "semantic_segmentation": (512, 512),
}
"""Height and width at which most models of a task are published, and others counted."""


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
    """Count parameters and operations of a model, of a published one at its published size.

    Args:
        name: Name of the model.
    """
    size = MODELS[name].input_size if name in MODELS else USUAL_SIZES[zoo.task_of(name)]
    with torch.device("meta"):
        model = zoo.create_model(name).eval()
        images = torch.empty(1, 3, *size)
    with torch.no_grad(), _FlopCount() as count:
        model(images)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Cost(parameters, count.flops // 2, count.flops, size)


_KNOWN: dict[object, tuple[Any, int]] = {}
"""Results and operations of all that was counted, by operator and the shapes of its operands."""


class _FlopCount(TorchDispatchMode):
    """Adds up the operations of everything that runs inside, by torch's own formulas.

    `FlopCounterMode` would do, but the meta device takes half a millisecond an operator, seconds
    for a deep model. Blocks repeat themselves, and models share backbones and heads: an operator
    with operands of the same shapes gives a result of the same shape again, which is kept and not
    computed twice.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401  an operator overload; torch gives it no public type
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Run an operator, or look up what it gave."""
        options = dict(kwargs or {})
        # Results that share memory with an operand, and operators in place, cost nothing.
        if func.is_view or any(result.alias_info for result in func._schema.returns):
            return func(*args, **options)
        key = (func, _signature(args), _signature(tuple(options.items())))
        if key not in _KNOWN:
            result = func(*args, **options)
            formula: Callable[..., int] | None = flop_registry.get(func._overloadpacket)
            flops = 0 if formula is None else formula(*args, **options, out_val=result)
            _KNOWN[key] = result, flops
        result, flops = _KNOWN[key]
        self.flops += flops
        return result


def _signature(value: object) -> object:
    """Replace tensors by what decides the shape of a result."""
    if isinstance(value, Tensor):
        return tuple(value.shape), value.stride(), value.dtype
    if isinstance(value, tuple | list):
        return tuple(_signature(part) for part in value)
    return value
