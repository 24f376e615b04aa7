"""Names of image files: which file an annotation means, and names for files to be written."""

from collections.abc import Mapping


def with_file_name(entry: Mapping[str, object]) -> Mapping[str, object]:
    """Return an entry of "images" with the name of its file, where it says it in any way.

    LVIS has addresses in place of names, http://images.cocodataset.org/train2017/000000391895.jpg:
    their last two parts are the place of the file in a folder of COCO.

    Args:
        entry: The entry.
    """
    url = entry.get("coco_url")
    if "file_name" in entry or not isinstance(url, str) or "/" not in url:
        return entry
    return {**entry, "file_name": "/".join(url.split("/")[-2:])}


def unused_name(stem: str, suffix: str, taken: set[str]) -> str:
    """Return a file name that is not taken, with a number where need be, and take it.

    Args:
        stem: How it begins.
        suffix: How it ends, with the dot.
        taken: Names in lower case, since some file systems ignore case; the new one is added.
    """
    name, number = f"{stem}{suffix}", 1
    while name.lower() in taken:
        number += 1
        name = f"{stem}_{number}{suffix}"
    taken.add(name.lower())
    return name
