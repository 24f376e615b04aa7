"""Memory that a command keeps to its end."""

from ziggurat.inference.forward import choose_device
from ziggurat.ops.machine import has_glibc, keep_freed_memory


def keep_memory(device: str) -> None:
    """Let a command that computes on the CPU keep the memory that it frees, where glibc is asked.

    The maps of a model are given back and asked for again with every image, and the system clears
    them page by page, which takes a third of the time of a prediction.

    Args:
        device: Where to compute: "auto", "cpu", "cuda", "cuda:1", "mps".
    """
    if choose_device(device).type == "cpu" and has_glibc():
        keep_freed_memory()
