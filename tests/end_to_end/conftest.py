"""Tiny data sets and a tiny backbone, so that a whole run takes seconds."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ziggurat import zoo
from ziggurat.backbones.p2t import P2T
from ziggurat.cli.main import main

COLOURS = {"red": (200, 40, 40), "blue": (40, 40, 200)}


@pytest.fixture(autouse=True)
def tiny_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let "p2t_tiny" and "p2t_small" be a P2T with a block a stage and 16 channels."""

    def build(*, drop_path_rate: float = 0.0, in_channels: int = 3) -> P2T:
        sixteen, one, two = (16,) * 4, (1,) * 4, (2,) * 4
        return P2T(sixteen, one, two, one, drop_path_rate, in_channels)

    for name in ("p2t_tiny", "p2t_small"):
        monkeypatch.setitem(zoo.BACKBONES, name, build)
        monkeypatch.setitem(zoo.TRUNKS, name, build)


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Twelve training and four validation images of two classes that differ in colour."""
    root = tmp_path / "colours"
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 2)):
        for name, colour in COLOURS.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                side = int(rng.integers(70, 97))
                pixels = np.array(colour) + rng.normal(0, 25, (side, side, 3))
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")
    return root


@pytest.fixture
def coco_folder(tmp_path: Path) -> Path:
    """Twelve training and four validation images with coloured squares of two classes.

    Each has a mask and its corners as keypoints.
    """
    root = tmp_path / "squares"
    rng = np.random.default_rng(0)
    (root / "annotations").mkdir(parents=True)
    for split, count in (("train", 12), ("val", 4)):
        (root / split).mkdir()
        images, annotations = [], []
        for image_id in range(1, count + 1):
            height, width = (int(side) for side in rng.integers(70, 97, 2))
            pixels = np.full((height, width, 3), 128, dtype=np.uint8)
            x, y = (int(rng.integers(0, side - 40)) for side in (width, height))
            category = int(rng.integers(0, 2))
            pixels[y : y + 32, x : x + 32] = list(COLOURS.values())[category]
            Image.fromarray(pixels).save(root / split / f"{image_id}.png")
            images.append(
                {"id": image_id, "file_name": f"{image_id}.png", "height": height, "width": width}
            )
            annotations.append(
                {
                    "id": image_id,
                    "image_id": image_id,
                    "category_id": 10 * (category + 1),
                    "bbox": [x, y, 32, 32],
                    "segmentation": [[x, y, x + 32, y, x + 32, y + 32, x, y + 32]],
                    "area": 1024,
                    "iscrowd": 0,
                    "keypoints": [x, y, 2, x + 31, y, 2, x + 31, y + 31, 1, x, y + 31, 2],
                    "num_keypoints": 4,
                }
            )
        corners = ["upper_left", "upper_right", "lower_right", "lower_left"]
        shared = {"keypoints": corners, "skeleton": [[1, 2], [2, 3], [3, 4], [4, 1]]}
        categories = [{"id": 10, "name": "red", **shared}, {"id": 20, "name": "blue", **shared}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root


@pytest.fixture
def train_classifier(image_folder: Path) -> Callable[..., int]:
    """Run `ziggurat train` on the coloured images: six steps in two epochs by default."""

    def run(output: Path, *words: str) -> int:
        return main(
            [
                *("train", "p2t_tiny_300e_imagenet", "--output", str(output)),
                *(f"--data.root={image_folder}", "--data.image_size=72", "--data.resize=80"),
                *("--data.batch_size=4", "--data.workers=0", "--data.auto_augment=null"),
                *("--optimizer.lr=0.2", "--schedule.warmup_epochs=0", "--schedule.update=step"),
                "--schedule.warmup_start=null",
                *("--trainer.max_epochs=2", "--trainer.val_every_epochs=1"),
                *("--trainer.precision=32", "--trainer.accelerator=cpu"),
                *("--trainer.log_every_steps=1", *words),
            ]
        )

    return run


@pytest.fixture
def label_folder(tmp_path: Path) -> Path:
    """Twelve training and four validation images with coloured squares and their label maps."""
    root = tmp_path / "label_maps"
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 4)):
        for part in ("images", "annotations"):
            (root / part / split).mkdir(parents=True)
        for number in range(count):
            height, width = (int(side) for side in rng.integers(70, 97, 2))
            pixels = np.full((height, width, 3), 128, dtype=np.uint8)
            labels = np.zeros((height, width), dtype=np.uint8)
            x, y = (int(rng.integers(0, side - 40)) for side in (width, height))
            label = int(rng.integers(0, 2))
            pixels[y : y + 40, x : x + 40] = list(COLOURS.values())[label]
            labels[y : y + 40, x : x + 40] = 1 + label
            labels[:4] = 255  # nobody labelled these
            Image.fromarray(pixels).save(root / "images" / split / f"{number}.png")
            Image.fromarray(labels).save(root / "annotations" / split / f"{number}.png")
    (root / "classes.json").write_text(json.dumps({"classes": ["ground", *COLOURS]}))
    return root


@pytest.fixture
def mask_folder(tmp_path: Path, label_folder: Path) -> Path:
    """The images of `label_folder` with a mask for each colour, and one for both together."""
    root = tmp_path / "masks"
    for split in ("train", "val"):
        (root / "images" / split).mkdir(parents=True)
        for file in sorted((label_folder / "images" / split).iterdir()):
            (root / "images" / split / file.name).write_bytes(file.read_bytes())
            labels = np.asarray(Image.open(label_folder / "annotations" / split / file.name))
            masks = {"red": labels == 1, "blue": labels == 2, "thing": np.isin(labels, (1, 2))}
            for name, mask in masks.items():
                folder = root / "annotations" / split / name
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(folder / file.name)
    palette = [[255, 0, 0], [0, 0, 255], [9, 99, 9]]
    classes = {"classes": ["red", "blue", "thing"], "palette": palette}
    (root / "classes.json").write_text(json.dumps(classes))
    return root
