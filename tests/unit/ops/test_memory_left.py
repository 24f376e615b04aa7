"""How much memory is left: of the machine, within control groups, and within a shell's limit."""

import resource
from pathlib import Path

import pytest
import torch

from ziggurat.ops import memory

CPU = torch.device("cpu")
GIB = 2**30


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 8 GiB left and no limit."""
    (tmp_path / "meminfo").write_text(f"MemTotal: 99 kB\nMemAvailable: {8 * 2**20} kB\n")
    (tmp_path / "cgroup").write_text("")
    monkeypatch.setattr(memory, "MEMORY_FILE", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "GROUPS_FILE", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(memory, "_free_in_heap", lambda: 0)
    monkeypatch.setattr(
        resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    )
    return tmp_path


def write(folder: Path, **numbers: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, number in numbers.items():
        (folder / f"memory.{name}").write_text(f"{number}\n")


def test_a_machine_without_limits(machine: Path) -> None:
    assert memory.available_bytes(CPU) == 8 * GIB
    (machine / "cgroup").unlink()
    assert memory.available_bytes(CPU) == 8 * GIB


@pytest.mark.parametrize("limited", ["jobs/mine", "jobs", "."])
def test_groups_of_version_2(machine: Path, limited: str) -> None:
    (machine / "cgroup").write_text("0::/jobs/mine\n")
    groups = machine / "groups"
    write(groups / "jobs/mine", max="max", current=GIB)
    write(groups / limited, max=3 * GIB, current=2 * GIB, stat=f"anon 5\ninactive_file {GIB // 2}")
    assert memory.available_bytes(CPU) == GIB + GIB // 2
    write(groups / limited, current=4 * GIB)
    assert memory.available_bytes(CPU) == 0


def test_groups_of_version_1(machine: Path) -> None:
    (machine / "cgroup").write_text("3:cpuset:/\n4:cpu,memory:/host/path\n0::/\n")
    write(machine / "groups/memory", limit_in_bytes=5 * GIB, usage_in_bytes=GIB)
    assert memory.available_bytes(CPU) == 4 * GIB


def test_the_limit_of_a_shell(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = machine / "status"
    state.write_text(f"Name:\tpython\nVmSize:\t {2**20} kB\n")
    monkeypatch.setattr(memory, "STATE_FILE", state)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (3 * GIB, 3 * GIB))
    assert memory.available_bytes(CPU) == 2 * GIB
    state.unlink()
    assert memory.available_bytes(CPU) == 8 * GIB


def test_systems_that_do_not_tell(machine: Path) -> None:
    assert memory.available_bytes(torch.device("meta")) is None
    (machine / "meminfo").unlink()
    assert memory.available_bytes(CPU) is None
