"""Read the Semantic Boundaries Dataset: masks of objects for more images of Pascal VOC.

    img/*.jpg, inst/*.mat, <split>.txt      the folder "dataset" of the published archive

A MATLAB file holds GTinst with Segmentation, the number of the object of each pixel (0 = none), and
Categories, the class of each object, 1..20 as VOC counts them. Boxes are those of the masks.

Read by the description that comes with the files, not tried on published ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ziggurat.class_lists import class_list
from ziggurat.data.decode import read_many
from ziggurat.data.foreign import ContentBuilder, Report, find_image
from ziggurat.data.image_lists import read_list
from ziggurat.data.matlab_files import ReadMatlab, matlab_reader
from ziggurat.data.object_maps import Region, find_regions
from ziggurat.types import ImageSize

_EXPECTED = "expected GTinst with Segmentation and Categories"


def is_sbd(root: Path) -> bool:
    """Tell whether a folder is laid out as the Semantic Boundaries Dataset."""
    return bool(sbd_splits(root))


def sbd_splits(root: Path) -> tuple[str, ...]:
    """Name the lists of images.

    Args:
        root: Folder of the data set.
    """
    if not (root / "img").is_dir() or not any((root / "inst").glob("*.mat")):
        return ()
    return tuple(sorted(path.stem for path in root.glob("*.txt")))


def read_sbd(root: Path, split: str, report: Report) -> tuple[dict[str, object], Path]:
    """Lay a split out as a COCO file.

    Args:
        root: Folder of the data set.
        split: One of `sbd_splits`.
        report: Is told of what cannot be taken over.

    Returns:
        The content of the COCO file, and the folder that its file names are relative to.

    A missing scipy, or a list that cannot be read, is a `ZigguratError`.
    """
    read_file = matlab_reader(root)
    classes = class_list("pascal_voc").classes[1:]
    builder = ContentBuilder(classes, report)
    names = read_list(root / f"{split}.txt", root / "inst", ".mat")
    images = root / "img"
    read = partial(_read, read_file, root, len(classes))
    for name, found in zip(names, read_many(read, names), strict=True):
        source = f"inst/{name}.mat"
        if isinstance(found, str):
            report(source, found)
            continue
        image_id = builder.add_image(find_image(images, "", name), found.size, source)
        if image_id is None:
            continue
        for number, region in found.regions.items():
            label = classes[found.categories[number - 1] - 1]
            place = (source, f"object {number}")
            builder.add_object(image_id, label, region.box, place, region=region)
    return builder.content(), images


@dataclass(frozen=True)
class _Found:
    """What a MATLAB file says.

    Attributes:
        size: Height and width.
        regions: Pixels of each object, by its number from 1.
        categories: Class of each object, 1..20.
    """

    size: ImageSize
    regions: Mapping[int, Region]
    categories: list[int]


def _read(read_file: ReadMatlab, root: Path, num_classes: int, name: str) -> _Found | str:
    """Read the file of an image, or say why it cannot be used."""
    path = root / "inst" / f"{name}.mat"
    if not path.is_file():
        return "there is no such file"
    try:
        content = read_file(path, variable_names=["GTinst"])["GTinst"][0, 0]
        numbers, categories = content["Segmentation"], content["Categories"].ravel()
    except Exception as error:  # a damaged file makes its reader raise nearly anything
        return f"it cannot be read ({type(error).__name__}: {error}); {_EXPECTED}"
    if numbers.ndim != 2 or numbers.dtype.kind != "u" or categories.dtype.kind not in "uif":
        return f"its Segmentation or Categories are no whole numbers; {_EXPECTED}"
    regions = find_regions(numbers, without=(0,))
    if max(regions, default=0) > len(categories):
        return f"it has the object {max(regions)}, but Categories of {len(categories)} objects"
    wrong = sorted(set(categories.tolist()) - set(range(1, num_classes + 1)))
    if wrong:
        return f"an object has the class {wrong[0]:g}; expected 1..{num_classes}"
    size = (numbers.shape[0], numbers.shape[1])
    return _Found(size, regions, [int(category) for category in categories])
