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
    for name, pieces in cut_up.items() if isinstance(cut_up, dict) else ():
        entries[name] = _joined(name, pieces, entries, where)
    return entries


def _is_named_array(value: object) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], np.ndarray)
    )


def _joined(name: str, pieces: object, entries: dict[Any, Any], where: str) -> npt.NDArray[Any]:
    """Put the pieces of an array together and take them out of the entries.

    Raises:
        ZigguratError: If pieces are missing or do not make up the array.
    """
    known = pieces if isinstance(pieces, dict) else {}
    try:
        shape = tuple(int(side) for side in known["OriginShape"])
        parts = [entries.pop(piece).reshape(-1) for piece in known["slices"]]
        return np.concatenate(parts).reshape(shape)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ZigguratError(
            f"entry {name!r} of {where} is cut up and its pieces do not fit ({error!r}); download "
            "or save the file again"
        ) from error
