"""Write results whole or not at all, JSON and pictures, and choose their names."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from ziggurat.checkpoints.atomic import atomic_write
from ziggurat.ops.image_names import unused_name


def write_json(path: Path, content: Any) -> Path:  # noqa: ANN401  whatever JSON can say
    """Write a JSON file and return its name.

    It is UTF-8, and ASCII where the name of a file is no UTF-8: the same name is read back.

    Args:
        path: File to write; missing folders are made.
        content: Lists, dictionaries, numbers and strings; NaN is refused, as JSON has none.
    """
    try:
        data = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except UnicodeEncodeError:
        data = json.dumps(content, indent=1, allow_nan=False).encode("ascii")
    return write_bytes(path, data)


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file and return its name.

    Args:
        path: File to write; missing folders are made.
        content: All of it.
    """

    def write(file: BinaryIO) -> None:
        file.write(content)

    atomic_write(path, write)
    return path


def picture_names(files: Sequence[Path]) -> list[str]:
    """Return a name ending in .jpg for each file, no two alike even where case is ignored.

    Args:
        files: The images.
    """
    taken: set[str] = set()
    return [unused_name(file.stem, ".jpg", taken) for file in files]
