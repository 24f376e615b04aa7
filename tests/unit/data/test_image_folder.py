"""ImageFolder: labels, order, repeatable randomness, damaged files, every wrong layout."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ziggurat.data.check import check_dataset
from ziggurat.data.classification import eval_transform
from ziggurat.data.items import MAX_REPLACEMENTS, Unreadable
from ziggurat.data.labelled_images import LabelledImages, open_images
from ziggurat.errors import ZigguratError
from ziggurat.preprocessing import CenterCrop
from ziggurat.types import BadFile, Sample

TRANSFORM = eval_transform(CenterCrop(resize=16, crop=16))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Splits train and val of two classes, three and two images each, some of them deeper."""
    for split, count in (("train", 3), ("val", 2)):
        for level, name in enumerate(("zebra", "ant")):
            for index in range(count):
                folder = tmp_path / split / name / ("deep" if index == 2 else "")
                folder.mkdir(parents=True, exist_ok=True)
                colour = (level * 100, index * 60, 20)
                Image.new("RGB", (20, 24), colour).save(folder / f"{index}.PNG")
    return tmp_path


def sample(item: object) -> Sample:
    assert isinstance(item, Sample)
    return item


def path(dataset: LabelledImages, index: int) -> Path:
    return Path(dataset.storage.name(index))


def test_classes_and_files_are_sorted(root: Path) -> None:
    dataset = open_images(root, "train", TRANSFORM, train=True)
    assert dataset.classes == ("ant", "zebra")
    assert dataset.storage.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert [path(dataset, index).relative_to(root / "train").as_posix() for index in range(6)] == [
        "ant/0.PNG",
        "ant/1.PNG",
        "ant/deep/2.PNG",
        "zebra/0.PNG",
        "zebra/1.PNG",
        "zebra/deep/2.PNG",
    ]


def test_an_item_knows_where_it_comes_from(root: Path) -> None:
    item = sample(open_images(root, "val", TRANSFORM, train=False, classes=("ant", "zebra"))[3])
    assert item.target == 1
    assert item.info.image_id == 3
    assert item.info.path.endswith("val/zebra/1.PNG")
    assert item.info.original_size == (24, 20)
    assert item.skipped == ()
    expected = (torch.tensor([0, 60, 20]) / 255 - torch.tensor(CenterCrop().mean)) / torch.tensor(
        CenterCrop().std
    )
    assert torch.allclose(item.image, expected[:, None, None].expand(3, 16, 16), atol=1e-5)


def test_other_files_are_left_aside(root: Path) -> None:
    (root / "train" / "ant" / "notes.txt").write_text("not an image")
    (root / "train" / "ant" / "._0.png").write_bytes(b"macOS")
    (root / "train" / ".cache").mkdir()
    (root / "train" / "readme.md").write_text("layout")
    assert len(open_images(root, "train", TRANSFORM, train=True)) == 6


def test_names_of_any_script(root: Path) -> None:
    folder = root / "train" / "ant"
    (folder / "0.PNG").rename(folder / "Ameise\u0308 \u8681 .png")
    dataset = open_images(root, "train", TRANSFORM, train=True)
    assert {sample(dataset[i]).info.path for i in range(6)} >= {
        str(folder / "Ameise\u0308 \u8681 .png")
    }


def test_an_evaluation_class_may_be_without_images(root: Path) -> None:
    dataset = open_images(root, "val", TRANSFORM, train=False, classes=("ant", "bee", "zebra"))
    assert dataset.storage.labels.tolist() == [0, 0, 2, 2]


def noisy(image: Image.Image) -> Tensor:
    numbers = [random.random(), float(np.random.rand()), float(torch.rand(()))]
    return torch.tensor(numbers)[:, None, None].expand(3, 2, 2)


def test_randomness_is_a_function_of_seed_epoch_and_index(root: Path) -> None:
    def draw(key: tuple[int, int] | int, seed: int = 0) -> tuple[float, ...]:
        dataset = open_images(root, "train", noisy, train=True, seed=seed)
        return tuple(sample(dataset[key]).image[:, 0, 0].tolist())

    first = draw((2, 3))
    draw((0, 1))
    assert draw((2, 3)) == first
    assert draw(3) == draw((0, 3))
    others = [draw((3, 3)), draw((2, 4)), draw((2, 3), seed=1), draw((3, 2))]
    assert len({first, *others}) == 5
    assert all(value not in first for other in others for value in other)


def numpy_key() -> bytes:
    """State of NumPy's global generator."""
    key: bytes = np.random.get_state(legacy=False)["state"]["key"].tobytes()
    return key


