"""Check a data set in the layout <split>/<class>/*.jpg."""

from pathlib import Path

from ziggurat.data.decode import ImageDecodeError, is_image_file
from ziggurat.data.findings import (
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

_SPLITS = ("train", "training", "val", "valid", "validation", "test", "testing")
_NUM_EXAMPLES = 12


def is_image_folder(root: Path) -> bool:
    """Tell whether a folder has splits with folders of classes in them."""
    return any(_classes(root / split) for split in _SPLITS)


def _classes(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    names = (entry.name for entry in folder.iterdir() if entry.is_dir())
    return sorted(name for name in names if not name.startswith("."))


def check_image_folder(root: Path, on_progress: Progress | None = None) -> DatasetCheck:
    """Look at every image of every split."""
    splits = [split for split in _SPLITS if (root / split).is_dir()]
    trained = [split for split in splits if split in TRAIN_SPLITS]
    known = {name for split in trained for name in _classes(root / split)}
    counts: list[SplitCount] = []
    findings: list[Finding] = []
    examples: list[Example] = []
    for split in splits:
        per_class = {}
        good: list[tuple[Path, str]] = []
        for name in _classes(root / split):
            if trained and name not in known:
                reason = f"class {name!r} is unknown in {some(trained)}: no model will predict it"
                findings.append(Finding(f"{split}/{name}", reason))
            paths, strangers = _files(root / split / name)
            per_class[name] = len(paths)
            if not paths:
                # Images of an unlisted kind look like an empty class; say which files there are.
                hint = f" (only {some(strangers)})" if strangers else ""
                reason = f"class {name!r} is empty: no images in its folder{hint}"
                severity: Severity = "fault" if split in trained or not trained else "note"
                findings.append(Finding(f"{split}/{name}", reason, severity))
            elif strangers:
                reason = f"{plural(len(strangers), 'file')} left aside, no image: {some(strangers)}"
                findings.append(Finding(f"{split}/{name}", reason, "note"))
            for path, result in zip(paths, decode_sizes(paths, on_progress), strict=True):
                if isinstance(result, ImageDecodeError):
                    findings.append(Finding(path.relative_to(root).as_posix(), result.reason))
                else:
                    good.append((path, name))
        findings += _check_split(root / split, per_class, known if trained else set())
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


def _check_split(folder: Path, per_class: dict[str, int], known: set[str]) -> list[Finding]:
    found = []
    if not per_class:
        found.append(Finding(folder.name, "no class folders in it; expected <class>/*.jpg"))
    loose = sorted(path.name for path in folder.iterdir() if is_image_file(path))
    if loose:
        reason = f"{plural(len(loose), 'image')} in no class folder, left aside: {some(loose)}"
        found.append(Finding(folder.name, reason, "note"))
    missing = sorted(known - set(per_class))
    if missing and per_class:
        reason = f"{plural(len(missing), 'class')} of the training split not in it: {some(missing)}"
        found.append(Finding(folder.name, reason, "note"))
    return found
