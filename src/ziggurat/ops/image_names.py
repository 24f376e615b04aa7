"""Which file an image of an annotation file is, for training, checks and evaluation alike."""

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
