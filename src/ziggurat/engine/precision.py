"""The numbers that a run computes with, and those that its GPU is faster with."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def products_in(precision: str) -> Iterator[None]:
    """Let matrices of float32 be multiplied as a precision wants it, within the block.

    TF32 has the range of float32 and 10 bits behind the point. Tensor cores multiply it several
    times as fast; sums are of float32. PyTorch lets convolutions take it anyway.

    Args:
        precision: As `trainer.precision`.

    Yields:
        Nothing.
    """
    if precision != "tf32":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def faster_precision(precision: str, device: str) -> str | None:
    """Say with which other precision a GPU would be faster; None where nothing is to be said.

    Args:
        precision: As `trainer.precision`.
        device: Kind of the device: "cpu", "cuda", "mps".
    """
    if device != "cuda":
        return None
    if precision == "32" and torch.cuda.is_tf32_supported():
        return (
            "matrices are multiplied in float32; trainer.precision tf32 does so faster on this "
            "GPU, with 3 digits instead of 7"
        )
    if precision == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return "this GPU has no bf16 and only imitates it; trainer.precision fp16 or 32 is faster"
    return None
