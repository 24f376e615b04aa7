"""How many processes train: what the run says, what torchrun says, and where they contradict."""

import pytest
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

from ziggurat.config import TrainerConfig
from ziggurat.engine.processes import (
    devices_and_nodes,
    is_first_process,
    may_hang_when_begun_again,
    uses_srun,
)
from ziggurat.engine.slurm import cluster_environment
from ziggurat.errors import ZigguratError

TWO_NODES = {"LOCAL_WORLD_SIZE": "8", "WORLD_SIZE": "16"}
SRUN = {
    "SLURM_JOB_ID": "77",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "9",
    "SLURM_NTASKS": "16",
    "SLURM_NNODES": "2",
}


def test_without_torchrun_the_run_decides() -> None:
    assert devices_and_nodes(TrainerConfig(), {}) == (None, 1)
    assert devices_and_nodes(TrainerConfig(devices=2, nodes=3), {"RANK": "0"}) == (2, 3)


@pytest.mark.parametrize("config", [TrainerConfig(), TrainerConfig(devices=8, nodes=2)])
def test_torchrun_says_how_many_there_are(config: TrainerConfig) -> None:
    assert devices_and_nodes(config, TWO_NODES) == (8, 2)


@pytest.mark.parametrize("config", [TrainerConfig(devices=4), TrainerConfig(nodes=3)])
def test_a_run_that_contradicts_torchrun_is_refused(config: TrainerConfig) -> None:
    with pytest.raises(ZigguratError, match="8 processes on each of 2 machines, but trainer.dev"):
        devices_and_nodes(config, TWO_NODES)


@pytest.mark.parametrize(
    ("local", "world", "part"),
    [
        ("8", "12", "equally many"),
        ("x", "16", "'x'"),
        ("0", "0", "must be a count"),
        ("8", "4", "equally"),
    ],
)
def test_what_no_torchrun_would_say(local: str, world: str, part: str) -> None:
    with pytest.raises(ZigguratError, match=part):
        devices_and_nodes(TrainerConfig(), {"LOCAL_WORLD_SIZE": local, "WORLD_SIZE": world})


def test_one_process_speaks() -> None:
    assert is_first_process({})
    assert is_first_process({**TWO_NODES, "RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0"})
    assert not is_first_process({**TWO_NODES, "RANK": "8", "LOCAL_RANK": "0", "GROUP_RANK": "1"})
    assert not is_first_process(SRUN)
    assert is_first_process({**SRUN, "SLURM_PROCID": "0"})
    assert not is_first_process({"LOCAL_RANK": "1"})
    assert not is_first_process({"LOCAL_RANK": "0", "NODE_RANK": "1"})
    assert is_first_process({"RANK": "1"})  # of a cluster, whose processes were not begun together


def test_torchrun_may_number_machines_otherwise_than_slurm() -> None:
    # torchrun sorts the names of the machines as text: node10 goes before node9.
    for rank in (0, 1):
        environment = {**SRUN, **TWO_NODES, "RANK": str(rank), "SLURM_PROCID": str(1 - rank)}
        assert is_first_process(environment) == (rank == 0)


def test_srun_says_how_many_there_are() -> None:
    assert devices_and_nodes(TrainerConfig(), SRUN) == (8, 2)
    environment = cluster_environment(SRUN)
    assert isinstance(environment, SLURMEnvironment) and not environment.auto_requeue
    with pytest.raises(ZigguratError, match="srun started 8 processes on each of 2 machines, but"):
        devices_and_nodes(TrainerConfig(devices=4), SRUN)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"SLURM_NNODES": "3"}, "got 16 on 3"),
        ({"SLURM_NNODES": ""}, "SLURM_NNODES must be a count"),
    ],
)
def test_what_no_srun_would_say(change: dict[str, str], part: str) -> None:
    with pytest.raises(ZigguratError, match=part):
        devices_and_nodes(TrainerConfig(), SRUN | change)


def test_a_batch_script_without_srun_has_one_process() -> None:
    script = {name: value for name, value in SRUN.items() if name != "SLURM_STEP_ID"}
    assert devices_and_nodes(TrainerConfig(), script) == (None, 1)
    assert isinstance(cluster_environment(script), LightningEnvironment)


def test_torchrun_under_srun_and_shells_of_srun() -> None:
    assert not uses_srun(SRUN | TWO_NODES)
    assert not uses_srun(SRUN | {"SLURM_JOB_NAME": "bash"})
    assert cluster_environment(SRUN | TWO_NODES) is None
    assert cluster_environment({}) is None


def test_a_launcher_whose_store_outlives_its_processes() -> None:
    store = {"TORCHELASTIC_USE_AGENT_STORE": "True"}
    assert may_hang_when_begun_again({**store, "TORCHELASTIC_MAX_RESTARTS": "3"})
    assert not may_hang_when_begun_again({**store, "TORCHELASTIC_MAX_RESTARTS": "0"})
    assert not may_hang_when_begun_again({"TORCHELASTIC_MAX_RESTARTS": "3"})
    assert not may_hang_when_begun_again({})
