"""Images a second and core from file to training tensor, beside torchvision's ImageFolder.

    python benchmarks/data_loading.py [--images 400] [--rounds 7] [--folder ROOT]
        [--output benchmarks/results/data_loading.json]

One process on one core reads, decodes and augments as in training: random resized crop of 224,
flip, RandAugment (rand-m9-mstd0.5-inc1) and random erasing, all of them timm's, and normalisation.
"torchvision" is its ImageFolder with Pillow and the same steps of timm. Without --folder JPEGs of
500 x 375 pixels are made first, as many bytes as a photo of that size has; with it ROOT has
train/<class>/*.jpg. All take turns in every round and read the same images; ratios are medians over
the rounds, and times are processor time, which other processes disturb less. "plain" is without
RandAugment. "list" reads the files of the folder by a train_list.txt, and "http" the shards of a
web server on this machine, each image by its range of bytes; the time of the server, which is
another process, does not count.
"""

import argparse
import io
import json
import multiprocessing
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data.transforms_factory import create_transform
from torchvision.datasets import ImageFolder
from torchvision.transforms import Compose

from ziggurat.data.classification import let_posterize_keep_no_bits, train_transform
from ziggurat.data.fast_decode import FastTrainTransform
from ziggurat.data.labelled_images import open_images
from ziggurat.data.pack import pack
from ziggurat.engine.budget import describe_machine
from ziggurat.preprocessing import CenterCrop

POLICIES = {"full": "rand-m9-mstd0.5-inc1", "plain": None}
CLASSES = 10
BIG_SHARD = 10**9
STORED = ("list", "lmdb", "shards")


def make_photo(draw: np.random.Generator) -> bytes:
    """Return a JPEG of 500 x 375 pixels with structure of every size, about 70 kB."""
    image = np.full((375, 500, 3), 128.0)
    for cell, strength in ((128, 60), (32, 40), (8, 20), (2, 10)):
        coarse = draw.normal(128, strength, (375 // cell + 2, 500 // cell + 2, 3)).clip(0, 255)
        picture = Image.fromarray(coarse.astype(np.uint8))
        image += np.asarray(picture.resize((500, 375), Image.Resampling.BICUBIC)) - 128.0
    image += draw.normal(0, 3, (375, 500, 1))
    file = io.BytesIO()
    Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=92)
    return file.getvalue()


def make_folder(root: Path, count: int) -> None:
    """Write train/<class>/*.jpg."""
    draw = np.random.default_rng(0)
    for index in range(count):
        path = root / "train" / f"class_{index % CLASSES}" / f"{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(make_photo(draw))


def make_list(root: Path, place: Path) -> None:
    """Write a train_list.txt of the files of a folder."""
    place.mkdir()
    lines = (f"{Path(path).absolute()} {label}\n" for path, label in ImageFolder(root).samples)
    (place / "train_list.txt").write_text("".join(lines), errors="surrogateescape")


class RangeHandler(BaseHTTPRequestHandler):
    """Answers with a file or a range of its bytes, over a connection that stays open.

    Args:
        arguments: What the server hands over.
        folder: What is served.
    """

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else the bytes wait until the head has arrived

    def __init__(self, *arguments: Any, folder: Path) -> None:  # noqa: ANN401  as the server calls
        self.folder = folder
        super().__init__(*arguments)

    def do_GET(self) -> None:  # noqa: N802  the name that http.server calls
        """Send what is asked for."""
        path = self.folder / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        size = path.stat().st_size
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        start, last = (0, size - 1) if asked is None else (int(asked[1]), int(asked[2]))
        with path.open("rb") as file:
            file.seek(start)
            data = file.read(last + 1 - start)
        self.send_response(200 if asked is None else 206)
        if asked is not None:
            self.send_header("Content-Range", f"bytes {start}-{last}/{size}")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: object) -> None:
        """Keep quiet."""


