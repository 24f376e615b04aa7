"""Read YOLO: a text file an image, one object a line, in fractions of the image's sides.

    images/<split>/*.jpg, labels/<split>/*.txt      or <split>/images/*.jpg, <split>/labels/*.txt
    images/*.jpg, labels/*.txt                      a single split, "train"
    obj_<split>_data/*.jpg with *.txt beside them   of Darknet and CVAT ("YOLO 1.1")
    data.yaml                                       names of the classes, and where splits lie

A line is "class x y width height" (of a box, by its centre) or "class x1 y1 x2 y2 x3 y3 ..." (a
polygon). Where data.yaml has kpt_shape: [points, numbers of each], every line is that of a box with
its keypoints behind it, which are not read. An image without a text file has no objects. Where
data.yaml is absent, classes.txt or obj.names lists the names, one a line. What data.yaml says of
places counts where these lie in the data set; places of another machine are passed over. Darknet's
lists of images, as train.txt, are not read: the folders say which image is of which split.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import yaml

from ziggurat.data.decode import is_image_file
from ziggurat.data.foreign import (
    NAMES_FILE,
    ContentBuilder,
    Report,
    class_list,
    header_size,
    to_number,
)
from ziggurat.errors import ZigguratError
from ziggurat.types import ImageSize

SINGLE_SPLIT = "train"
"""Name of the split where images and text files lie in no folders of splits."""

_TABLES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_SPLITS = ("train", "val", "valid", "test")
_DARKNET_FILES = ("obj.names", "obj.data")
"""Files beside Darknet's folders of images."""

_ROUNDING = 0.01
"""Fractions may leave [0, 1] by this: tools round."""


def is_yolo(root: Path) -> bool:
    """Tell whether a folder holds YOLO's text files beside images."""
    return bool(yolo_splits(root))


def yolo_splits(root: Path) -> tuple[str, ...]:
    """Name the splits that there are.

    Args:
        root: Folder of the data set.
    """
    known = dict.fromkeys(_SPLITS)
    for folder in (root / "images", root / "labels"):
        if folder.is_dir():
            known |= dict.fromkeys(sorted(path.name for path in folder.iterdir() if path.is_dir()))
    found = {split: _image_folder(root, split) for split in known}
    splits = [
        split
        for split, folder in found.items()
        if folder is not None and _label_folder(folder).is_dir()
    ]
    if not splits and _is_flat(root):
        return (SINGLE_SPLIT,)
    if not splits:
        return tuple(_darknet_folders(root))
    # data.yaml calls "val" what may lie in the folder "valid".
    return tuple(s for s in splits if s != "valid" or found["valid"] != found["val"])


def read_yolo(root: Path, split: str, report: Report) -> tuple[dict[str, object], Path]:
    """Lay a split out as a COCO file.

    Args:
        root: Folder of the data set.
        split: One of `yolo_splits`.
        report: Is told of what cannot be taken over.

    Returns:
        The content of the COCO file, and the folder that its file names are relative to.
    """
    names, num_keypoint_words = _names(root), _num_keypoint_words(root)
    builder = ContentBuilder(tuple(names.values()), report)
    images, labels = _places(root, split)
    files = {path.relative_to(images) for path in images.rglob("*") if is_image_file(path)}
    for name in sorted(files):
        size = header_size(images / name)
        if size is None:
            place = (images / name).relative_to(root).as_posix()
            report(place, "it is no image that can be read, so that its objects have no size")
            continue
        text = labels / name.with_suffix(".txt")
        source = text.relative_to(root).as_posix()
        image_id = builder.add_image(name.as_posix(), size, source)
        if image_id is not None and text.is_file():
            _add_objects(builder, image_id, names, num_keypoint_words, size, (text, source))
    stems = {name.with_suffix("") for name in files}
    for text in sorted(labels.rglob("*.txt")):
        if text.relative_to(labels).with_suffix("") not in stems and text.name != NAMES_FILE:
            report(text.relative_to(root).as_posix(), "there is no image that it belongs to")
    return builder.content(), images


def _add_objects(
    builder: ContentBuilder,
    image_id: int,
    names: Mapping[int, str],
    num_keypoint_words: int,
    size: ImageSize,
    file: tuple[Path, str],
) -> None:
    path, source = file
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        builder.report(source, f"it cannot be read as text: {error}")
        return
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            label, values = _parse(line, names, num_keypoint_words)
        except ValueError as error:
            builder.report(source, f"line {number}: {error}")
            continue
        place = (source, f"line {number} ({names[label]})")
        height, width = size
        if len(values) == 4:
            x, y, w, h = values
            box = ((x - w / 2) * width, (y - h / 2) * height)
            far = ((x + w / 2) * width, (y + h / 2) * height)
            builder.add_object(image_id, names[label], (*box, *far), place)
            continue
        xs, ys = [x * width for x in values[::2]], [y * height for y in values[1::2]]
        outline = [value for point in zip(xs, ys, strict=True) for value in point]
        corners = (min(xs), min(ys), max(xs), max(ys))
        builder.add_object(image_id, names[label], corners, place, polygons=[outline])


