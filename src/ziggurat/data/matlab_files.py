"""What reads MATLAB files, which nothing but two published data sets needs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ziggurat.errors import ZigguratError

ReadMatlab = Callable[..., dict[str, Any]]
"""Takes a file and the names of the variables that are wanted."""


def matlab_reader(root: Path) -> ReadMatlab:
    """Return scipy's reader.

    Args:
        root: Folder of the data set, for messages.

    Raises:
        ZigguratError: If scipy is not installed.
    """
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise ZigguratError(
            f"{root} has MATLAB files, which are read with scipy, and it is not installed; "
            "install it with: pip install 'ziggurat[train]'"
        ) from error
    read: ReadMatlab = loadmat
    return read