def serve(folder: Path, connection: Connection) -> None:
    """Serve a folder until the process is ended, and say at which port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(RangeHandler, folder=folder))
    connection.send(server.server_port)
    server.serve_forever()


@contextmanager
def served(folder: Path) -> Iterator[Path]:
    """Serve a folder in a process of its own.

    Yields:
        The address, as the command line and a run have it.
    """
    near, far = multiprocessing.Pipe()
    process = multiprocessing.Process(target=serve, args=(folder, far), daemon=True)
    process.start()
    far.close()  # so that a server that fails to start is noticed
    try:
        yield Path(f"http://127.0.0.1:{near.recv()}")
    finally:
        process.terminate()
        process.join()


def ours(policy: str | None) -> Compose:
    """Return the transform of a training run."""
    return train_transform(
        224,
        auto_augment=policy,
        color_jitter=0.0,
        random_erasing=0.25,
        scale=(0.08, 1.0),
        flip=0.5,
        preprocessing=CenterCrop(256, 224),
    )


def readers(
    folders: Path, places: dict[str, Path], policy: str | None
) -> dict[str, Callable[[int], object]]:
    """Return what reads image number i, for torchvision and for each of our ways."""
    theirs = ImageFolder(
        folders / "train",
        create_transform(
            224,
            is_training=True,
            auto_augment=policy,
            color_jitter=0.0,
            interpolation="bicubic",
            re_prob=0.25,
            re_mode="pixel",
            mean=CenterCrop().mean,
            std=CenterCrop().std,
        ),
    )
    for step in theirs.transform.transforms:  # it would stop at the strongest level
        let_posterize_keep_no_bits(step)
    found: dict[str, Callable[[int], object]] = {"torchvision": theirs.__getitem__}
    for name, place in places.items():
        for decoder in ("exact", "fast"):
            transform = ours(policy) if decoder == "exact" else FastTrainTransform(ours(policy))
            dataset = open_images(place, "train", transform, train=True)
            found[f"{name}, {decoder}"] = dataset.__getitem__
    return found


def seconds(read: Callable[[int], object], indices: range) -> float:
    """Processor time of reading some images."""
    begin = time.process_time()
    for index in indices:
        read(index)
    return time.process_time() - begin


def measure(
    folders: Path, places: dict[str, Path], count: int, rounds: int
) -> list[dict[str, object]]:
    """Let all ways take turns."""
    rows: list[dict[str, object]] = []
    for augmentation, policy in POLICIES.items():
        ways = readers(folders, places, policy)
        times: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(rounds + 1):
            part = range(turn * count // (rounds + 1), (turn + 1) * count // (rounds + 1))
            for name, read in ways.items():
                taken = seconds(read, part) / len(part)
                if turn:  # the first round warms up
                    times[name].append(taken)
        for name, taken_by in times.items():
            pairs = zip(times["torchvision"], taken_by, strict=True)
            row = {
                "augmentation": augmentation,
                "way": name,
                "images_per_s": round(1 / statistics.median(taken_by)),
                "ratio": round(statistics.median(theirs / own for theirs, own in pairs), 2),
            }
            rows.append(row)
            print(
                f"{augmentation}: {name}: {row['images_per_s']} images/s, {row['ratio']} times "
                "torchvision's",
                flush=True,
            )
    return rows


def main() -> int:
    """Make the data, measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="data set with train/<class>/*.jpg")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = arguments.folder
        if root is None:
            root = Path(folder) / "made"
            make_folder(root, arguments.images)
        places = {"folder": root, **{name: Path(folder) / name for name in STORED}}
        make_list(root / "train", places["list"])
        for kind in ("lmdb", "shards"):
            pack(root, places[kind], kind, shard_bytes=BIG_SHARD)
        count = min(arguments.images, len(ImageFolder(root / "train")))
        with served(places["shards"]) as address:
            rows = measure(root, places | {"http": address}, count, arguments.rounds)
    if arguments.output is not None:
        facts: dict[str, object] = {
            "machine": describe_machine(),
            "date": date.today().isoformat(),
            "images": "made" if arguments.folder is None else str(arguments.folder.name),
            "rows": rows,
        }
        arguments.output.write_text(json.dumps(facts, indent=2) + "\n")
        write_table(arguments.output.with_suffix(".md"), facts, rows)
    return 0


def write_table(path: Path, facts: dict[str, object], rows: list[dict[str, object]]) -> None:
    """Write the same as a document."""
    lines = [
        "# Reading training images",
        "",
        f"`python benchmarks/data_loading.py`, {facts['date']}, {facts['machine']}, one core.",
        "",
        "| augmentation | way | images/s | times torchvision's |",
        "|---|---|---:|---:|",
        *(
            f"| {row['augmentation']} | {row['way']} | {row['images_per_s']} | {row['ratio']} |"
            for row in rows
        ),
    ]
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