def _parse(line: str, names: Mapping[int, str], num_keypoint_words: int) -> tuple[int, list[float]]:
    """Read class and fractions of a line; keypoints are left out.

    Raises:
        ValueError: If it is no object; says why.
    """
    words = line.split()
    if num_keypoint_words:
        expected = 5 + num_keypoint_words
        if len(words) != expected:
            raise ValueError(
                f"{len(words)} numbers; expected {expected}: class, x, y, width, height, and the "
                f"{num_keypoint_words} of its keypoints, as kpt_shape in data.yaml says"
            )
        words = words[:5]
    if len(words) != 5 and (len(words) < 7 or len(words) % 2 == 0):
        raise ValueError(
            f"{len(words)} numbers; expected class, x, y, width, height, or class and x, y of "
            "at least three corners"
        )
    label = to_number(words[0])
    if label is None or label != int(label) or int(label) not in names:
        raise ValueError(
            f"the class {words[0]} is out of range; the {len(names)} classes are "
            f"{min(names)} to {max(names)}"
        )
    values = []
    for word in words[1:]:
        value = to_number(word)
        if value is None:
            raise ValueError(f"{word!r} is no finite number")
        if not -_ROUNDING <= value <= 1 + _ROUNDING:
            raise ValueError(f"{word} is no fraction of the image's side, which are 0 to 1")
        values.append(value)
    return int(label), values


def _table(root: Path) -> Mapping[str, object]:
    """Read data.yaml; empty where there is none.

    Raises:
        ZigguratError: If it is no YAML.
    """
    for name in _TABLES:
        path = root / name
        if not path.is_file():
            continue
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            reason = " ".join(str(error).split())
            raise ZigguratError(f"{path} cannot be read as YAML: {reason}") from error
        if not isinstance(content, dict):
            raise ZigguratError(f"{path} must be a table with the names of the classes")
        return content
    return {}


def _names(root: Path) -> dict[int, str]:
    """Name of each class number.

    Raises:
        ZigguratError: If no file names them, or not every one by a name of its own.
    """
    names = _table(root).get("names")
    if names is None:
        listed = class_list(root) or class_list(root / "labels") or _darknet_names(root)
        if listed is None:
            raise ZigguratError(
                f"{root} (YOLO) does not name its classes; add a data.yaml with a list 'names', or "
                "a classes.txt with one name a line"
            )
        names = list(listed)
    if isinstance(names, list):
        names = dict(enumerate(names))
    table = names if isinstance(names, dict) else {}
    if any(isinstance(name, bool) for name in table.values()):
        raise ZigguratError(
            f"{root / 'data.yaml'}: 'names' has yes, no, on, off, true or false, which are no text "
            "in YAML; put quotes around that name, as 'no'"
        )
    is_usable = all(type(number) is int and _is_name(name) for number, name in table.items())
    if not table or not is_usable:
        raise ZigguratError(f"{root / 'data.yaml'}: 'names' must list a name for each class")
    found = {number: str(name) for number, name in sorted(table.items())}
    if len(set(found.values())) < len(found):
        raise ZigguratError(f"{root / 'data.yaml'}: 'names' has a name twice; rename one class")
    return found


def _is_name(value: object) -> bool:
    return isinstance(value, str | int) and bool(str(value))


def _num_keypoint_words(root: Path) -> int:
    """Count the numbers of keypoints at the end of each line; 0 where there are no keypoints.

    Raises:
        ZigguratError: If data.yaml does not say how many there are.
    """
    shape = _table(root).get("kpt_shape")
    if shape is None:
        return 0
    if (
        not isinstance(shape, list)
        or len(shape) != 2
        or not all(type(number) is int for number in shape)
        or shape[0] < 1
        or shape[1] not in (2, 3)
    ):
        raise ZigguratError(
            f"{root / 'data.yaml'}: 'kpt_shape' is {shape!r}; expected the number of keypoints and "
            "2 or 3 numbers of each, as [17, 3]"
        )
    return int(shape[0] * shape[1])


def _darknet_names(root: Path) -> tuple[str, ...] | None:
    path = root / "obj.names"
    if not path.is_file():
        return None
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    return tuple(line.strip() for line in lines if line.strip())


def _is_flat(root: Path) -> bool:
    images, labels = root / "images", root / "labels"
    if not (images.is_dir() and labels.is_dir()):
        return False
    # A text file of some image: label maps may lie in folders of these names, too.
    return any(
        is_image_file(path) and (labels / f"{path.stem}.txt").is_file() for path in images.iterdir()
    )


def _places(root: Path, split: str) -> tuple[Path, Path]:
    """Folders of the images and of the text files of a split that there is."""
    images = _image_folder(root, split)
    if images is None and not _is_flat(root):
        both = _darknet_folders(root)[split]
        return both, both
    images = images or root / "images"
    return images, _label_folder(images)


def _darknet_folders(root: Path) -> dict[str, Path]:
    """Folders of Darknet's layout by the names of their splits.

    CVAT calls them obj_Train_data, obj_Validation_data and so on, other programs obj_train_data.
    """
    if not any((root / name).is_file() for name in _DARKNET_FILES):
        return {}
    found: dict[str, Path] = {}
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        named = re.fullmatch(r"obj_(.+)_data", folder.name)
        images = (path for path in folder.rglob("*") if is_image_file(path))
        if any(path.with_suffix(".txt").is_file() for path in images):
            split = named[1].lower() if named else folder.name
            found[folder.name if split in found else split] = folder
    return found


def _image_folder(root: Path, split: str) -> Path | None:
    stated = _table(root).get(split) if root.is_dir() else None
    candidates = []
    if isinstance(stated, str):
        parts = [part for part in Path(stated).parts if part not in (".", "..")]
        candidates.append(root.joinpath(*parts) if not Path(stated).is_absolute() else root)
    candidates += [root / "images" / split, root / split / "images"]
    for folder in candidates:
        if folder != root and folder.is_dir() and "images" in folder.relative_to(root).parts:
            return folder
    return None


def _label_folder(images: Path) -> Path:
    """Put "labels" for the last "images" in a folder's name."""
    parts = list(images.parts)
    last = len(parts) - 1 - parts[::-1].index("images")
    return Path(*parts[:last], "labels", *parts[last + 1 :])
