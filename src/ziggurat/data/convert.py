"""Write a data set of boxes or masks of objects in another layout anew, as COCO."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from ziggurat.data.check import find_datasets
from ziggurat.data.coco_file import SOURCE
from ziggurat.data.detection_layouts import FOREIGN
from ziggurat.data.foreign import stop_at
from ziggurat.data.output_folder import whole_folder
from ziggurat.errors import ZigguratError
from ziggurat.ops.image_names import unused_name

_COCO_NAMES = {"training": "train", "valid": "val", "validation": "val"}
"""Names of splits that training does not look for."""


def convert_to_coco(
    root: Path,
    output: Path,
    *,
    with_masks: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, tuple[int, int]]:
    """Write annotations/instances_<split>.json and copy the images to <split>/, all or nothing.

    Args:
        root: Folder of the data set.
        output: Folder to write to, without a data set in it.
        with_masks: Whether a folder with both boxes and masks of objects gives the masks.
        on_progress: Called with the number of images copied and the number of all.

    Returns:
        Number of images and of objects of each split.

    Raises:
        ZigguratError: If the data set cannot be read, or the output not be written.
    """
    found = find_datasets(root)
    found = tuple(one for one in found if one[1] in FOREIGN) or found  # label maps stay behind
    paths = list(dict.fromkeys(path for path, _ in found))
    if len(paths) > 1:
        names = ", ".join(path.name for path in paths)
        raise ZigguratError(f"{root} holds {len(paths)} data sets ({names}); convert one of them")
    path, name = found[-1 if with_masks else 0]  # of two, the masks are the second
    if name not in FOREIGN:
        raise ZigguratError(
            f"{root} has the layout {name!r}; what is converted to COCO is {', '.join(FOREIGN)}"
        )
    if with_masks and not FOREIGN[name].is_instances:
        raise ZigguratError(
            f"{root} ({FOREIGN[name].title}) has no masks beside its boxes; leave out --masks"
        )
    layout = FOREIGN[name]
    named = layout.checked_splits(path)
    with whole_folder(root, output) as unfinished:
        splits = {
            _coco_name(split, named): layout.read(path, split, stop_at(path)) for split in named
        }
        return _write(unfinished, splits, on_progress)


def _coco_name(split: str, splits: Sequence[str]) -> str:
    """Name a split as training looks for it; two that would be called alike keep their names.

    Args:
        split: Name of the split.
        splits: Names of all splits.
    """
    name = _COCO_NAMES.get(split, split)
    alike = [one for one in splits if _COCO_NAMES.get(one, one) == name]
    return name if len(alike) == 1 else split


def _write(
    output: Path,
    splits: dict[str, tuple[dict[str, object], Path]],
    on_progress: Callable[[int, int], None] | None,
) -> dict[str, tuple[int, int]]:
    tables = {split: _plain(content) for split, (content, _) in splits.items()}
    total = sum(len(table["images"]) for table in tables.values())
    done = 0
    (output / "annotations").mkdir()
    for split, table in tables.items():
        names = [str(image["file_name"]) for image in table["images"]]
        copies = _names_of_copies(names)
        for image, copy in zip(table["images"], copies, strict=True):
            image["file_name"] = copy
        text = json.dumps(table, separators=(",", ":"))
        (output / "annotations" / f"instances_{split}.json").write_text(text, encoding="utf-8")
        for name, copy in zip(names, copies, strict=True):
            (output / split / copy).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(splits[split][1] / name, output / split / copy)
            done += 1
            if on_progress is not None:
                on_progress(done, total)
    return {
        split: (len(table["images"]), len(table["annotations"])) for split, table in tables.items()
    }


def _names_of_copies(names: list[str]) -> list[str]:
    """Keep the names of images in the folder, and give those outside of it names in it.

    Args:
        names: Files relative to the folder; no two alike.
    """
    taken = {name.lower() for name in names if not _is_outside(name)}
    return [
        unused_name(Path(name).stem, Path(name).suffix, taken) if _is_outside(name) else name
        for name in names
    ]


def _is_outside(name: str) -> bool:
    return Path(name).is_absolute() or ".." in Path(name).parts


def _plain(content: dict[str, object]) -> dict[str, list[dict[str, object]]]:
    """Leave out where entries come from."""
    return {
        key: [{name: value for name, value in entry.items() if name != SOURCE} for entry in table]
        for key, table in content.items()
        if isinstance(table, list)
    }
