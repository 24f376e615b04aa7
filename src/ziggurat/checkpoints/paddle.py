"""What Paddle adds to the weights in a .pdparams file.

Depending on how it was saved, the file also holds a table of Paddle's internal names, arrays that
were cut up because old pickles end at 4 GB, and each array in a pair with its internal name.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from ziggurat.errors import ZigguratError

INTERNAL_NAMES = "StructuredToParameterName@@"
CUT_UP = "UnpackBigParamInfor@@"


def without_paddle_metadata(content: dict[Any, Any], where: str) -> dict[Any, Any]:
    """Return the entries alone, whole; what is not of Paddle stays as it is.

    Args:
        content: Names and arrays, with or without Paddle's additions.
        where: How error messages call the file.
    """
    entries = {
        name: value[1] if _is_named_array(value) else value
        for name, value in content.items()
        if name not in (INTERNAL_NAMES, CUT_UP)
    }
    cut_up = content.get(CUT_UP)
    used: set[int] = set()
    for name, pieces in cut_up.items() if isinstance(cut_up, dict) else ():
        entries[name] = _joined(name, pieces, entries, used, where)
    return entries


def _is_named_array(value: object) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], np.ndarray)
    )


def _joined(
    name: object, pieces: object, entries: dict[Any, Any], used: set[int], where: str
) -> npt.NDArray[Any]:
    """Put the pieces of an array together and take them out of the entries.

    Args:
        name: Name of the array.
        pieces: What the file says of it.
        entries: Names and arrays.
        used: Arrays that were pieces already, by their identity: under another name none is one
            again, since that would make more of a file than is in it.
        where: How the error message calls the file.

    Raises:
        ZigguratError: If pieces are missing or do not make up the array.
    """
    known = pieces if isinstance(pieces, dict) else {}
    try:
        shape = tuple(int(side) for side in known["OriginShape"])
        parts = [entries.pop(piece) for piece in known["slices"]]
        own = {id(part) for part in parts}
        if len(own) == len(parts) and used.isdisjoint(own):
            used |= own
            return np.concatenate([part.reshape(-1) for part in parts]).reshape(shape)
        fault = "an array is two pieces"
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        fault = repr(error)
    raise ZigguratError(
        f"entry {name!r:.100} of {where} is cut up and its pieces do not fit ({fault:.100}); "
        "download or save the file again"
    )
