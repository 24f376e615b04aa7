"""What stands in for NumPy while a file is unpickled.

A pickle builds arrays by calling functions that it names. Those names lead here, not to NumPy: the
functions below only look at bytes that are in the file, so that nothing they return is larger than
the file and none of them does anything else.
"""

import math
import pickle
import reprlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

NUMBERS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
"""Kind and bytes of what an array may hold; objects, text and records are no weights."""


class StoredType:
    """Stands in for `numpy.dtype`.

    Args:
        code: Kind and number of bytes, as in `NUMBERS`.
        flags: What a pickle gives along with it; it means nothing for numbers.

    Raises:
        UnpicklingError: If it is not the type of a number.
    """

    def __init__(self, code: object, *flags: object) -> None:
        if code not in NUMBERS:
            raise pickle.UnpicklingError(f"an array of type {reprlib.repr(code)}")
        self.dtype: np.dtype[Any] = np.dtype(str(code))

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Take the byte order from what `numpy.dtype` stores; the rest concerns records."""
        self.dtype = self.dtype.newbyteorder(state[1])


class StoredArray(np.ndarray[Any, np.dtype[Any]]):
    """Stands in for `numpy.ndarray`: empty at first, then as large as there are bytes for it."""

    def __new__(cls, *_: object) -> "StoredArray":
        """Make an empty array, whatever size is asked for."""
        return super().__new__(cls, (0,))

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Fill it from what `numpy.ndarray` stores."""
        _, shape, kind, is_fortran, data = state
        # Strings of Python 2 are bytes; they arrive here decoded as Latin-1.
        content = data.encode("latin1") if isinstance(data, str) else data
        _check_size(shape, kind, content)
        checked: Any = (1, shape, kind.dtype, bool(is_fortran), content)
        super().__setstate__(checked)


def from_buffer(
    data: bytes | bytearray, kind: StoredType, shape: tuple[int, ...], order: str
) -> npt.NDArray[Any]:
    """Stand in for `numpy.core.numeric._frombuffer`, which newer pickles call."""
    _check_size(shape, kind, data)
    return np.frombuffer(bytearray(data), kind.dtype).reshape(
        shape, order="F" if order == "F" else "C"
    )


def scalar(kind: StoredType, data: bytes | str) -> bool | int | float:
    """Stand in for `numpy.core.multiarray.scalar`: a number of Python."""
    content = data.encode("latin1") if isinstance(data, str) else data
    _check_size((), kind, content)
    value: bool | int | float = np.frombuffer(content, kind.dtype)[0].item()
    return value


def no_bytes() -> bytes:
    """Stand in for `bytes`, which older pickles call for the empty ones."""
    return b""


def encode(text: str, encoding: str) -> bytes:
    """Stand in for `_codecs.encode`, by which older pickles store bytes.

    Raises:
        UnpicklingError: If it is asked for anything else.
    """
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes encoded as {reprlib.repr(encoding)}")
    return text.encode("latin1")


def _check_size(shape: object, kind: object, data: object) -> None:
    if not (
        isinstance(shape, tuple)
        and all(type(side) is int and side >= 0 for side in shape)
        and isinstance(kind, StoredType)
        and isinstance(data, bytes | bytearray)
        and math.prod(shape) * kind.dtype.itemsize == len(data)
    ):
        held = len(data) if isinstance(data, bytes | bytearray) else "no"
        raise pickle.UnpicklingError(f"an array of shape {reprlib.repr(shape)} with {held} bytes")


STAND_INS: dict[str, Callable[..., object]] = {
    "numpy.dtype": StoredType,
    "numpy.ndarray": StoredArray,
    "numpy.core.multiarray._reconstruct": StoredArray,
    "numpy.core.multiarray.scalar": scalar,
    "numpy.core.numeric._frombuffer": from_buffer,
    # The same functions as NumPy 2 calls them.
    "numpy._core.multiarray._reconstruct": StoredArray,
    "numpy._core.multiarray.scalar": scalar,
    "numpy._core.numeric._frombuffer": from_buffer,
    "_codecs.encode": encode,
    "builtins.bytes": no_bytes,
    "__builtin__.bytes": no_bytes,
}
"""Every name by which a pickle may make arrays and bytes."""
