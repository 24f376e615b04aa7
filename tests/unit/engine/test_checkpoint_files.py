"""Checkpoints of a run: the newest whole one is taken, the oldest make way."""

import errno
import os
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch

from ziggurat.checkpoints.atomic import remove_leftovers
from ziggurat.engine.checkpoint_files import CheckpointFiles, Start, verify_checkpoint
from ziggurat.errors import ZigguratError


def content(step: int) -> dict[str, Any]:
    return {"loops": {}, "global_step": step, "weights": torch.arange(1000.0)}


def files_with(folder: Path, *steps: int, keep: int = 3) -> CheckpointFiles:
    files = CheckpointFiles(folder, keep)
    for step in steps:
        files.add(content(step))
    return files


def steps_in(folder: Path) -> dict[str, int]:
    return {path.name: verify_checkpoint(path) for path in sorted(folder.iterdir())}


def flip_a_bit(path: Path) -> None:
    """Change one of the thousand numbers, which torch.load does not notice."""
    changed = bytearray(path.read_bytes())
    changed[changed.index(torch.arange(500.0, 504.0).numpy().tobytes())] ^= 1
    path.write_bytes(changed)


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_last_few_are_kept(keep: int, tmp_path: Path) -> None:
    files_with(tmp_path, 1, 2, 3, 4, keep=keep)
    names = ["last.ckpt", "last-1.ckpt", "last-2.ckpt"][:keep]
    assert steps_in(tmp_path) == dict(zip(names, (4, 3, 2), strict=False))


def test_fewer_are_kept_when_fewer_are_asked_for(tmp_path: Path) -> None:
    files_with(tmp_path, 1, 2, 3)
    files_with(tmp_path, 4, keep=1)
    assert steps_in(tmp_path) == {"last.ckpt": 4}


def test_a_changed_number_is_noticed_and_the_one_before_is_taken(tmp_path: Path) -> None:
    files = files_with(tmp_path, 1, 2)
    flip_a_bit(files.newest)
    assert torch.load(files.newest, weights_only=True)["global_step"] == 2
    said: list[str] = []
    assert files.choose(said.append) == Start(tmp_path / "last-1.ckpt", 1)
    (line,) = said
    assert f"{files.newest} cannot be read" in line and "checksum" in line
    assert "going on from last-1.ckpt of step 1 instead" in line
    # The next checkpoint takes the place of the damaged one, not of the whole one.
    files.add(content(2))
    assert steps_in(tmp_path) == {"last.ckpt": 2, "last-1.ckpt": 1}


@pytest.mark.parametrize("size", [0, 100, 3000])
def test_a_torn_file_is_noticed(size: int, tmp_path: Path) -> None:
    files = files_with(tmp_path, 1, 2)
    os.truncate(files.newest, size)
    assert files.choose(lambda line: None) == Start(tmp_path / "last-1.ckpt", 1)


def test_all_damaged_is_an_error_and_none_at_all_is_not(tmp_path: Path) -> None:
    assert CheckpointFiles(tmp_path / "nowhere", 2).choose(print) is None
    files = files_with(tmp_path, 1, 2)
    for path in tmp_path.iterdir():
        path.write_bytes(b"nothing of the kind")
    with pytest.raises(ZigguratError, match=r"last.ckpt cannot .*last-1.ckpt cannot .*--output"):
        files.choose(print)


def test_another_file_is_no_checkpoint(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "last.ckpt")
    with pytest.raises(ZigguratError, match=r"last.ckpt is no checkpoint of `ziggurat train`"):
        CheckpointFiles(tmp_path, 2).choose(print)


@pytest.mark.parametrize("call", range(5))
def test_a_run_killed_between_any_two_renames_leaves_a_whole_checkpoint(
    call: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = files_with(tmp_path, 1, 2)
    original = os.replace
    calls = [0]

    def replace(source: Path, target: Path) -> None:
        if calls[0] == call:
            raise KeyboardInterrupt
        calls[0] += 1
        original(source, target)

    with monkeypatch.context() as patch:
        # pathlib calls what os has, atomic_write as well.
        patch.setattr(os, "replace", replace)
        patch.setattr(Path, "replace", replace)
        try:
            files.add(content(3))
        except KeyboardInterrupt:
            assert calls[0] == call
    start = CheckpointFiles(tmp_path, 3).choose(print)
    assert start is not None and start.step == (3 if calls[0] < call else 2)
    files.add(content(4))
    assert [*steps_in(tmp_path).values()][:2] in ([3, 2], [2, 1])
    assert steps_in(tmp_path)["last.ckpt"] == 4


def test_a_full_disk_leaves_those_that_were_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = files_with(tmp_path, 1, 2)

    def save(content: object, file: BinaryIO) -> None:
        file.write(b"the beginning")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", save)
        with pytest.raises(ZigguratError, match="No space left"):
            files.add(content(3))
    assert steps_in(tmp_path) == {"last.ckpt": 2, "last-1.ckpt": 1}


def test_what_a_killed_writer_left_is_deleted_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".new.ckpt.0123456789ab.tmp").touch()
    for name in (".mine.tmp", "new.ckpt.0123456789ab.tmp", ".new.ckpt.0123456789ab.tmp2"):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
