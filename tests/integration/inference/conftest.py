"""Small models with random weights, and small data sets in both layouts."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ziggurat.checkpoints.native import save_weights
from ziggurat.preprocessing import CenterCrop, FitInside
from ziggurat.zoo import create_model

CLASSES = ("cell", "star", "tree")


def random_image(width: int, height: int, seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.fixture(autouse=True, scope="module")
def listed_mini(p2t_mini: str) -> str:
    """Let every test here build the small models by their names."""
    return p2t_mini


@pytest.fixture(scope="module")
def classifier_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a classifier of three classes."""
    torch.manual_seed(0)
    model = create_model("p2t_mini", num_classes=3)
    model.classes = CLASSES
    model.preprocessing = CenterCrop(resize=72, crop=66)
    path = tmp_path_factory.mktemp("weights") / "classifier.safetensors"
    save_weights(model, path)
    return path


@pytest.fixture(scope="module")
def detector_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a detector of three classes that is sure enough to find something."""
    torch.manual_seed(0)
    model = create_model("retinanet_p2t_mini", num_classes=3, head_channels=16, head_depth=1)
    model.classes = CLASSES
    model.preprocessing = FitInside(short_side=72, long_side=120)
    with torch.no_grad():
        for name, parameter in model.head.named_parameters():
            if name == "cls_logits.bias":
                parameter.fill_(0.0)
            if name == "cls_logits.weight":
                parameter.normal_(std=0.3)
    path = tmp_path_factory.mktemp("weights") / "detector.safetensors"
    save_weights(model, path)
    return path


@pytest.fixture(scope="session")
def folder_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images in class folders, one of them damaged."""
    root = tmp_path_factory.mktemp("folder")
    for label, name in enumerate(CLASSES):
        folder = root / "val" / name
        folder.mkdir(parents=True)
        for number in range(2):
            random_image(80 + label, 90, 10 * label + number).save(folder / f"{number}.png")
    (root / "val" / "cell" / "damaged.png").write_bytes(b"\x89PNG nothing")
    return root


@pytest.fixture(scope="session")
def coco_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images with boxes whose category ids and order are not those of the model."""
    root = tmp_path_factory.mktemp("coco")
    (root / "annotations").mkdir()
    (root / "val").mkdir()
    images, objects = [], []
    for number, (width, height) in enumerate([(100, 80), (60, 120), (200, 90)], start=1):
        random_image(width, height, number).save(root / "val" / f"{number}.png")
        images.append(
            {"id": 50 - number, "file_name": f"{number}.png", "width": width, "height": height}
        )
        objects.append(
            {
                "id": number,
                "image_id": 50 - number,
                "category_id": 4,
                "bbox": [5, 5, 40, 50],
                "area": 2000,
                "iscrowd": 0,
            }
        )
    categories = [{"id": 4, "name": "tree"}, {"id": 9, "name": "cell"}, {"id": 11, "name": "rock"}]
    content = {"images": images, "annotations": objects, "categories": categories}
    (root / "annotations" / "instances_val.json").write_text(json.dumps(content))
    return root
