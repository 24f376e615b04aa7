"""SLURM: who its processes are, and a job that is told of its end queues itself again."""

import os
import subprocess
from collections.abc import Mapping

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

from ziggurat.engine.processes import uses_srun, uses_torchrun
from ziggurat.errors import ZigguratError


def cluster_environment(environment: Mapping[str, str] = os.environ) -> ClusterEnvironment | None:
    """Return what tells Lightning about the other processes, or None for its own search.

    Args:
        environment: Environment of this process.
    """
    if uses_torchrun(environment):
        return None
    if uses_srun(environment):
        # Lightning would save wherever the signal meets it; here a run saves between two steps.
        return SLURMEnvironment(auto_requeue=False)
    # In a batch script without srun SLURM's variables speak of tasks that nobody started.
    return LightningEnvironment() if "SLURM_JOB_ID" in environment else None


def requeue(environment: Mapping[str, str] = os.environ) -> str:
    """Queue the job of this process again, and say so.

    Args:
        environment: Environment of this process, with the number of its job.

    Returns:
        A sentence for the user.

    Raises:
        ZigguratError: If SLURM refuses.
    """
    job = environment["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in environment:
        job = f"{environment['SLURM_ARRAY_JOB_ID']}_{environment['SLURM_ARRAY_TASK_ID']}"
    try:
        done = subprocess.run(
            ["scontrol", "requeue", job], capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise ZigguratError(_refused(job, error.strerror or str(error))) from error
    if done.returncode:
        raise ZigguratError(_refused(job, " ".join(done.stderr.split()) or "no reason given"))
    return f"SLURM job {job} is queued again"


def _refused(job: str, reason: str) -> str:
    return (
        f"the run is saved, but SLURM does not queue job {job} again: {reason}; submit it once "
        "more, with --resume auto it goes on"
    )
