"""Check a data set in the layout <split>/<class>/*.jpg.

Splits have any name. Class folders without a split above them are recognised too, as one split
that is named ".": they are counted, and the check says what training expects instead.
"""

from pathlib import Path

from ziggurat.data.decode import ImageDecodeError, has_images, is_image_file
from ziggurat.data.findings import (
    SPLITS,
    TRAIN_SPLITS,
    DatasetCheck,
    Example,
    Finding,
    Progress,
    Severity,
    SplitCount,
    decode_sizes,
    evenly,
    in_order,
    plural,
    some,
)
from ziggurat.data.image_folder import class_folders

_WHOLE = "."
_NUM_EXAMPLES = 12


def is_image_folder(root: Path) -> bool:
    """Tell whether a folder has splits of the usual names with folders of classes in them."""
    return any(class_folders(root / split) for split in SPLITS)


def is_unusual_image_folder(root: Path) -> bool:
    """Tell whether a folder has splits of other names, or class folders and no splits.

    This is a guess from where the images are, to be made when no other layout fits.
    """
    return bool(other_splits(root)) or _is_flat(root)


def other_splits(root: Path) -> list[str]:
    """Name the folders that have class folders as splits do, but not the usual name of one.

    Args:
        root: Folder of the data set.
    """
    return [name for name in class_folders(root) if name not in SPLITS and _is_split(root / name)]


def _is_split(folder: Path) -> bool:
    # A class may have folders too, but then it has images beside them; and images/train of other
    # layouts has no classes below "images".
    return not has_images(folder) and any(
        not _is_usual(name) and has_images(folder / name) for name in class_folders(folder)
    )


def _is_flat(root: Path) -> bool:
    # One folder of images is no data set of one class.
    return sum(not _is_usual(name) and has_images(root / name) for name in class_folders(root)) > 1


def _is_usual(name: str) -> bool:
    return name.removesuffix("2017") in SPLITS


def _splits(root: Path) -> list[str]:
    # Toy trains may be a class of a folder without splits.
    usual = [split for split in SPLITS if (root / split).is_dir() and is_image_folder(root)]
    return [*usual, *other_splits(root)] or [_WHOLE]


def check_image_folder(root: Path, on_progress: Progress | None = None) -> DatasetCheck:
    """Look at every image of every split."""
    splits = _splits(root)
    trained = [split for split in splits if split in TRAIN_SPLITS]
    known = {name for split in trained for name in class_folders(root / split)}
    counts: list[SplitCount] = []
    findings: list[Finding] = []
    if splits == [_WHOLE]:
        reason = "class folders without a split above them; training needs <split>/<class>/*.jpg"
        findings.append(Finding(_WHOLE, reason))
    examples: list[Example] = []
    for split in splits:
        per_class = {}
        good: list[tuple[Path, str]] = []
        for name in class_folders(root / split):
            if trained and name not in known:
                reason = f"class {name!r} is unknown in {some(trained)}: no model will predict it"
                findings.append(Finding((Path(split) / name).as_posix(), reason))
            paths, strangers = _files(root / split / name)
            per_class[name] = len(paths)
            if not paths:
                # Images of an unlisted kind look like an empty class; say which files there are.
                hint = f" (only {some(strangers)})" if strangers else ""
                reason = f"class {name!r} is empty: no images in its folder{hint}"
                severity: Severity = "fault" if split in trained or not trained else "note"
                findings.append(Finding((Path(split) / name).as_posix(), reason, severity))
            elif strangers:
                reason = f"{plural(len(strangers), 'file')} left aside, no image: {some(strangers)}"
                findings.append(Finding((Path(split) / name).as_posix(), reason, "note"))
            for path, result in zip(paths, decode_sizes(paths, on_progress), strict=True):
                if isinstance(result, ImageDecodeError):
                    findings.append(Finding(path.relative_to(root).as_posix(), result.reason))
                else:
                    good.append((path, name))
        findings += _check_split(root, split, per_class, known if trained else set())
        counts.append(SplitCount(split, sum(per_class.values()), "images", per_class))
        chosen = [good[index] for index in evenly(len(good), _NUM_EXAMPLES)]
        examples += [Example(path, f"{split}: {name}", (name,)) for path, name in chosen]
    return DatasetCheck(root, "image_folder", tuple(counts), in_order(findings), tuple(examples))


def _files(folder: Path) -> tuple[list[Path], list[str]]:
    """List the images at any depth, and the names of other files; hidden files do not count."""
    files = sorted(path for path in folder.rglob("*") if not path.is_dir())
    visible = [path for path in files if not path.name.startswith(".")]
    images = [path for path in visible if is_image_file(path)]
    return images, [path.name for path in visible if not is_image_file(path)]


def _check_split(
    root: Path, split: str, per_class: dict[str, int], known: set[str]
) -> list[Finding]:
    found = []
    if not per_class:
        found.append(Finding(split, "no class folders in it; expected <class>/*.jpg"))
    loose = sorted(path.name for path in (root / split).iterdir() if is_image_file(path))
    if loose:
        reason = f"{plural(len(loose), 'image')} in no class folder, left aside: {some(loose)}"
        found.append(Finding(split, reason, "note"))
    missing = sorted(known - set(per_class))
    if missing and per_class:
        reason = f"{plural(len(missing), 'class')} of the training split not in it: {some(missing)}"
        found.append(Finding(split, reason, "note"))
    return found
