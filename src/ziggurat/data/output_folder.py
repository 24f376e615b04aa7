"""A folder that gets its content whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from ziggurat.errors import ZigguratError

_UNFINISHED = ".unfinished-"
"""What is written grows in a hidden folder of this name in its final place."""


@contextmanager
def whole_folder(root: Path, output: Path) -> Iterator[Path]:
    """Give a folder to write to, whose content is moved to the output when all of it is there.

    Args:
        root: What is converted, for messages.
        output: Where it goes: a folder that is not there yet, or an empty one.

    Yields:
        The folder to write to. It lies deeper than data sets are looked for, so that what a broken
        conversion leaves is not taken for one.

    Raises:
        ZigguratError: If there is something in the output, or it cannot be written.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ZigguratError(f"{output} is not empty; name a new folder with -o")
    is_ours = not output.exists()
    try:
        output.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=_UNFINISHED, dir=output) as unfinished:
            content = Path(unfinished) / "content"
            content.mkdir()
            yield content
            for part in sorted(content.iterdir()):
                part.rename(output / part.name)
    except OSError as error:
        raise ZigguratError(
            f"cannot convert {root} to {output}: {error} (nothing unfinished was left there)"
        ) from error
    finally:
        if is_ours:
            with suppress(OSError):  # it has content, as it should
                output.rmdir()
