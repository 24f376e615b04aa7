"""The last few checkpoints of a run: the newest whole one, and which of them make way for another.

They are last.ckpt and, from newer to older, last-1.ckpt, last-2.ckpt and so on.
"""

import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ziggurat.checkpoints.atomic import atomic_write, sync_folder
from ziggurat.errors import ZigguratError


@dataclass(frozen=True)
class Start:
    """Where a run goes on from.

    Attributes:
        path: A whole checkpoint.
        step: Optimizer steps done before.
    """

    path: Path
    step: int


@dataclass
class CheckpointFiles:
    """Checkpoints of one run.

    Attributes:
        folder: Where they lie.
        keep: How many there are at most.
        damaged: Those that were found damaged; they go when the next one is written.
    """

    folder: Path
    keep: int
    damaged: list[Path] = field(default_factory=list)

    @property
    def newest(self) -> Path:
        """The checkpoint that was written last."""
        return self._numbered(0)

    def choose(self, say: Callable[[str], None]) -> Start | None:
        """Return the newest checkpoint that is whole, or None where there is none at all.

        Args:
            say: Is told of those that are damaged.

        Raises:
            ZigguratError: If there are some and all are damaged.
        """
        faults = []
        for path in self._present():
            try:
                step = verify_checkpoint(path)
            except ZigguratError as error:
                self.damaged.append(path)
                faults.append(str(error))
                continue
            if faults:
                say(f"{'; '.join(faults)}; going on from {path.name} of step {step} instead")
            return Start(path, step)
        if faults:
            raise ZigguratError(
                f"{'; '.join(faults)}; no other checkpoint is left, start again with another "
                "--output"
            )
        return None

    def add(self, content: dict[str, Any]) -> None:
        """Write a checkpoint, whole or not at all, and delete the oldest beyond `keep`.

        At every moment a whole checkpoint is there under one of the names.

        Args:
            content: What to keep.
        """
        new = self.folder / "new.ckpt"
        atomic_write(new, lambda file: torch.save(content, file))
        for path in self.damaged:
            path.unlink(missing_ok=True)
        self.damaged.clear()
        present = self._present()
        for number, path in enumerate(present):  # where one is missing, the older ones move up
            path.replace(self._numbered(number))
        for number in reversed(range(len(present))):
            if number + 1 < self.keep:
                self._numbered(number).replace(self._numbered(number + 1))
            elif number > 0:
                self._numbered(number).unlink()
        new.replace(self.newest)
        sync_folder(self.folder)

    def _numbered(self, number: int) -> Path:
        return self.folder / ("last.ckpt" if number == 0 else f"last-{number}.ckpt")

    def _present(self) -> list[Path]:
        """Return the files that are there, newest first."""
        numbers = [
            int(path.stem.removeprefix("last-"))
            for path in self.folder.glob("last-*.ckpt")
            if path.stem.removeprefix("last-").isdecimal()
        ]
        paths = [self.newest, *(self._numbered(number) for number in sorted(numbers))]
        return [path for path in paths if os.path.lexists(path)]


def verify_checkpoint(path: Path) -> int:
    """Read every byte of a checkpoint and hold it against the checksums in it.

    torch.load alone does not: it takes changed numbers for the weights.

    Args:
        path: File of the checkpoint.

    Returns:
        The step the checkpoint is of.

    Raises:
        ZigguratError: If it is damaged or no checkpoint of a run.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            changed = archive.testzip()
    except OSError as error:
        raise ZigguratError(f"checkpoint {path} cannot be read: {error.strerror}") from error
    except Exception as error:  # zipfile raises whatever its readers meet in damaged bytes
        raise ZigguratError(_unreadable(path, type(error).__name__)) from error
    if changed is not None:
        reason = f"{changed} has another checksum than when it was written"
        raise ZigguratError(_unreadable(path, reason))
    step: int = read_checkpoint(path, mmap=True)["global_step"]
    return step


def read_checkpoint(path: str | Path, *, mmap: bool = False) -> dict[str, Any]:
    """Read a checkpoint into the main memory; nothing in it is run.

    Args:
        path: File of the checkpoint.
        mmap: Whether tensors stay on the disk until they are used.

    Raises:
        ZigguratError: If it is damaged or no checkpoint of a run.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # torch raises whatever its readers meet in damaged bytes
        raise ZigguratError(_unreadable(path, type(error).__name__)) from error
    if not isinstance(content, dict) or not {"loops", "global_step"} <= content.keys():
        raise ZigguratError(f"{path} is no checkpoint of `ziggurat train`")
    return content


def _unreadable(path: str | Path, reason: str) -> str:
    return (
        f"checkpoint {path} cannot be read ({reason}), it is damaged or no checkpoint of "
        "`ziggurat train`"
    )
