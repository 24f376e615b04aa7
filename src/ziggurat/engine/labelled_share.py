"""Labels that have nothing to learn from: values that mean another thing than was meant."""

from collections.abc import Iterator

import numpy as np

from ziggurat.data.class_masks import IGNORED_FOLDER, ClassMaskFolder, has_labels
from ziggurat.data.decode import ImageDecodeError
from ziggurat.data.label_files import Labels, read_labels
from ziggurat.data.label_folder import LabelFolder
from ziggurat.engine.data import RunData
from ziggurat.errors import ZigguratError
from ziggurat.ops.label_counts import count_labels

MOST_MAPS = 200
"""Label maps that are counted at most, evenly spread."""
MOST_UNLABELLED = 0.9
"""Share of unlabelled pixels above which a line says so."""
SHOWN = 8


def check_labelled(data: RunData, root: str) -> None:
    """Raise where no pixel of a split is labelled; a file or two tell of most splits that one is.

    Args:
        data: Data of the run.
        root: Folder of the data.

    Raises:
        ZigguratError: If so: there would be nothing to learn, or nothing to count.
    """
    for use, dataset in (("train", data.train), ("validate", data.val)):
        if isinstance(dataset, LabelFolder):
            looks = _looks_at_maps(dataset)
            what = "label maps"
            advice = "compare their values with its classes.json: 255 is an unlabelled pixel"
        elif isinstance(dataset, ClassMaskFolder):
            looks = _looks_at_masks(dataset)
            what = "masks"
            advice = f"what its folders {IGNORED_FOLDER!r} mark counts for no class"
        else:
            continue
        found = next(looks, None)  # None: the loader says which files cannot be decoded
        if found is False and not any(looks):
            raise ZigguratError(
                f"the {what} to {use} on must label some pixels, got {len(dataset)} in {root} "
                f"without any; {advice}"
            )


def notes_of_labels(data: RunData) -> list[str]:
    """Name the classes that no training pixel shows, and a share of labelled pixels that is small.

    Args:
        data: Data of the run.
    """
    dataset = data.train
    if not isinstance(dataset, LabelFolder):
        return []
    num_maps, num_pixels = 0, 0
    counts = np.zeros(len(dataset.classes), dtype=np.int64)
    for labels in _label_maps(dataset, step=-(-len(dataset) // MOST_MAPS)):
        counts += count_labels(labels, len(counts))
        num_maps += 1
        num_pixels += labels.size
    read = f"the {num_maps} training label maps that were looked at, of {len(dataset)}"
    notes = []
    absent = [name for name, count in zip(dataset.classes, counts, strict=True) if not count]
    if absent:
        more = f" and {len(absent) - SHOWN} more" if len(absent) > SHOWN else ""
        notes.append(
            f"WARNING: no pixel of {', '.join(absent[:SHOWN])}{more} in {read}: what is in none of "
            "them cannot be learned; are their values the numbers of the classes?"
        )
    unlabelled = 1 - int(counts.sum()) / max(num_pixels, 1)
    if unlabelled > MOST_UNLABELLED:
        notes.append(
            f"WARNING: {100 * unlabelled:.1f} % of the pixels in {read}, are unlabelled (255): "
            "nothing is learned from them, and they are not counted"
        )
    return notes


def _looks_at_maps(dataset: LabelFolder) -> Iterator[bool]:
    num_classes = len(dataset.classes)
    for labels in _label_maps(dataset, step=1):
        yield bool(count_labels(labels, num_classes).any())


def _looks_at_masks(dataset: ClassMaskFolder) -> Iterator[bool]:
    for masks in dataset.masks:
        try:
            yield has_labels(masks)
        except ImageDecodeError:
            continue


def _label_maps(dataset: LabelFolder, *, step: int) -> Iterator[Labels]:
    """Read label maps; those that cannot be decoded are left out, as training leaves them out.

    Yields:
        Each map.
    """
    for _, path in dataset.pairs[::step]:
        try:
            yield read_labels(path, dataset.rule)
        except ImageDecodeError:
            continue