def test_the_global_generators_are_left_as_they_were(root: Path) -> None:
    def states() -> tuple[object, ...]:
        return random.getstate(), numpy_key(), torch.get_rng_state().tolist()

    dataset = open_images(root, "train", noisy, train=True)
    before = states()
    _ = dataset[0]
    assert states() == before


def test_the_next_image_replaces_a_damaged_one_in_training(root: Path) -> None:
    damaged = root / "train" / "ant" / "1.PNG"
    damaged.write_bytes(b"text")
    item = sample(open_images(root, "train", TRANSFORM, train=True)[1])
    assert item.info.path.endswith("ant/deep/2.PNG")
    assert item.skipped == (BadFile(str(damaged), "it is text, not an image"),)


def test_the_last_image_is_replaced_by_the_first(root: Path) -> None:
    (root / "train" / "zebra" / "deep" / "2.PNG").write_bytes(b"")
    item = sample(open_images(root, "train", TRANSFORM, train=True)[5])
    assert item.info.path.endswith("ant/0.PNG")


def test_nothing_replaces_a_damaged_image_in_evaluation(root: Path) -> None:
    (root / "val" / "ant" / "0.PNG").unlink()
    dataset = open_images(root, "val", TRANSFORM, train=False, classes=("ant", "zebra"))
    gone = path(dataset, 0)
    gone.unlink()
    item = dataset[0]
    assert isinstance(item, Unreadable)
    assert item.skipped == (BadFile(str(gone), "there is no such file"),)


def test_a_wholly_unreadable_training_set_is_tried_once(root: Path) -> None:
    dataset = open_images(root, "train", TRANSFORM, train=True)
    for index in range(len(dataset)):
        path(dataset, index).unlink()
    item = dataset[(0, 2)]
    assert isinstance(item, Unreadable)
    assert len(item.skipped) == 6 <= MAX_REPLACEMENTS


def test_index_outside(root: Path) -> None:
    dataset = open_images(root, "train", TRANSFORM, train=True)
    for key in (6, -1, (0, 6)):
        with pytest.raises(IndexError, match="6 images"):
            _ = dataset[key]


def _no_split(root: Path) -> None:
    (root / "val").rename(root / "held_back")


def _no_class_folders(root: Path) -> None:
    for folder in (root / "val").iterdir():
        folder.rename(root / f"moved_{folder.name}")
    Image.new("RGB", (8, 8)).save(root / "val" / "loose.png")


def _no_images(root: Path) -> None:
    for path in (root / "val").rglob("*.PNG"):
        path.unlink()


def _empty_class(root: Path) -> None:
    (root / "val" / "bee").mkdir()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_no_split, "no split folder 'val'; its folders are held_back, train, .* --data.val_split"),
        (_no_class_folders, "no class folders; expected .*/val/<class>/<image>.jpg"),
        (_no_images, "class folder .*val/ant has no images"),
        (_empty_class, "class folder .*val/bee has no images"),
    ],
)
def test_a_wrong_layout_is_explained(
    root: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(root)
    with pytest.raises(ZigguratError, match=message):
        open_images(root, "val", TRANSFORM, train=False)


@pytest.mark.parametrize("name", ["valid", "validation"])
def test_a_split_is_found_by_its_other_names(name: str, root: Path) -> None:
    wanted = len(open_images(root, "val", TRANSFORM, train=False))
    (root / "val").rename(root / name)
    assert len(open_images(root, "val", TRANSFORM, train=False)) == wanted
    assert check_dataset(root).findings == ()


def test_no_images_for_known_classes(root: Path) -> None:
    _no_images(root)
    with pytest.raises(ZigguratError, match="class folders but no images"):
        open_images(root, "val", TRANSFORM, train=False, classes=("ant", "zebra"))


def test_unknown_class_has_the_nearest_name(root: Path) -> None:
    (root / "val" / "ant").rename(root / "val" / "ants")
    with pytest.raises(ZigguratError, match=r"val/ants is none of the 2 .*did you mean 'ant'\?"):
        open_images(root, "val", TRANSFORM, train=False, classes=("ant", "zebra"))


def test_missing_root_and_a_file_as_root(tmp_path: Path) -> None:
    with pytest.raises(ZigguratError, match="absent does not exist"):
        open_images(tmp_path / "absent", "train", TRANSFORM, train=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(ZigguratError, match="file is a file"):
        open_images(tmp_path / "file", "train", TRANSFORM, train=True)


@pytest.mark.shared_data
def test_real_photos_of_groceries(shared_data: Path) -> None:
    train = open_images(shared_data / "grocery", "train", TRANSFORM, train=True)
    val = open_images(shared_data / "grocery", "val", TRANSFORM, train=False, classes=train.classes)
    assert (len(train), len(val), len(train.classes)) == (771, 223, 43)
    assert sample(val[0]).image.shape == (3, 16, 16)
