"""Places that a verb writes to: what is wrong with one is said before the work, not after it."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain, count
from pathlib import Path

from ziggurat.errors import ZigguratError


def make_folder(folder: Path) -> None:
    """Make a folder for results.

    Args:
        folder: The folder; those above it are made, too.

    Raises:
        ZigguratError: If it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ZigguratError(
            f"the output folder {folder} cannot be made: {error.strerror}; choose another one"
        ) from error


@contextmanager
def folder_for(folder: Path) -> Iterator[None]:
    """Make a folder for the results of what is done meanwhile; without results it goes again.

    Args:
        folder: The folder.

    Yields:
        Nothing.
    """
    is_new = not folder.exists()
    make_folder(folder)
    try:
        yield
    except BaseException:
        if is_new:
            with suppress(OSError):  # it holds something
                folder.rmdir()
        raise


def make_place(file: Path) -> None:
    """Make the folder of a file that will be written.

    Args:
        file: The file.

    Raises:
        ZigguratError: If there is a folder of its name, or its folder cannot be made.
    """
    if file.is_dir():
        raise ZigguratError(f"{file} is a folder; name a file in it to write to")
    make_folder(file.parent)


def free_name(first: Path) -> Path:
    """Return the name of a file or folder that is not there yet, with _2, _3 and so on if need be.

    Args:
        first: The first choice.
    """
    others = (first.with_stem(f"{first.stem}_{number}") for number in count(2))
    return next(path for path in chain([first], others) if not path.exists())
