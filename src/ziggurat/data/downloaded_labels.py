"""Published label maps as they are downloaded, where they are trained on in another form.

    COCO-Stuff 10k   images/*.jpg, annotations/*.mat, imageLists/{train,test}.txt; converted
    Pascal Context   trainval_merged.json beside Pascal VOC 2010's JPEGImages; converted
    CamVid           label_colors.txt, a folder of *.png and one of *_L.png, whose colours are those
                     of the list; read, as one split

What `convert_labels` converts is refused by whoever would read it, with the command that does it.
None was tried on published files.
"""

from pathlib import Path

from ziggurat.class_lists import Colour
from ziggurat.data.decode import is_image_file
from ziggurat.data.label_rules import LabelRule
from ziggurat.errors import ZigguratError

CAMVID_ENDING = "_L"
"""What the names of CamVid's label files have behind those of the images."""
CONTEXT_FILE = "trainval_merged.json"
STUFF_10K_FILES = "images/*.jpg, annotations/*.mat and imageLists/train.txt and test.txt"
_COLOUR_FILE = "label_colors.txt"
_VOID = "void"
"""Name of the pixels of no class."""


def stuff_10k_splits(root: Path) -> tuple[str, ...]:
    """Name the splits that are made of COCO-Stuff 10k, if a folder has it as downloaded.

    Args:
        root: Folder of the data set.
    """
    is_here = (root / "imageLists").is_dir() and any((root / "annotations").glob("*.mat"))
    return ("train2014", "test2014") if is_here else ()


def about_matlab_files(root: Path) -> str:
    """Say what to do with COCO-Stuff's MATLAB files.

    Args:
        root: Folder of the data set.
    """
    return (
        f"{root} has its labels in MATLAB files, which are not trained on; write PNG files of "
        f"COCO-Stuff 10k as downloaded ({STUFF_10K_FILES}) with {_command(root)}"
    )


def context_splits_to_make(root: Path) -> tuple[str, ...]:
    """Name the splits that are made of Pascal Context, if a folder has it as downloaded.

    Args:
        root: Folder of the data set.
    """
    is_here = (root / CONTEXT_FILE).is_file() and (root / "JPEGImages").is_dir()
    return ("train", "val") if is_here else ()


def about_context_file(root: Path) -> str:
    """Say what to do with Pascal Context's annotations.

    Args:
        root: Folder of the data set.
    """
    return (
        f"{root / CONTEXT_FILE} has the labels of Pascal Context as published, which are not "
        f"trained on; write PNG files of them with {_command(root)}"
    )


def _command(root: Path) -> str:
    return f"`ziggurat data convert {root} --format labels -o NEW_FOLDER`"


def camvid_places(root: Path) -> tuple[str, str] | None:
    """Name the folders of CamVid's images and label files as downloaded, or None without them.

    Args:
        root: Folder of the data set.
    """
    if not (root / _COLOUR_FILE).is_file():
        return None
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    labels = [path for path in folders if any(path.glob(f"*{CAMVID_ENDING}.png"))]
    images = [
        path
        for path in folders
        if path not in labels and any(is_image_file(file) for file in path.iterdir())
    ]
    return (images[0].name, labels[0].name) if images and labels else None


def camvid_rule(root: Path) -> LabelRule:
    """Read the classes of label_colors.txt; Void is none, nor is black where no class has it.

    Args:
        root: Folder of the data set.

    Raises:
        ZigguratError: If it cannot be read, or a line is no colour with a name.
    """
    path = root / _COLOUR_FILE
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ZigguratError(f"list of colours {path} cannot be read: {error}") from error
    colours: dict[str, Colour] = {}
    for line in filter(str.strip, lines):
        *levels, name = line.split(maxsplit=3)
        if len(levels) != 3 or not all(x.isdecimal() and int(x) <= 255 for x in levels):
            raise ZigguratError(
                f"list of colours {path} has the line {line!r}; expected three levels of 0 to 255 "
                "and a name, as 64 128 64 Animal"
            )
        red, green, blue = (int(level) for level in levels)
        colours[name.strip()] = (red, green, blue)
    names = tuple(name for name in colours if name.lower() != _VOID)
    if not names:
        raise ZigguratError(f"list of colours {path} names no class")
    palette = tuple(colours[name] for name in names)
    none = {(0, 0, 0), *colours.values()} - set(palette)
    return LabelRule(names, palette, tuple(range(len(names))), ignored_colours=frozenset(none))
