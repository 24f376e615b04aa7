"""Memory of the processes that read images: with ten thousand images, and with as many as are said.

    python benchmarks/data_memory.py [--list 1281167] [--coco 118287] [--label_maps 118287]
        [--workers 4] [--output FILE]

"list" is a list of ImageNet's number of images, "coco" an annotation file with an object and its
mask in each image, "label_maps" a folder of images and one of label maps; a number of 0 leaves one
out. They are written into a temporary folder, label maps and their images as empty files, the other
images not at all, and opened as a run does. Then workers share the images of an epoch in random
order and look at all that a data set keeps of each. "unique" is what a worker has for itself (USS
in /proc, Linux only): it must not grow with the number of images; up to ten MB are Python's own,
which keeps the parts of the paths that it has seen. The list of Python objects that many data sets
keep is measured beside it.
"""

import argparse
import gc
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ziggurat.data.coco import CocoDetection, find_coco
from ziggurat.data.detection import DetectionTransform
from ziggurat.data.label_folder import LabelFolder
from ziggurat.data.labelled_images import open_storage
from ziggurat.data.segmentation import EvalSegmentation
from ziggurat.data.storage import Storage
from ziggurat.engine.budget import describe_machine
from ziggurat.preprocessing import FitAligned, FitInside

FEW = 10_000


@dataclass(frozen=True)
class Kind:
    """A kind of data set.

    Attributes:
        write: Writes one of so many images into a folder.
        open: Opens it as a run does.
        row: Returns what many data sets keep of an image in a list of Python objects.
        look: Looks at all that ours keeps of an image.
    """

    write: Callable[[Path, int], None]
    open: Callable[[Path], Any]
    row: Callable[[Any, int], tuple[object, ...]]
    look: Callable[[Any, int], object]


def write_list(root: Path, count: int) -> None:
    """Write a list of images of a thousand classes, of which the first is there."""
    name = "train/n{:08d}/n{:08d}_{}.JPEG"
    (root / name.format(0, 0, 0)).parent.mkdir(parents=True)
    (root / name.format(0, 0, 0)).touch()
    with (root / "train.txt").open("w") as file:
        for index in range(count):
            label = index % 1000
            file.write(f"{name.format(label, label, index // 1000)} {label}\n")


def row_of_list(storage: Storage, index: int) -> tuple[object, ...]:
    """Return the file and the label of an image."""
    return storage.name(index), int(storage.labels[index])


def write_coco(root: Path, count: int) -> None:
    """Write an annotation file with an object in every image."""
    (root / "train").mkdir()
    (root / "annotations").mkdir()
    image = '{{"id": {0}, "file_name": "{0:012}.jpg", "height": 480, "width": 640}}'
    entry = (
        '{{"id": {0}, "image_id": {0}, "category_id": 1, "bbox": [100, 90, 50, 40], "area": 1000, '
        '"segmentation": [[100, 90, 150, 90, 150, 130]]}}'
    )
    with (root / "annotations" / "instances_train.json").open("w") as file:
        file.write('{"categories": [{"id": 1, "name": "thing"}]')
        for table, text in (("images", image), ("annotations", entry)):
            file.write(f', "{table}": [')
            for index in range(count):
                file.write(("," if index else "") + text.format(index))
            file.write("]")
        file.write("}")


def open_coco(root: Path) -> CocoDetection:
    """Open what `write_coco` wrote."""
    transform = DetectionTransform(FitInside(), flip=0.5, scales=None, exact_resize=True)
    files = find_coco(root, "train")
    return CocoDetection(*files, transform, train=True, keep_empty=False, with_masks=True)


def row_of_coco(dataset: CocoDetection, index: int) -> tuple[object, ...]:
    """Return what a file says of an image."""
    row, file = dataset.rows[index], dataset.file
    return file.image_ids[row], file.file_names[row], file.sizes[row]


def look_at_coco(dataset: CocoDetection, index: int) -> object:
    """Look at the objects of an image too."""
    return row_of_coco(dataset, index), dataset.target(index)


