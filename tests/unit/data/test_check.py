"""Recognising data sets, and the real ones beside the project."""

from pathlib import Path

import pytest
from PIL import Image

from ziggurat.data.check import check_dataset, find_datasets
from ziggurat.data.findings import Layout
from ziggurat.data.preview import read_preview
from ziggurat.data.synthesize import synthesize
from ziggurat.errors import ZigguratError


def _image_folder(root: Path) -> None:
    (root / "train" / "cat").mkdir(parents=True)
    Image.new("RGB", (8, 6)).save(root / "train" / "cat" / "1.png")


def test_a_data_set_below_the_folder_is_found(tmp_path: Path) -> None:
    _image_folder(tmp_path / "inner")
    assert find_datasets(tmp_path) == ((tmp_path / "inner", "image_folder"),)
    assert check_dataset(tmp_path).root == tmp_path / "inner"


def test_several_data_sets_are_told_apart(tmp_path: Path) -> None:
    _image_folder(tmp_path / "one")
    _image_folder(tmp_path / "two")
    assert len(find_datasets(tmp_path)) == 2
    with pytest.raises(ZigguratError, match=r"2 data sets \(one: image_folder, two: ima"):
        check_dataset(tmp_path)
    (tmp_path / "two").rename(tmp_path / "two_of_coco")
    with pytest.raises(ZigguratError, match=r"\), 0 of them in the layout coco; check one of"):
        check_dataset(tmp_path, layout="coco")


def test_one_of_several_layouts_of_a_folder(tmp_path: Path) -> None:
    synthesize(str(tmp_path), num_images=2, size=(32, 32), seed=0, val_fraction=0.5)
    layouts: tuple[tuple[Layout, str], ...] = (("coco", "detection"), ("ade20k", "segmentation"))
    for layout, folder in layouts:
        check = check_dataset(str(tmp_path), layout=layout)
        assert (check.root, check.layout) == (tmp_path / folder, layout)


def test_a_folder_of_data_sets_is_no_folder_of_splits(tmp_path: Path) -> None:
    for name in ("one", "two"):
        _image_folder(tmp_path / name)
        Image.new("RGB", (8, 6)).save(tmp_path / name / "train" / "cover.png")
    assert [path.name for path, _ in find_datasets(tmp_path)] == ["one", "two"]


def test_what_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(ZigguratError, match="does not exist"):
        check_dataset(tmp_path / "nowhere")
    with pytest.raises(ZigguratError, match=r"is empty; expected <split>/<class>/\*\.jpg"):
        check_dataset(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(ZigguratError, match="no data set is recognised in"):
        check_dataset(tmp_path)
    with pytest.raises(ZigguratError, match="is a file"):
        check_dataset(tmp_path / "file")


@pytest.mark.slow  # decodes 1,700 photos
@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "layout", "counts"),
    [
        ("bccd", "coco", {"train": (205, 2804), "val": (87, 1137)}),
        ("coco_mini", "coco", {"train2017": (80, 705), "val2017": (129, 1196)}),
        ("grocery", "image_folder", {"train": (771, 771), "val": (223, 223)}),
        ("ade_sample", "ade20k", {"validation": (3, None)}),
        ("camvid", "label_folder", {"train": (184, None), "val": (51, None)}),
    ],
)
def test_real_data_sets_have_no_faults(
    shared_data: Path, name: str, layout: str, counts: dict[str, tuple[int, int | None]]
) -> None:
    check = check_dataset(shared_data / name)
    assert check.layout == layout
    assert check.faults == ()
    assert {split.name: split.num_images for split in check.splits} == {
        split: count[0] for split, count in counts.items()
    }
    for split in check.splits:
        expected = counts[split.name][1]
        assert expected is None or sum(split.per_class.values()) == expected
    assert read_preview(check.examples[0]).image.mode == "RGB"
