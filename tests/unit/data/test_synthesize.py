"""The synthetic data set on disk: layouts, annotations, determinism, bad arguments."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from ziggurat.data.check import check_dataset
from ziggurat.data.shapes import CLASSES
from ziggurat.data.synthesize import synthesize
from ziggurat.errors import ZigguratError

SPLITS = {"train": "training", "val": "validation"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic") / "data"
    synthesize(folder, num_images=30, size=(64, 80), seed=7, val_fraction=0.2)
    return folder


def _digest(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def test_every_layout_holds_every_scene(root: Path) -> None:
    for split, ade in SPLITS.items():
        count = {"train": 24, "val": 6}[split]
        assert len(list((root / "detection" / split).glob("*.jpg"))) == count
        assert len(list((root / "classification" / split).glob("*/*.jpg"))) == count
        assert len(list((root / "segmentation/images" / ade).glob("*.jpg"))) == count
        assert len(list((root / "segmentation/annotations" / ade).glob("*.png"))) == count
        names = {path.name for path in (root / "classification" / split).iterdir()}
        assert names == set(CLASSES)


# pycocotools does not know numpy's newer arguments of __array__ yet.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("split", SPLITS)
def test_pycocotools_reads_the_same_masks(root: Path, split: str) -> None:
    coco = COCO(str(root / "detection" / "annotations" / f"instances_{split}.json"))
    for annotation in coco.anns.values():
        mask = coco.annToMask(annotation)
        ys, xs = np.nonzero(mask)
        box = [xs.min(), ys.min(), xs.max() - xs.min() + 1, ys.max() - ys.min() + 1]
        assert annotation["bbox"] == box
        assert annotation["area"] == mask.sum()
        stem = Path(coco.imgs[annotation["image_id"]]["file_name"]).stem
        label_file = root / "segmentation/annotations" / SPLITS[split] / f"{stem}.png"
        labels = np.asarray(Image.open(label_file))
        assert (labels[mask > 0] == annotation["category_id"]).all()


def test_masks_come_as_polygons_and_as_run_lengths(root: Path) -> None:
    content = json.loads((root / "detection/annotations/instances_train.json").read_text())
    kinds = {(type(a["segmentation"]), a["iscrowd"]) for a in content["annotations"]}
    assert {(list, 0), (dict, 0)} <= kinds
    assert (list, 1) not in kinds


def test_image_ids_of_the_splits_differ(root: Path) -> None:
    ids = [
        {image["id"] for image in json.loads(path.read_text())["images"]}
        for path in (root / "detection" / "annotations").iterdir()
    ]
    assert not ids[0] & ids[1]


def test_nothing_is_found_wrong(root: Path) -> None:
    for name in ("classification", "detection", "segmentation"):
        assert check_dataset(root / name).faults == ()


def test_same_seed_same_bytes(root: Path, tmp_path: Path) -> None:
    synthesize(tmp_path, num_images=30, size=(64, 80), seed=7, val_fraction=0.2)
    assert _digest(tmp_path) == _digest(root)


def test_more_images_keep_the_first_ones_and_another_seed_none(root: Path, tmp_path: Path) -> None:
    synthesize(tmp_path / "few", num_images=10, size=(64, 80), seed=7)
    synthesize(tmp_path / "other", num_images=10, size=(64, 80), seed=8)
    name = "detection/train/train_000003.jpg"
    assert (tmp_path / "few" / name).read_bytes() == (root / name).read_bytes()
    assert (tmp_path / "other" / name).read_bytes() != (root / name).read_bytes()


def test_smallest_sets(tmp_path: Path) -> None:
    synthesize(tmp_path / "one", num_images=1, size=(32, 32), seed=0, val_fraction=0.0)
    assert not (tmp_path / "one" / "detection" / "val").exists()
    seen: list[tuple[int, int]] = []
    synthesize(
        tmp_path / "two",
        num_images=2,
        size=(32, 32),
        seed=0,
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(1, 2), (2, 2)]
    assert len(list((tmp_path / "two" / "detection" / "val").iterdir())) == 1


@pytest.mark.parametrize(
    ("num_images", "size", "seed", "val_fraction", "reason"),
    [
        (0, (64, 64), 0, 0.0, "num_images must be at least 1"),
        (1, (64, 64), 0, 0.2, "num_images must be at least 2"),
        (5, (31, 64), 0, 0.2, "at least 32 pixels, got 31 x 64"),
        (5, (64, 64), -1, 0.2, "seed must not be negative"),
        (5, (64, 64), 0, 1.0, "val_fraction must be at least 0 and below 1"),
        (5, (64, 64), 0, float("nan"), "val_fraction"),
    ],
)
def test_arguments_out_of_range(
    tmp_path: Path,
    num_images: int,
    size: tuple[int, int],
    seed: int,
    val_fraction: float,
    reason: str,
) -> None:
    with pytest.raises(ZigguratError, match=reason):
        synthesize(tmp_path, num_images=num_images, size=size, seed=seed, val_fraction=val_fraction)
    assert not list(tmp_path.iterdir())


def test_an_older_data_set_is_left_alone(root: Path) -> None:
    before = _digest(root)
    with pytest.raises(ZigguratError, match="already holds detection, classification"):
        synthesize(root, num_images=5, size=(64, 64), seed=0)
    assert _digest(root) == before


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ZigguratError, match="it is a file"):
        synthesize(tmp_path / "file", num_images=5, size=(64, 64), seed=0)


def test_a_full_disk_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kept.txt").write_text("x")
    written: list[Path] = []
    write = Path.write_bytes

    def fail(path: Path, content: bytes) -> int:
        if len(written) == 9:
            raise OSError(28, "No space left on device")
        written.append(path)
        return write(path, content)

    for root in (tmp_path, tmp_path / "new"):
        written.clear()
        with monkeypatch.context() as patch:
            patch.setattr(Path, "write_bytes", fail)
            with pytest.raises(ZigguratError, match=f"to {root}: No space left on device; free"):
                synthesize(root, num_images=5, size=(64, 64), seed=0)
        assert len(written) == 9
        assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]
    synthesize(tmp_path, num_images=2, size=(64, 64), seed=0)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("kept.txt", "classification", "detection", "segmentation")
    }


def test_an_interruption_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesize(tmp_path, num_images=2, size=(64, 64), seed=0, on_progress=interrupt)
    assert not list(tmp_path.iterdir())


def test_fewer_classes(tmp_path: Path) -> None:
    synthesize(tmp_path / "two", num_images=6, size=(64, 64), seed=0, num_classes=2)
    check = json.loads((tmp_path / "two/detection/annotations/instances_train.json").read_text())
    assert [category["name"] for category in check["categories"]] == list(CLASSES[:2])
    with pytest.raises(ZigguratError, match="num_classes must be 1 to 6, got 7"):
        synthesize(tmp_path / "seven", num_images=6, size=(64, 64), seed=0, num_classes=7)
