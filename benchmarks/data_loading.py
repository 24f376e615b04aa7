"""Images a second and core from file to training tensor, beside torchvision's ImageFolder.

    python benchmarks/data_loading.py [--images 400] [--rounds 7] [--folder ROOT]
        [--output benchmarks/results/data_loading.json]

One process on one core reads, decodes and augments as in training: random resized crop of 224,
flip, RandAugment (rand-m9-mstd0.5-inc1) and random erasing, all of them timm's, and normalisation.
"torchvision" is its ImageFolder with Pillow and the same steps of timm. Without --folder JPEGs of
500 x 375 pixels are made first, as many bytes as a photo of that size has; with it ROOT has
train/<class>/*.jpg. All take turns in every round and read the same images; ratios are medians over
the rounds, and times are processor time, which other processes disturb less. "plain" is without
RandAugment.
"""

import argparse
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

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


def readers(root: Path, packed: Path, policy: str | None) -> dict[str, Callable[[int], object]]:
    """Return what reads image number i, for each way."""
    theirs = ImageFolder(
        root / "train",
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
    roots = {"folder": root, "lmdb": packed / "lmdb", "shards": packed / "shards"}
    for name, place in roots.items():
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


def measure(root: Path, packed: Path, count: int, rounds: int) -> list[dict[str, object]]:
    """Let all ways take turns."""
    rows: list[dict[str, object]] = []
    for augmentation, policy in POLICIES.items():
        ways = readers(root, packed, policy)
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
        for kind in ("lmdb", "shards"):
            pack(root, Path(folder) / kind, kind, shard_bytes=BIG_SHARD)
        count = min(arguments.images, len(ImageFolder(root / "train")))
        rows = measure(root, Path(folder), count, arguments.rounds)
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
