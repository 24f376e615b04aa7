"""Check a data set with boxes or masks of objects that is not laid out as COCO's.

What a reader cannot take over is a fault of its file; what it takes over is checked as a COCO
file is, each fault under the file and the entry that it stands in.
"""

from collections.abc import Mapping
from pathlib import Path

from ziggurat.data.check_coco_split import SplitCheck, check_split
from ziggurat.data.detection_layouts import FOREIGN
from ziggurat.data.findings import (
    TRAIN_SPLITS,
    DatasetCheck,
    Example,
    Finding,
    Layout,
    Progress,
    SplitCount,
    in_order,
)
from ziggurat.data.foreign import NAMES_FILE
from ziggurat.errors import ZigguratError


def check_foreign(root: Path, layout: Layout, on_progress: Progress | None = None) -> DatasetCheck:
    """Look at every annotation and every image of all splits.

    Args:
        root: Folder of the data set.
        layout: A key of `FOREIGN`.
        on_progress: Called as files are looked at.
    """
    findings: list[Finding] = []
    contents = []
    for name in FOREIGN[layout].checked_splits(root):
        split = SplitCheck(root, name, name, name in TRAIN_SPLITS)
        try:
            content, folder = FOREIGN[layout].read(root, name, split.report)
        except ZigguratError as error:  # of the whole data set, as names that are missing
            findings.append(Finding(name, str(error)))
            break
        contents.append((split, content, folder))
    counts: list[SplitCount] = []
    examples: list[Example] = []
    folders = [folder for _, _, folder in contents]
    for split, content, folder in contents:
        tables = {key: table for key, table in content.items() if isinstance(table, list)}
        if not tables["images"]:
            split.add("zero images: nothing can be learned or measured")
        count, shown = check_split(
            split,
            tables,
            _classes(tables["categories"]),
            folder,
            on_progress,
            is_shared=folders.count(folder) > 1,
            is_part=FOREIGN[layout].is_instances and not (root / NAMES_FILE).is_file(),
        )
        counts.append(count)
        examples += shown
        findings += split.findings
    return DatasetCheck(root, layout, tuple(counts), in_order(findings), tuple(examples))


def _classes(categories: list[Mapping[str, object]]) -> dict[int, str]:
    found: dict[int, str] = {}
    for category in categories:
        number = category["id"]
        assert isinstance(number, int)
        found[number] = str(category["name"])
    return found
