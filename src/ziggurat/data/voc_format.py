"""Read Pascal VOC: an XML file an image, corners of boxes counted from 1.

    Annotations/*.xml, JPEGImages/*.jpg, ImageSets/Main/<split>.txt      as published
    annotations/*.xml, images/*.jpg                                      a single split, "train"
    <split>/*.xml beside <split>/*.jpg                                   as tools export it

The first pixel of a row is 1 and the last one of an object belongs to it, so that an object from
xmin to xmax covers xmin - 1 to xmax. Tools that count from 0 shift their boxes by one pixel.
What VOC calls difficult is left out of training.

The classes are all names that occur, in the order of the alphabet, or those of classes.txt.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from ziggurat.data.foreign import (
    Box,
    ContentBuilder,
    Report,
    class_list,
    find_image,
    header_size,
    to_number,
)
from ziggurat.data.image_lists import numbered_names
from ziggurat.types import ImageSize

SINGLE_SPLIT = "train"
"""Name of the split where nothing says which images belong to which."""

_MAX_BYTES = 16 * 2**20
_WITH_CLASS = ("_train", "_val", "_trainval", "_test")
"""Ends of the names of lists that may be about one class."""
_HAS_CLASS = ("-1", "0", "1")
"""Ends of the lines of such a list: no object of the class, difficult ones alone, or one."""


@dataclass(frozen=True)
class VocObject:
    """An object of an XML file.

    Attributes:
        name: Its class.
        box: x1, y1, x2, y2 in pixels counted from 0.
        is_difficult: Whether VOC's metric leaves it out.
        place: Which one it is, for messages.
    """

    name: str
    box: Box
    is_difficult: bool
    place: str


def is_voc(root: Path) -> bool:
    """Tell whether a folder is laid out as Pascal VOC."""
    return bool(voc_splits(root))


def voc_splits(root: Path) -> tuple[str, ...]:
    """Name the splits that there are.

    Args:
        root: Folder of the data set.
    """
    if _common_folders(root) is not None:
        files = sorted((root / "ImageSets" / "Main").glob("*.txt"))
        names = tuple(path.stem for path in files if not _is_of_class(path))
        return names or (SINGLE_SPLIT,)
    folders = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    return tuple(path.name for path in folders if any(path.glob("*.xml")))


def _is_of_class(path: Path) -> bool:
    """Tell whether a list says of each image whether it has a class."""
    if not path.stem.endswith(_WITH_CLASS):
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as lines:
        rows = [line.split() for line in lines if line.strip()]
    return all(len(words) > 1 and words[-1] in _HAS_CLASS for words in rows)


def _common_folders(root: Path) -> tuple[Path, Path] | None:
    """Folders of the XML files and of the images of all splits, where there are such."""
    for name in ("Annotations", "annotations"):
        if any((root / name).glob("*.xml")):
            images = (root / name for name in ("JPEGImages", "images", "Images"))
            return root / name, next((path for path in images if path.is_dir()), root / name)
    return None


def read_voc(root: Path, split: str, report: Report) -> tuple[dict[str, object], Path]:
    """Lay a split out as a COCO file.

    Args:
        root: Folder of the data set.
        split: One of `voc_splits`.
        report: Is told of what cannot be taken over.

    Returns:
        The content of the COCO file, and the folder that its file names are relative to.
    """
    classes = class_list(root) or _names_that_occur(root)
    builder = ContentBuilder(classes, report)
    described, images = _common_folders(root) or (root / split, root / split)
    for path in _files(root, described, split, report):
        source = path.relative_to(root).as_posix()
        try:
            tree = parse_xml(path)
        except ValueError as error:
            report(source, str(error))
            continue
        file_name = find_image(images, tree.findtext("filename") or "", path.stem)
        size = _stated_size(tree) or header_size(images / file_name)
        if size is None:
            report(source, f"it states no size, and its image {file_name} cannot be read")
            continue
        image_id = builder.add_image(file_name, size, source)
        if image_id is not None:
            for found in read_objects(tree, source, report):
                if found is not None:
                    builder.add_object(
                        image_id,
                        found.name,
                        found.box,
                        (source, found.place),
                        is_difficult=found.is_difficult,
                    )
    return builder.content(), images


def _files(root: Path, folder: Path, split: str, report: Report) -> Iterator[Path]:
    listed = root / "ImageSets" / "Main" / f"{split}.txt"
    if not listed.is_file():
        yield from sorted(folder.glob("*.xml"))
        return
    for number, name in numbered_names(listed, folder, ".xml"):
        path = folder / f"{name}.xml"
        if path.is_file():
            yield path
        else:
            entry = f"line {number} names {name}"
            report(listed.relative_to(root).as_posix(), f"{entry}, but there is no {path.name}")


def _names_that_occur(root: Path) -> tuple[str, ...]:
    common = _common_folders(root)
    folders = [common[0]] if common else [root / split for split in voc_splits(root)]
    names: set[str] = set()
    for path in (path for folder in folders for path in folder.glob("*.xml")):
        try:
            tree = parse_xml(path)
        except ValueError:  # reported where its split is read
            continue
        names |= {(found.findtext("name") or "").strip() for found in tree.iter("object")}
    return tuple(sorted(names - {""}))


def _stated_size(tree: Element) -> ImageSize | None:
    height, width = (to_number(tree.findtext(f"size/{name}")) for name in ("height", "width"))
    if height is None or width is None or min(height, width) < 1:
        return None
    return int(height), int(width)


def read_objects(tree: Element, source: str, report: Report) -> list[VocObject | None]:
    """Read the objects of an XML file in its order; None for one that is wrong.

    Args:
        tree: Content of the file.
        source: Name of the file.
        report: Is told of what is wrong.
    """
    return [
        _read_object(found, number, source, report)
        for number, found in enumerate(tree.findall("object"), start=1)
    ]


def _read_object(found: Element, number: int, source: str, report: Report) -> VocObject | None:
    name = (found.findtext("name") or "").strip()
    place = f"object {number} ({name})" if name else f"object {number}"
    if not name:
        report(source, f"{place} has no name")
        return None
    texts = {key: found.findtext(f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")}
    corners = {key: to_number(text) for key, text in texts.items()}
    wrong = [f"{key} {texts[key]!r}" for key, value in corners.items() if value is None]
    if wrong:
        report(source, f"{place} has the {wrong[0]}; expected a finite number")
        return None
    x1, y1, x2, y2 = (value for value in corners.values() if value is not None)
    is_difficult = (found.findtext("difficult") or "0").strip() == "1"
    return VocObject(name, (_from_zero(x1), _from_zero(y1), x2, y2), is_difficult, place)


def _from_zero(value: float) -> float:
    # Some tools count from 0: the pixel before the first one is no place.
    return 0.0 if 0 <= value < 1 else value - 1


def parse_xml(path: Path) -> Element:
    """Read an XML file; one that declares entities or a document type is refused.

    Entities let a small file grow without bounds or read other files. No annotation tool writes
    any, and expat tells of a declaration before it acts upon it.

    Args:
        path: The file.

    Raises:
        ValueError: If it cannot be read; says why.
    """
    builder = TreeBuilder()
    parser = expat.ParserCreate()

    def refuse(*_: object) -> None:
        raise ValueError("it declares a document type, which no annotation needs; remove it")

    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"it has more than {_MAX_BYTES} bytes, too many for one image")
        parser.Parse(path.read_bytes(), True)
    except expat.ExpatError as error:
        raise ValueError(f"it is no valid XML: {error}") from error
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror}") from error
    except LookupError as error:
        raise ValueError(f"it cannot be read: {error}") from error
    tree: Element = builder.close()
    if tree.tag != "annotation":
        raise ValueError(f"it holds <{tree.tag}>, not the <annotation> of Pascal VOC")
    return tree
