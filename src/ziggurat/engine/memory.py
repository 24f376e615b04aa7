"""Memory that stays with a run, from one step to the next."""

import torch

from ziggurat.config.tree import TrainerConfig
from ziggurat.ops.machine import has_glibc, keep_freed_memory


def runs_on_cpu(wanted: TrainerConfig) -> bool:
    """Tell whether a run computes on the CPU, asked for or because there is nothing else."""
    has_gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    return wanted.accelerator == "cpu" or (wanted.accelerator == "auto" and not has_gpu)


def keep_memory(wanted: TrainerConfig) -> None:
    """Let this process keep the memory that a step has freed, where the run wants it.

    glibc gives large buffers back to the system at once, and the system hands them out again page
    by page, cleared. Kept, they are there for the next step, which needs the same: PyTorch does so
    by itself on a GPU. It holds for the rest of the process and for the workers that it starts.
    Other C libraries decide for themselves.

    Args:
        wanted: The run; `trainer.keep_memory` says whether.
    """
    if wanted.keep_memory and runs_on_cpu(wanted) and has_glibc():
        keep_freed_memory()
