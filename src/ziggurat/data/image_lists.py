"""Lists of images: a name a line, as Pascal VOC has them in ImageSets."""

from pathlib import Path

from ziggurat.errors import ZigguratError


def read_list(path: Path, folder: Path, suffix: str) -> list[str]:
    """Read the names of images, as `numbered_names` without the numbers.

    Args:
        path: The list.
        folder: Folder of what belongs to the images.
        suffix: End of the names of files in it.
    """
    return [name for _, name in numbered_names(path, folder, suffix)]


def numbered_names(path: Path, folder: Path, suffix: str) -> list[tuple[int, str]]:
    """Read the number of each line that is not blank, and the name in it.

    The name is the whole line where a file is called so, else the first word: behind it, lists of
    Pascal VOC say whether the image has a class.

    Args:
        path: The list.
        folder: Folder of what belongs to the images.
        suffix: End of the names of files in it.

    Raises:
        ZigguratError: If it cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ZigguratError(f"list of images {path} cannot be read: {error}") from error
    found = []
    for number, line in enumerate(lines, start=1):
        words, whole = line.split(), line.strip()
        if words:
            is_whole = len(words) == 1 or (folder / f"{whole}{suffix}").is_file()
            found.append((number, whole if is_whole else words[0]))
    return found
