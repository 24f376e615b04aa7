"""What the readers of other formats than COCO's share: they lay everything out as COCO does.

A reader names what it cannot take over, with file and entry, and goes on without it: training
stops at the first such report, a check collects them all. Boxes and masks that are well written
but wrong (outside the image, without area) are taken over; what is done about them is the same
as for a COCO file.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from ziggurat.data.coco_file import IGNORED, SOURCE
from ziggurat.data.decode import IMAGE_SUFFIXES, upright_size
from ziggurat.data.object_maps import Region
from ziggurat.errors import ZigguratError
from ziggurat.types import ImageSize

Report = Callable[[str, str], None]
"""Is told of a file, relative to the data set, and of what is the matter with it."""

NAMES_FILE = "classes.txt"

Box = tuple[float, float, float, float]


def stop_at(root: Path) -> Report:
    """Return what raises `ZigguratError` at the first report.

    Args:
        root: Folder of the data set.
    """

    def stop(file: str, reason: str) -> None:
        raise ZigguratError(
            f"{root / file}: {reason}; `ziggurat data check {root}` names every fault"
        )

    return stop


@dataclass
class ContentBuilder:
    """Grows the content of a COCO file.

    Attributes:
        classes: Name of each class; a class has the category id of its place, from 1.
        report: Is told of names that are no class.
    """

    classes: Sequence[str]
    report: Report
    images: list[dict[str, object]] = field(default_factory=list)
    annotations: list[dict[str, object]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._ids = {name: number for number, name in enumerate(self.classes, start=1)}
        self._image_of: dict[str, str] = {}

    def add_image(
        self, file_name: str, size: ImageSize, source: str, *, ignored: Region | None = None
    ) -> int | None:
        """Add an image and return its id, or None where it is already there.

        Args:
            file_name: File below the image folder.
            size: Height and width.
            source: File that describes it.
            ignored: Pixels that the rules of Cityscapes leave out.
        """
        if file_name in self._image_of:
            first = self._image_of[file_name]
            self.report(source, f"it describes the image {file_name}, as {first} does already")
            return None
        self._image_of[file_name] = source
        number = len(self.images) + 1
        height, width = size
        self.images.append(
            {
                "id": number,
                "file_name": file_name,
                "height": height,
                "width": width,
                **({IGNORED: ignored.segmentation} if ignored is not None else {}),
                SOURCE: source,
            }
        )
        return number

    def add_object(
        self,
        image_id: int,
        name: str,
        box: Box,
        source: tuple[str, str],
        *,
        polygons: Sequence[Sequence[float]] = (),
        region: Region | None = None,
        is_difficult: bool = False,
        is_crowd: bool = False,
    ) -> None:
        """Add an object.

        Args:
            image_id: Its image.
            name: Its class.
            box: x1, y1, x2, y2 in pixels.
            source: File and entry that describe it.
            polygons: Its outlines, as flat x, y lists; none where only a box is known.
            region: Its pixels, in place of outlines.
            is_difficult: Whether VOC's metric leaves it out.
            is_crowd: Whether it stands for many objects.
        """
        if name not in self._ids:
            known = f"the {len(self.classes)} classes are {', '.join(self.classes[:5])}"
            more = ", ..." if len(self.classes) > 5 else ""
            self.report(source[0], f"{source[1]}: unknown class {name!r}; {known}{more}")
            return
        x1, y1, x2, y2 = box
        mask: dict[str, object] = {}
        area = (x2 - x1) * (y2 - y1)
        if region is not None:
            mask, area = {"segmentation": region.segmentation}, region.area
        elif polygons:
            mask = {"segmentation": [list(polygon) for polygon in polygons]}
            area = sum(_area(polygon) for polygon in polygons)
        self.annotations.append(
            {
                "id": len(self.annotations) + 1,
                "image_id": image_id,
                "category_id": self._ids[name],
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": area,
                "iscrowd": int(is_crowd),
                **mask,
                **({"difficult": 1} if is_difficult else {}),
                SOURCE: source,
            }
        )

    def content(self) -> dict[str, object]:
        """Return what the COCO file would hold."""
        categories = [{"id": number, "name": name} for name, number in self._ids.items()]
        return {
            "images": self.images,
            "annotations": self.annotations,
            "categories": categories,
        }


def _area(polygon: Sequence[float]) -> float:
    """Area of an outline that does not cross itself, in square pixels."""
    xs, ys = polygon[::2], polygon[1::2]
    following = zip([*xs[1:], xs[0]], [*ys[1:], ys[0]], strict=True)
    twice = sum(
        x * y_next - x_next * y for x, y, (x_next, y_next) in zip(xs, ys, following, strict=True)
    )
    return abs(twice) / 2


def class_list(root: Path) -> tuple[str, ...] | None:
    """Read classes.txt, one name a line, where there is one.

    Args:
        root: Folder of the data set.

    Raises:
        ZigguratError: If a name stands there twice, or none does.
    """
    path = root / NAMES_FILE
    if not path.is_file():
        return None
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    names = tuple(line.strip() for line in lines if line.strip())
    if not names or len(set(names)) < len(names):
        raise ZigguratError(f"{path} must name every class once, one a line, got {len(names)}")
    return names


def header_size(path: Path) -> ImageSize | None:
    """Height and width of an image file, upright, without decoding it; None if it says none.

    Args:
        path: The file.
    """
    try:
        with Image.open(path) as image:
            return upright_size(image)
    except Exception:  # a damaged file makes Pillow raise nearly anything
        return None


def find_image(folder: Path, name: str, stem: str) -> str:
    """Name of an image file in a folder: as it is written, else of the same stem.

    Args:
        folder: Where to look.
        name: File name as an annotation says it; folders before it are left out, since they are
            those of another machine.
        stem: Name of the annotation file without its suffix.
    """
    name = name.replace("\\", "/").rsplit("/", 1)[-1].strip()
    if name and (folder / name).is_file():
        return name
    for suffix in sorted(IMAGE_SUFFIXES):
        for candidate in (f"{stem}{suffix}", f"{stem}{suffix.upper()}"):
            if (folder / candidate).is_file():
                return candidate
    return name or f"{stem}.jpg"


def to_number(value: object) -> float | None:
    """Read a finite number, or return None."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if abs(number) < 1e8 else None
