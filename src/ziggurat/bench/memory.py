"""Peak memory of a model: weights, and all that its steps need at one time.

Measured in a process of its own, since one process cannot tell what belongs to which model.
"""

from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import nn

from ziggurat.bench.machine import Allocator, apply_allocator
from ziggurat.bench.results import Contestant, Setting
from ziggurat.bench.subjects import find_subject
from ziggurat.bench.work import make_ready, make_step, make_variant
from ziggurat.errors import ZigguratError
from ziggurat.necks.fpt import find_transformer
from ziggurat.ops.memory import available_bytes

STEPS = 2
"""The second training step has all: activations, gradients and the state of the optimizer."""


@dataclass(frozen=True)
class MemoryRequest:
    """What another process has to measure.

    Attributes:
        contestant: The model; a compiled one is not measured, since compiling takes more memory
            than the model.
        setting: What it does.
        device: "cpu" or a CUDA device.
        memory_format: Order of the images' values in memory.
        threads: Threads of the CPU.
        allocator: How memory is handed out.
    """

    contestant: Contestant
    setting: Setting
    device: str
    memory_format: str
    threads: int
    allocator: Allocator


def measure_memory(request: MemoryRequest) -> int:
    """Return the peak in bytes, measured in a fresh process.

    Raises:
        ZigguratError: If the model fails, or the process was killed.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as processes:
        try:
            outcome = processes.submit(_peak_or_failure, request).result()
        except BrokenProcessPool as error:
            raise ZigguratError(
                f"{request.contestant} was killed at {request.setting}, probably for want of memory"
            ) from error
    if isinstance(outcome, str):
        raise ZigguratError(outcome)
    return outcome


def describe_failure(error: Exception) -> str:
    """Say in one line what an exception says."""
    lines = str(error).strip().splitlines()
    if isinstance(error, ZigguratError):
        return str(error)
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def check_memory_is_measurable(device: torch.device) -> None:
    """Raise where there is no way to read the peak.

    Raises:
        ZigguratError: On devices other than CUDA's and the CPU of Linux.
    """
    if device.type == "cuda" or (device.type == "cpu" and Path("/proc/self/clear_refs").exists()):
        return
    raise ZigguratError(
        f"peak memory can be read on CUDA devices and on the CPU of Linux only, got {device} "
        "here; measure speed alone with --measure speed"
    )


def _peak_or_failure(request: MemoryRequest) -> int | str:
    """Return what an exception says in its place: not all of them travel between processes."""
    try:
        return _measure_peak(request)
    except Exception as error:  # a peer may fail with anything
        return describe_failure(error)


def _measure_peak(request: MemoryRequest) -> int:
    apply_allocator(request.allocator)
    torch.set_num_threads(request.threads)
    device, setting = torch.device(request.device), request.setting
    # Libraries that every model needs are loaded now and not counted.
    torch.mm(torch.ones(64, 64, device=device), torch.ones(64, 64, device=device))
    build = find_subject(request.contestant.name)
    before = _memory_now(device)
    model = build()
    images = make_ready(model, setting, device, request.memory_format)
    variant = make_variant(model, request.contestant.variant, setting.dtype)
    step = make_step(variant, images, setting)
    _forget_peak(device)
    for _ in range(STEPS):
        step()
    return _peak(device) - before


def _memory_now(device: torch.device) -> int:
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else _status("VmRSS")


def _peak(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _status("VmHWM")


def _forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM; see proc(5)


def _status(key: str) -> int:
    """Read a figure of /proc/self/status, in bytes.

    It is this program's own; `getrusage` would count what was there before this program started.
    """
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    values = dict(line.split(":", 1) for line in lines)
    return 1024 * int(values[key].split()[0])


def predicted_memory(model: nn.Module, setting: Setting, device: torch.device) -> int | None:
    """Return the bytes that a Feature Pyramid Transformer will take, or None where there is none.

    Args:
        model: The model.
        setting: What it does.
        device: Where it runs.
    """
    transformer = find_transformer(model)
    if transformer is None:
        return None
    sizes = transformer.sizes_for(setting.image_size)
    return transformer.predicted_bytes(
        sizes, batch=setting.batch, learns=setting.is_training, on_cuda=device.type == "cuda"
    )


def check_memory_is_left(needed: int, device: torch.device) -> None:
    """Raise if a device has less memory left than a model needs.

    Args:
        needed: Bytes.
        device: Where it runs.

    Raises:
        ZigguratError: If it has.
    """
    left = available_bytes(device)
    if left is not None and needed > left:
        raise ZigguratError(
            f"its Feature Pyramid Transformer needs about {needed / 2**30:.1f} GiB, and "
            f"{left / 2**30:.1f} GiB are left; take smaller images or fewer at a time"
        )
