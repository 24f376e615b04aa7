"""The compiled feed-forward kernel: building it once, laying out weights for it, calling it.

`feed_forward.cpp` says what it computes and why. It is built for this very processor by the C++
compiler of the machine, into the user's cache, under a name that depends on the source and on
everything the compiler says about itself and the processor. Nothing needs it: where it cannot be
built, the same layers run one by one.
"""

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ziggurat.inference.fast.layers import FUNCTIONS, Activation, Weights
from ziggurat.weights.cache import cache_folder

SOURCE = Path(__file__).with_name("feed_forward.cpp")
COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-O3", "-march=native", "-std=c++17", "-fopenmp", "-fPIC", "-shared", "-fno-math-errno")
SECONDS = 120
"""A compiler that takes longer is given up; it takes five seconds."""

TOLERANCE = 1e-5

ActivationPair = tuple[Activation, Activation]
"""What follows the expansion, and what follows the depthwise convolution."""

PAIRS: tuple[ActivationPair, ...] = (
    ("hardswish", "hardswish"),
    ("none", "gelu"),
    ("relu", "gelu"),
    ("relu", "relu"),
    ("none", "relu6"),
)
"""The pairs that the source has."""


class KernelUnavailableError(Exception):
    """The kernel cannot be built or must not be used; says why."""


class Kernel:
    """The kernel, loaded.

    Args:
        library: What was built from the source.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._function = library.ziggurat_feed_forward
        self._panel: int = library.ziggurat_panel()
        self._chunk: int = library.ziggurat_chunk()

    def pack(
        self, expand: Weights, depthwise: Weights, project: Weights, activations: ActivationPair
    ) -> "PackedFeedForward":
        """Lay out the weights of a block.

        Args:
            expand: 1x1 convolution.
            depthwise: Depthwise 3x3 convolution.
            project: 1x1 convolution.
            activations: One of `PAIRS`.
        """
        hidden = len(expand.weight)
        more = -hidden % self._chunk  # channels of zeros, which project to nothing
        last = F.pad(project.weight.flatten(1), (0, more))
        buffers = (
            self._panels(F.pad(expand.weight.flatten(1), (0, 0, 0, more))),
            F.pad(expand.bias, (0, more)),
            F.pad(depthwise.weight.flatten(1).T, (0, more)).contiguous(),
            F.pad(depthwise.bias, (0, more)),
            self._panels(F.pad(last, (0, 0, 0, -len(last) % self._panel))),
            project.bias.contiguous(),
        )
        sizes = (expand.weight.shape[1], hidden + more, len(project.weight))
        return PackedFeedForward(self._function, buffers, sizes, activations)

    def _panels(self, matrix: Float[Tensor, "out in"]) -> Float[Tensor, "panels in panel"]:
        return matrix.unflatten(0, (-1, self._panel)).mT.contiguous()


class PackedFeedForward:
    """Expansion, depthwise 3x3 and projection in one go, on the CPU in float32.

    Args:
        function: The kernel.
        buffers: Weights and biases as the kernel reads them.
        sizes: Channels that come in, hidden channels with their padding, channels that go out.
        activations: What follows the expansion and the depthwise convolution.
    """

    def __init__(
        self,
        function: "ctypes._NamedFuncPointer",
        buffers: tuple[Tensor, ...],
        sizes: tuple[int, int, int],
        activations: ActivationPair,
    ) -> None:
        self._function = function
        self._buffers = buffers  # the addresses below point into them
        self._addresses = (ctypes.c_void_p * len(buffers))(*(t.data_ptr() for t in buffers))
        self._sizes = sizes
        self._activations = " ".join(activations).encode()

    def __call__(self, x: Float[Tensor, "B in H W"]) -> Float[Tensor, "B out H W"]:
        """Return the projected map in channels_last memory.

        Raises:
            MemoryError: If there is none for the kernel's buffers.
        """
        x = x.contiguous(memory_format=torch.channels_last)
        batch, _, height, width = x.shape
        channels_in, hidden, channels_out = self._sizes
        y = x.new_empty(batch, height, width, channels_out).permute(0, 3, 1, 2)
        shape = (batch, height, width, channels_in, hidden, channels_out)
        status = self._function(
            ctypes.c_void_p(x.data_ptr()),
            self._addresses,
            ctypes.c_void_p(y.data_ptr()),
            (ctypes.c_int64 * len(shape))(*shape),
            self._activations,
            torch.get_num_threads(),
        )
        assert status != 1, f"no kernel for {self._activations!r}"
        if status:
            raise MemoryError("no memory for the buffers of the feed-forward kernel")
        return y


@cache
def load_kernel() -> Kernel:
    """Build the kernel if this machine has not yet, load it and try it out.

    Raises:
        KernelUnavailableError: If that is impossible.
    """
    if not sys.platform.startswith("linux"):
        raise KernelUnavailableError(f"it is built on Linux, this is {sys.platform}")
    try:
        kernel = Kernel(ctypes.CDLL(str(_build())))
    except OSError as error:
        raise KernelUnavailableError(f"it cannot be loaded: {error}") from error
    for pair in PAIRS:
        _check(kernel, pair)
    return kernel


def _build() -> Path:
    compiler = os.environ.get("CXX") or next(filter(shutil.which, COMPILERS), None)
    if compiler is None:
        raise KernelUnavailableError("there is no C++ compiler (c++, g++, clang++, or CXX)")
    macros = _run([compiler, *FLAGS, "-dM", "-E", "-x", "c++", "/dev/null"])
    key = hashlib.sha256(b"\0".join((SOURCE.read_bytes(), " ".join(FLAGS).encode(), macros)))
    folder = _make_folder()
    target = folder / f"feed_forward_{key.hexdigest()[:16]}.so"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            built = Path(temporary, target.name)
            _run([compiler, *FLAGS, str(SOURCE), "-o", str(built)])
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


def _check(kernel: Kernel, activations: ActivationPair) -> None:
    """Compare with plain PyTorch: compilers err, and so may the flags for this processor.

    Raises:
        KernelUnavailableError: If the results differ.
    """
    draw = torch.Generator().manual_seed(0)

    def weights(*shape: int, groups: int = 1) -> Weights:
        padding = (shape[-1] // 2,) * 2
        values = torch.randn(*shape, generator=draw) / shape[1] ** 0.5
        bias = torch.randn(shape[0], generator=draw)
        return Weights(values, bias, (1, 1), padding, (1, 1), groups)

    layers = weights(70, 12, 1, 1), weights(70, 1, 3, 3, groups=70), weights(9, 70, 1, 1)
    x = torch.randn(2, 12, 15, 13, generator=draw)
    expected = x
    for w, activation in zip(layers, (*activations, "none"), strict=True):
        y = F.conv2d(expected, w.weight, w.bias, padding=w.padding, groups=w.groups)
        expected = FUNCTIONS[activation](y)
    error = (kernel.pack(*layers, activations)(x) - expected).norm() / expected.norm()
    if not error < TOLERANCE:
        raise KernelUnavailableError(f"it computes something else ({activations}: {error:.1e})")
