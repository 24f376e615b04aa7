"""A file is written whole or not at all, and what was there before survives."""

import errno
import io
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
import torch
from typing_extensions import Buffer

from ziggurat.checkpoints.atomic import atomic_write
from ziggurat.errors import ZigguratError


def _full_disk(file: BinaryIO) -> None:
    file.write(b"half of the new")
    raise OSError(errno.ENOSPC, "No space left on device")


def _writer(content: bytes) -> Callable[[BinaryIO], object]:
    return lambda file: file.write(content)


def test_creates_and_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "weights.bin"
    for content in (b"first", b"second, longer", b"3"):
        atomic_write(path, _writer(content))
        assert path.read_bytes() == content
    assert os.listdir(path.parent) == ["weights.bin"]


def test_full_disk_keeps_the_old_file_and_no_temporary(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"old")
    with pytest.raises(ZigguratError, match=r"weights\.bin: No space left.*unchanged.*free some"):
        atomic_write(path, _full_disk)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["weights.bin"]


def test_full_disk_on_the_first_write_leaves_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(ZigguratError, match="No space left"):
        atomic_write(tmp_path / "weights.bin", _full_disk)
    assert os.listdir(tmp_path) == []


def test_full_disk_below_torch_save_is_recognised(tmp_path: Path) -> None:
    """torch.save hides the disk's error behind a RuntimeError of its own."""

    class FullAfter(io.BytesIO):
        room = 100_000

        def write(self, content: Buffer, /) -> int:
            if self.tell() + memoryview(content).nbytes > self.room:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(content)

    path = tmp_path / "last.ckpt"
    path.write_bytes(b"old")
    with pytest.raises(ZigguratError, match="No space left"):
        atomic_write(path, lambda _: torch.save({"a": torch.zeros(100_000)}, FullAfter()))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["last.ckpt"]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError])
def test_any_interruption_keeps_the_old_file(
    tmp_path: Path, interruption: type[BaseException]
) -> None:
    def stop(file: BinaryIO) -> None:
        file.write(b"half")
        raise interruption("stop")

    path = tmp_path / "weights.bin"
    path.write_bytes(b"old")
    with pytest.raises(interruption, match="stop"):
        atomic_write(path, stop)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["weights.bin"]


def test_the_content_reaches_the_disk_before_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, calls = tmp_path / "weights.bin", []
    real_sync, real_replace = os.fsync, os.replace

    def sync(descriptor: int) -> None:
        calls.append("sync folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "sync file")
        real_sync(descriptor)

    def replace(source: Path, target: Path) -> None:
        calls.append("replace")
        assert Path(source).read_bytes() == b"all of it"
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", replace)
    atomic_write(path, lambda file: file.write(b"all of it"))
    assert calls == ["sync file", "replace", "sync folder"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    target, link = tmp_path / "disk" / "weights.bin", tmp_path / "weights.bin"
    target.parent.mkdir()
    target.write_bytes(b"old")
    link.symlink_to(target)
    atomic_write(link, lambda file: file.write(b"new"))
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_rights_are_those_of_an_ordinary_file(tmp_path: Path) -> None:
    (tmp_path / "ordinary").write_bytes(b"")
    atomic_write(tmp_path / "weights.bin", lambda file: file.write(b"new"))
    modes = [stat.S_IMODE((tmp_path / n).stat().st_mode) for n in ("ordinary", "weights.bin")]
    assert modes[0] == modes[1]


def test_a_folder_in_the_way_is_an_error_and_stays(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").mkdir()
    with pytest.raises(ZigguratError, match="cannot write"):
        atomic_write(tmp_path / "weights.bin", lambda file: file.write(b"new"))
    assert os.listdir(tmp_path) == ["weights.bin"]


def test_a_file_where_a_folder_should_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "run").write_bytes(b"a file")
    with pytest.raises(ZigguratError, match="cannot write"):
        atomic_write(tmp_path / "run" / "weights.bin", lambda file: file.write(b"new"))
    assert (tmp_path / "run").read_bytes() == b"a file"
