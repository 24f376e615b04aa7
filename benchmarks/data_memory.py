"""Memory of the processes that read images, with ten thousand images and with ImageNet's number.

    python benchmarks/data_memory.py [--images 1281167] [--workers 4]

Writes empty lists of images into a temporary folder, opens them as a run does, and starts workers
that look at every label and name once, as an epoch does. "unique" is what a worker has for itself
(USS in /proc, Linux only): it must not grow with the number of images. The list of Python objects
that many data sets keep is measured beside it.
"""

import argparse
import gc
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from multiprocessing.connection import Connection
from pathlib import Path

from ziggurat.data.labelled_images import open_storage
from ziggurat.data.storage import Storage
from ziggurat.engine.budget import describe_machine


def unique_megabytes() -> float:
    """Memory that this process shares with no other."""
    text = Path("/proc/self/smaps_rollup").read_text()
    lines = (line.split() for line in text.splitlines())
    kilobytes = {words[0]: int(words[1]) for words in lines if words[-1] == "kB"}
    return (kilobytes["Private_Clean:"] + kilobytes["Private_Dirty:"]) / 1024


def look_at_storage(storage: Storage) -> None:
    """Touch every name and label of ours."""
    for index in range(len(storage.labels)):
        storage.name(index)
        int(storage.labels[index])


def look_at_list(samples: list[tuple[str, int]]) -> None:
    """Touch every name and label of a list."""
    for path, label in samples:
        assert path and label >= 0


def work(connection: Connection, look: Callable[..., None], data: object) -> None:
    """Report how much unique memory an epoch costs."""
    gc.disable()  # a collection touches all objects there are
    before = unique_megabytes()
    look(data)
    connection.send((before, unique_megabytes()))
    connection.recv()  # stay until all are done, else the last one shares with nobody


def measure(look: Callable[..., None], data: object, workers: int) -> float:
    """Return the unique memory in MB that the median worker gains in an epoch."""
    context = multiprocessing.get_context("fork")
    pipes = [context.Pipe() for _ in range(workers)]
    processes = [context.Process(target=work, args=(end, look, data)) for _, end in pipes]
    for process in processes:
        process.start()
    gains = [after - before for before, after in (near.recv() for near, _ in pipes)]
    for near, _ in pipes:
        near.send(None)
    for process in processes:
        process.join()
    return statistics.median(gains)


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--images", type=int, default=1_281_167)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    rows = []
    for count in (10_000, arguments.images):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            name = "train/n{:08d}/n{:08d}_{}.JPEG"
            names = [name.format(i % 1000, i % 1000, i // 1000) for i in range(count)]
            (root / names[0]).parent.mkdir(parents=True)
            (root / names[0]).write_bytes(b"")
            lines = (f"{path} {index % 1000}\n" for index, path in enumerate(names))
            (root / "train.txt").write_text("".join(lines))
            del names
            begin = time.perf_counter()
            storage = open_storage(root, "train")
            seconds = time.perf_counter() - begin
            ours = measure(look_at_storage, storage, arguments.workers)
            samples = [(storage.name(index), int(storage.labels[index])) for index in range(count)]
            theirs = measure(look_at_list, samples, arguments.workers)
            del samples
        row = {
            "images": count,
            "open_s": round(seconds, 2),
            "unique_mb": round(ours, 1),
            "unique_mb_of_a_list": round(theirs, 1),
        }
        rows.append(row)
        print(
            f"{count} images: opened in {seconds:.1f} s; a worker's unique memory grows by "
            f"{ours:.1f} MB in an epoch, with a Python list by {theirs:.1f} MB",
            flush=True,
        )
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
