"""The same file in training and validation, or in two classes."""

import hashlib
from collections import defaultdict
from pathlib import Path

from ziggurat.data.findings import plural
from ziggurat.data.labelled_images import LabelledImages
from ziggurat.doctor.clock import Clock
from ziggurat.doctor.findings import Finding
from ziggurat.doctor.plain import image_paths
from ziggurat.doctor.subject import Subject

CHECK = "duplicates"
LEAK = 0.01
"""Share of the validation images from which on a metric says too much."""


def check_duplicates(subject: Subject, clock: Clock) -> list[Finding]:
    """Compare files of equal size by their content."""
    train, val = image_paths(subject.data.train), image_paths(subject.data.val)
    if train is None or val is None:
        return [Finding(CHECK, "not run", "images are packed, not files that could be compared")]
    trained = set(train)
    validated = set(val) - trained
    leaks = [(path, path) for path in dict.fromkeys(val) if path in trained]
    labels: dict[Path, int] = {}
    contradictions = []
    if isinstance(subject.data.train, LabelledImages):
        for path, label in zip(train, subject.data.train.storage.labels.tolist(), strict=True):
            if labels.setdefault(path, label) != label:
                contradictions.append((path, path))
    for group in _equal_files([*train, *val], clock):
        of_train = [path for path in group if path in trained]
        of_val = [path for path in group if path in validated]
        leaks += [(path, of_train[0]) for path in of_val if of_train]
        others = [path for path in of_train if labels.get(path) != labels.get(of_train[0])]
        if others:
            contradictions.append((of_train[0], others[0]))
    findings = []
    if leaks:
        share = len(leaks) / len(val)
        findings.append(
            Finding(
                CHECK,
                "error" if share >= LEAK else "warning",
                f"{len(leaks)} of {plural(len(val), 'validation image')} are in the training "
                f"split too, as {_pair(*leaks[0])}",
                "remove them from one of the splits: what is measured on them is not learned but "
                "remembered",
            )
        )
    if contradictions:
        findings.append(
            Finding(
                "contradictions",
                "error",
                f"{plural(len(contradictions), 'image')} in two classes, as "
                f"{_pair(*contradictions[0])}",
                "leave each image in one class",
            )
        )
    if not findings:
        evidence = f"none among {len(train)} training and {plural(len(val), 'validation image')}"
        findings.append(Finding(CHECK, "ok", evidence))
    return findings


def _pair(one: Path, other: Path) -> str:
    return f"{one} = {other}" if one != other else f"{one}, which is listed twice"


def _equal_files(paths: list[Path], clock: Clock) -> list[list[Path]]:
    """Group files of equal content; only those that share their size are read."""
    by_size: dict[int, list[Path]] = defaultdict(list)
    for number, path in enumerate(dict.fromkeys(paths)):
        clock.require(f"{number} of {len(paths)} files looked at")
        if path.is_file():  # the check of the data names what is missing
            by_size[path.stat().st_size].append(path)
    groups = []
    for same_size in by_size.values():
        if len(same_size) < 2:
            continue
        by_content: dict[bytes, list[Path]] = defaultdict(list)
        for path in same_size:
            clock.require(f"of {len(paths)} files some of equal size were not read")
            by_content[hashlib.blake2b(path.read_bytes()).digest()].append(path)
        groups += [group for group in by_content.values() if len(group) > 1]
    return groups