def write_label_maps(root: Path, count: int) -> None:
    """Write empty images and label maps."""
    for folder, suffix in (("images", "jpg"), ("annotations", "png")):
        (root / folder / "train").mkdir(parents=True)
        for index in range(count):
            (root / folder / "train" / f"{index:012}.{suffix}").touch()
    (root / "classes.json").write_text('{"classes": ["road", "sky"]}')


def open_label_maps(root: Path) -> LabelFolder:
    """Open what `write_label_maps` wrote."""
    return LabelFolder(root, "train", EvalSegmentation(FitAligned()), train=True)


def row_of_label_maps(dataset: LabelFolder, index: int) -> tuple[object, ...]:
    """Return the files of an image."""
    return dataset.pairs[index]


KINDS = {
    "list": Kind(write_list, lambda root: open_storage(root, "train"), row_of_list, row_of_list),
    "coco": Kind(write_coco, open_coco, row_of_coco, look_at_coco),
    "label_maps": Kind(write_label_maps, open_label_maps, row_of_label_maps, row_of_label_maps),
}


def look_at_list(rows: list[tuple[object, ...]], index: int) -> object:
    """Look at all that a list of Python objects has of an image."""
    return [part is None for part in rows[index]]


def unique_megabytes() -> float:
    """Memory that this process shares with no other."""
    text = Path("/proc/self/smaps_rollup").read_text()
    lines = (line.split() for line in text.splitlines())
    kilobytes = {words[0]: int(words[1]) for words in lines if words[-1] == "kB"}
    return (kilobytes["Private_Clean:"] + kilobytes["Private_Dirty:"]) / 1024


def work(
    connection: Connection, look: Callable[[Any, int], object], data: object, order: Sequence[int]
) -> None:
    """Report how much unique memory a worker's part of an epoch costs."""
    gc.disable()  # a collection touches all objects there are
    before = unique_megabytes()
    for index in order:
        look(data, int(index))
    connection.send((before, unique_megabytes()))
    connection.recv()  # stay until all are done, else the last one shares with nobody


def measure(look: Callable[[Any, int], object], data: object, count: int, workers: int) -> float:
    """Return the unique memory in MB that the median worker gains in an epoch."""
    context = multiprocessing.get_context("fork")
    order = np.random.default_rng(0).permutation(count)
    pipes = [context.Pipe() for _ in range(workers)]
    processes = [
        context.Process(target=work, args=(end, look, data, order[number::workers]))
        for number, (_, end) in enumerate(pipes)
    ]
    for process in processes:
        process.start()
    gains = [after - before for before, after in (near.recv() for near, _ in pipes)]
    for near, _ in pipes:
        near.send(None)
    for process in processes:
        process.join()
    return statistics.median(gains)


def measure_kind(name: str, count: int, workers: int) -> dict[str, object]:
    """Measure a data set of a kind, and the list that others keep of it."""
    kind = KINDS[name]
    with tempfile.TemporaryDirectory() as folder:
        kind.write(Path(folder), count)
        begin = time.perf_counter()
        data = kind.open(Path(folder))
        seconds = time.perf_counter() - begin
    ours = measure(kind.look, data, count, workers)
    rows = [kind.row(data, index) for index in range(count)]
    theirs = measure(look_at_list, rows, count, workers)
    print(
        f"{name}: {count} images: opened in {seconds:.1f} s; a worker's unique memory grows by "
        f"{ours:.1f} MB in an epoch, with a Python list by {theirs:.1f} MB",
        flush=True,
    )
    return {
        "kind": name,
        "images": count,
        "open_s": round(seconds, 2),
        "unique_mb": round(ours, 1),
        "unique_mb_of_a_list": round(theirs, 1),
    }


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--list", type=int, default=1_281_167, help="images of the list")
    parser.add_argument("--coco", type=int, default=118_287, help="images of the COCO file")
    parser.add_argument("--label_maps", type=int, default=118_287, help="images with label maps")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # threads would not outlive a fork
    rows = [
        measure_kind(name, count, arguments.workers)
        for name in KINDS
        if vars(arguments)[name]
        for count in sorted({FEW, vars(arguments)[name]})
    ]
    if arguments.output is not None:
        facts = {
            "machine": describe_machine(),
            "workers": arguments.workers,
            "date": date.today().isoformat(),
            "rows": rows,
        }
        arguments.output.write_text(json.dumps(facts, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
