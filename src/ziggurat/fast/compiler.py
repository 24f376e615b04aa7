"""Kernels of C++ in this folder: built once for this very processor, then loaded.

They are built by the C++ compiler of the machine, into the user's cache, under a name that depends
on the source and on everything the compiler says about itself and the processor. Nothing needs
them: where one cannot be built, the same layers run one by one.
"""

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ziggurat.weights.cache import cache_folder

SOURCES = Path(__file__).parent
HEADERS = tuple(sorted(SOURCES.glob("*.h")))
COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-O3", "-march=native", "-std=c++17", "-fopenmp", "-fPIC", "-shared", "-fno-math-errno")
SECONDS = 120
"""A compiler that takes longer is given up; it takes five seconds."""


class KernelUnavailableError(Exception):
    """The kernel cannot be built or must not be used; says why."""


def load_library(name: str) -> ctypes.CDLL:
    """Build a kernel if this machine has not yet, and load it.

    Args:
        name: Name of its source, without ".cpp".

    Raises:
        KernelUnavailableError: If that is impossible.
    """
    if not sys.platform.startswith("linux"):
        raise KernelUnavailableError(f"it is built on Linux, this is {sys.platform}")
    try:
        return ctypes.CDLL(str(_build(SOURCES / f"{name}.cpp")))
    except OSError as error:
        raise KernelUnavailableError(f"it cannot be loaded: {error}") from error


def check_status(status: int, activations: object) -> None:
    """Raise if a kernel did not compute.

    Args:
        status: What it returned.
        activations: What it was asked for.

    Raises:
        MemoryError: If there was no memory for its buffers.
    """
    assert status != 1, f"no kernel for {activations!r}"
    if status:
        raise MemoryError("no memory for the buffers of the feed-forward kernel")


def _build(source: Path) -> Path:
    compiler = os.environ.get("CXX") or next(filter(shutil.which, COMPILERS), None)
    if compiler is None:
        raise KernelUnavailableError("there is no C++ compiler (c++, g++, clang++, or CXX)")
    macros = _run([compiler, *FLAGS, "-dM", "-E", "-x", "c++", "/dev/null"])
    code = (path.read_bytes() for path in (source, *HEADERS))
    parts = (*code, " ".join(FLAGS).encode(), macros)
    key = hashlib.sha256(b"\0".join(parts))
    folder = _make_folder()
    target = folder / f"{source.stem}_{key.hexdigest()[:16]}.so"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            built = Path(temporary, target.name)
            _run([compiler, *FLAGS, str(source), "-o", str(built)])
            built.replace(target)  # at once: another process may be looking for it
    return target


def _make_folder() -> Path:
    """Return the folder of kernels, in which nobody else may write: what is there is executed.

    Raises:
        KernelUnavailableError: If it cannot be made or others can write there.
    """
    folder = cache_folder() / "kernels"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = folder.stat()
    except OSError as error:
        raise KernelUnavailableError(f"the folder {folder} cannot be made: {error}") from error
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise KernelUnavailableError(f"others may write in {folder}, make it yours alone")
    return folder


def _run(command: list[str]) -> bytes:
    try:
        done = subprocess.run(command, capture_output=True, check=True, timeout=SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or b""
        first = said.decode(errors="replace").strip().splitlines()[:1]
        reason = first[0] if first else str(error)
        raise KernelUnavailableError(f"{command[0]} fails: {reason}") from error
    return done.stdout
