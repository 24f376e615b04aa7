"""How many processes train together, and which of them speaks: from the run or its launcher."""

import os
from collections.abc import Mapping
from typing import get_args

import torch

from ziggurat.config.tree import TrainConfig, TrainerConfig
from ziggurat.errors import ZigguratError
from ziggurat.types import DetectorTask

LIGHTNING_RANKS = ("LOCAL_RANK", "NODE_RANK")
"""What Lightning's own launcher calls the number of a process and that of its machine."""


def devices_and_nodes(
    config: TrainerConfig, environment: Mapping[str, str] = os.environ
) -> tuple[int | None, int]:
    """Return devices per node, None for all there are, and nodes.

    Args:
        config: What the run asks for.
        environment: Environment of this process, which torchrun or SLURM's srun has written into
            where it is used.

    Raises:
        ZigguratError: If the run asks for something else than they have started.
    """
    launched = _launched_by(environment)
    if launched is None:
        return config.devices, config.nodes
    launcher, local, nodes, advice = launched
    if local < 1 or nodes < 1:
        raise ZigguratError(
            f"{launcher} must start equally many processes on every machine; {advice}"
        )
    if config.devices not in (None, local) or config.nodes not in (1, nodes):
        raise ZigguratError(
            f"{launcher} started {local} processes on each of {nodes} machines, but "
            f"trainer.devices is {config.devices} and trainer.nodes {config.nodes}; leave these "
            f"two out under {launcher}"
        )
    return local, nodes


def uses_torchrun(environment: Mapping[str, str] = os.environ) -> bool:
    """Say whether torchrun started this process."""
    return {"LOCAL_WORLD_SIZE", "WORLD_SIZE"} <= environment.keys()


def uses_srun(environment: Mapping[str, str] = os.environ) -> bool:
    """Say whether this process is a task of SLURM's srun, and not a shell in such a one."""
    is_shell = environment.get("SLURM_JOB_NAME") in ("bash", "interactive")
    is_task = {"SLURM_STEP_ID", "SLURM_NTASKS", "SLURM_PROCID"} <= environment.keys()
    return is_task and not is_shell and not uses_torchrun(environment)


def is_first_process(environment: Mapping[str, str] = os.environ) -> bool:
    """Say whether this process speaks and writes, before Lightning knows.

    Whoever started it is asked alone: under srun torchrun may number machines otherwise than SLURM.

    Args:
        environment: Environment of this process.
    """
    if uses_torchrun(environment):
        return environment.get("RANK", "0") == "0"
    if uses_srun(environment):
        return environment["SLURM_PROCID"] == "0"
    return all(environment.get(name, "0") == "0" for name in LIGHTNING_RANKS)


def may_hang_when_begun_again(environment: Mapping[str, str] = os.environ) -> bool:
    """Say whether processes that torchrun begins again would find addresses of dead ones.

    It hands them its own key-value store, which still has what the earlier processes wrote
    (pytorch issue 135712); then they wait for one another until their time is up.

    Args:
        environment: Environment of this process.
    """
    begins_again = environment.get("TORCHELASTIC_MAX_RESTARTS", "0") not in ("", "0")
    return begins_again and environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


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
    if config.precision == "tf32" and not (device == "cuda" and torch.cuda.is_tf32_supported()):
        raise ZigguratError(
            "trainer.precision must be 32 where there is no GPU that multiplies in TF32, as "
            "NVIDIA's since Ampere do, got 'tf32'"
        )
    if config.sync_batch_norm and world_size > 1 and device != "cuda":
        raise ZigguratError(
            f"trainer.sync_batch_norm must be false for several processes on a {device}, got "
            "true; only GPUs can take the images of all devices together"
        )


def check_sharded(config: TrainConfig, *, is_alone: bool) -> None:
    """Raise unless a run can be sharded.

    Args:
        config: The run.
        is_alone: Whether it has one device.

    Raises:
        ZigguratError: If it is alone, or of a kind that cannot.
    """
    wanted = config.trainer
    reasons = {
        "a single device": is_alone,
        # Its unused parameters differ by device, and all devices add up gradients together.
        "a detector": config.task in get_args(DetectorTask),
        "trainer.ema_decay": wanted.ema_decay is not None,
        "trainer.sync_batch_norm": wanted.sync_batch_norm,
        "trainer.precision fp16": wanted.precision == "fp16",
        # What is compiled does not put the parts of the whole model's parameters together.
        "trainer.compile": wanted.compile,
    }
    for reason, holds in reasons.items():
        if holds:
            raise ZigguratError(f"trainer.strategy must be auto or ddp with {reason}, got 'fsdp'")


def _launched_by(environment: Mapping[str, str]) -> tuple[str, int, int, str] | None:
    """Return launcher, processes per machine, machines, and what to do if the counts are wrong."""
    if uses_torchrun(environment):
        local, world = (_count(environment, name) for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
        nodes = world // local if world % local == 0 else 0
        advice = f"got {local} here of {world} in all, give each the same --nproc_per_node"
        return "torchrun", local, nodes, advice
    if uses_srun(environment):
        world, nodes = (_count(environment, name) for name in ("SLURM_NTASKS", "SLURM_NNODES"))
        local = world // nodes if world % nodes == 0 else 0
        advice = f"got {world} on {nodes}, set --ntasks-per-node"
        return "srun", local, nodes, advice
    return None


def _count(environment: Mapping[str, str], name: str) -> int:
    word = environment.get(name, "")
    if not (word.isdecimal() and int(word) > 0):
        raise ZigguratError(
            f"{name} must be a count of processes or machines, got {word!r} in the environment; "
            "unset it or start with torchrun or srun"
        )
    return int(word)
