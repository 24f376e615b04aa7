"""How many processes train together, and which of them speaks: from the run, or from torchrun."""

import os
from collections.abc import Mapping

from ziggurat.config.tree import TrainerConfig
from ziggurat.errors import ZigguratError

RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")
"""What launchers call the number of a process or of its machine."""


def devices_and_nodes(
    config: TrainerConfig, environment: Mapping[str, str] = os.environ
) -> tuple[int | None, int]:
    """Return devices per node, None for all there are, and nodes.

    Args:
        config: What the run asks for.
        environment: Environment of this process, which torchrun has written into where it is used.

    Raises:
        ZigguratError: If the run asks for something else than torchrun has started.
    """
    if not {"LOCAL_WORLD_SIZE", "WORLD_SIZE"} <= environment.keys():
        return config.devices, config.nodes
    sizes = environment["LOCAL_WORLD_SIZE"], environment["WORLD_SIZE"]
    if not all(size.isdecimal() and int(size) > 0 for size in sizes):
        raise ZigguratError(
            f"LOCAL_WORLD_SIZE and WORLD_SIZE must be counts of processes, got {sizes[0]!r} and "
            f"{sizes[1]!r} in the environment; unset them or start with torchrun"
        )
    local, world = (int(size) for size in sizes)
    nodes = world // local
    if nodes * local != world:
        raise ZigguratError(
            f"torchrun must start equally many processes on every machine, got {local} here of "
            f"{world} in all; give each the same --nproc_per_node"
        )
    if config.devices not in (None, local) or config.nodes not in (1, nodes):
        raise ZigguratError(
            f"torchrun started {local} processes on each of {nodes} machines, but trainer.devices "
            f"is {config.devices} and trainer.nodes {config.nodes}; leave these two out under "
            "torchrun"
        )
    return local, nodes


def is_first_process(environment: Mapping[str, str] = os.environ) -> bool:
    """Say whether this process speaks and writes, before Lightning knows.

    Args:
        environment: Environment of this process.
    """
    return all(environment.get(name, "0") == "0" for name in RANKS)


def check_device(config: TrainerConfig, device: str, world_size: int) -> None:
    """Raise where the kind of device cannot do what the run asks for.

    Args:
        config: What the run asks for.
        device: Kind of the devices: "cpu", "cuda", "mps".
        world_size: Number of processes.

    Raises:
        ZigguratError: If so.
    """
    if config.precision == "fp16" and device == "cpu":
        raise ZigguratError("trainer.precision must be 32 or bf16 on a CPU, got 'fp16'")
    if config.sync_batch_norm and world_size > 1 and device != "cuda":
        raise ZigguratError(
            f"trainer.sync_batch_norm must be false for several processes on a {device}, got "
            "true; only GPUs can take the images of all devices together"
        )
