"""Where a NaN begins: the first module whose output or gradient is no finite number.

A watched step keeps every map it makes until the watch ends, and takes several times as long: it
is for one step that went wrong, or one before a run.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ziggurat.ops.tensors import tensors_in


@dataclass(frozen=True)
class NonFinite:
    """Where the first number that is not finite appeared.

    Attributes:
        module: Name of the module in the model; "" for the model itself.
        kind: Class of the module.
        place: A value of the module's parameters, what went into it, what came out of it, the
            gradient that it passed on, or the gradient that reached it from what follows it.
    """

    module: str
    kind: str
    place: Literal["parameter", "input", "output", "gradient", "gradient of output"]

    def __str__(self) -> str:
        where = f"{self.module} ({self.kind})" if self.module else f"the model ({self.kind})"
        return {
            "parameter": f"in a parameter of {where}",
            "input": f"in what goes into {where}",
            "output": f"in the output of {where}",
            "gradient": f"in the gradient that {where} passes back",
            "gradient of output": f"in the gradient that comes back to {where}",
        }[self.place]


@dataclass
class _Seen:
    """A tensor between modules; kept, so that its identity is not given to another one."""

    tensor: Tensor
    writer: str | None = None
    reader: str | None = None


class NonFiniteWatch:
    """What a watched step has shown so far.

    Attributes:
        found: Where the first number that is not finite appeared, or None.
    """

    def __init__(self, model: nn.Module) -> None:
        self.found: NonFinite | None = None
        self._kinds = {name: type(module).__name__ for name, module in model.named_modules()}
        self._seen: dict[int, _Seen] = {}
        for name, parameter in model.named_parameters():
            if not _is_finite(parameter):
                self._note(name.rpartition(".")[0], "parameter")

    def before(
        self, name: str, module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> None:
        """Look at what goes into a module; a hook of `nn.Module`."""
        del module
        for tensor in tensors_in((args, kwargs)):
            if not _is_finite(tensor):
                self._note(name, "input")
            self._follow(tensor).reader = name  # of nested modules the innermost comes last

    def after(self, name: str, module: nn.Module, args: object, output: object) -> None:
        """Look at what comes out of a module; a hook of `nn.Module`."""
        del module, args
        for tensor in tensors_in(output):
            if not _is_finite(tensor):
                self._note(name, "output")
            seen = self._follow(tensor)
            seen.writer = seen.writer or name  # of nested modules the innermost comes first

    def forget(self) -> None:
        """Let go of the tensors of the step."""
        self._seen.clear()

    def _follow(self, tensor: Tensor) -> _Seen:
        if id(tensor) not in self._seen:
            seen = self._seen[id(tensor)] = _Seen(tensor)
            if tensor.requires_grad:
                tensor.register_hook(partial(self._look_at_gradient, seen))
        return self._seen[id(tensor)]

    def _look_at_gradient(self, seen: _Seen, gradient: Tensor) -> None:
        if _is_finite(gradient):
            return
        # Gradients come from the end of the model: who reads the first bad one's tensor made it.
        if seen.reader is not None:
            self._note(seen.reader, "gradient")
        elif seen.writer is not None:
            self._note(seen.writer, "gradient of output")

    def _note(self, name: str, place: Any) -> None:  # noqa: ANN401  one of NonFinite.place
        if self.found is None:
            self.found = NonFinite(name, self._kinds[name], place)


@contextmanager
def first_nonfinite(model: nn.Module) -> Iterator[NonFiniteWatch]:
    """Watch what modules make, forward and backward, while the block runs.

    An infinity that a module makes on purpose, as a mask of attention, counts too: ask for
    `found` when the loss or a gradient is not finite.

    Args:
        model: The model; its results do not change.

    Yields:
        What was found.
    """
    watch = NonFiniteWatch(model)
    hooks = []
    for name, module in model.named_modules():
        hooks.append(
            module.register_forward_pre_hook(partial(watch.before, name), with_kwargs=True)
        )
        hooks.append(module.register_forward_hook(partial(watch.after, name)))
    try:
        yield watch
    finally:
        for hook in hooks:
            hook.remove()
        watch.forget()


def holds_nan(value: object) -> bool:
    """Say whether a number in an output or a result is none; infinite ones may be meant.

    Args:
        value: Tensors, or what holds them.
    """
    return any(bool(tensor.isnan().any()) for tensor in tensors_in(value))


def _is_finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor.detach()).all())
