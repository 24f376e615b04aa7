"""`ziggurat data`: what it prints, writes and refuses."""

import argparse
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from ziggurat.cli import data
from ziggurat.errors import ZigguratError


def _run(*words: str | Path) -> None:
    parser = argparse.ArgumentParser()
    data.add_arguments(parser)
    data.run(parser.parse_args([str(word) for word in words]))


def test_made_data_passes_the_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _run("synthesize", tmp_path / "data", "--num_images", "16", "--size", "32", "48")
    assert "16 scenes of 32 x 48 pixels" in capsys.readouterr().out
    sheet = tmp_path / "new" / "sheet.png"
    _run("check", tmp_path / "data", "--contact_sheet", sheet)
    out = capsys.readouterr().out
    for text in ("(ImageFolder): train 13 images; val 3 images", "(COCO)", "(ADE20K)", "triangle"):
        assert text in out
    assert re.search(r"circle +│ +\d+ │ \d+\.\d\d │ +\d+ │", out)  # pixels, share, images
    assert out.count("0 faults") == 3
    with Image.open(sheet) as image:
        assert image.width > 1000


def test_faults_are_printed_then_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(40):
        folder = tmp_path / "train" / f"class_{number}"
        folder.mkdir(parents=True)
        Image.new("RGB", (8, 6)).save(folder / "1.png")
    (tmp_path / "train" / "class_0" / "1.png").write_bytes(b"")
    sheet = tmp_path / "sheet.jpg"
    with pytest.raises(ZigguratError, match="has 1 fault, each one named above"):
        _run("check", tmp_path, "--contact_sheet", sheet)
    out = capsys.readouterr().out
    assert "fault: train/class_0/1.png: it is empty (0 bytes)" in out
    assert "and 10 more classes" in out
    assert sheet.exists()


def test_yolo_is_checked_and_converted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (tmp_path / "yolo" / kind / split).mkdir(parents=True)
        Image.new("RGB", (40, 30)).save(tmp_path / "yolo" / "images" / split / "1.png")
        text = "0 0.5 0.5 0.2 0.2\n0 0.5 0.5 0.4 0.2\n"
        (tmp_path / "yolo" / "labels" / split / "1.txt").write_text(text)
    (tmp_path / "yolo" / "classes.txt").write_text("cat\n")
    _run("check", tmp_path / "yolo", "--contact_sheet", tmp_path / "sheet.png")
    assert "(YOLO): train 1 image, 2 objects; val 1 image, 2 objects" in capsys.readouterr().out
    _run("convert", tmp_path / "yolo", "-o", tmp_path / "coco")
    out = capsys.readouterr().out
    assert "train: 1 image, 2 objects" in out and "(COCO)" in out
    _run("check", tmp_path / "coco", "--contact_sheet", tmp_path / "sheet.png")
    assert "(COCO): train 1 image, 2 objects" in capsys.readouterr().out


def test_downloaded_labels_are_converted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "VOC2010"
    (root / "JPEGImages").mkdir(parents=True)
    images: list[dict[str, object]] = []
    for number, phase in enumerate(("train", "val", "test"), start=1):
        Image.new("RGB", (4, 3)).save(root / "JPEGImages" / f"{number}.jpg")
        name, size = f"{number}.jpg", {"height": 3, "width": 4}
        images.append({"image_id": number, "file_name": name, "phase": phase, **size})
    mask = {"size": [3, 4], "counts": [3, 9]}
    region = {"id": 1, "image_id": 1, "category_id": 2, "segmentation": mask}
    content = {"images": images, "annos_segmentation": [region]}
    (root / "trainval_merged.json").write_text(json.dumps(content))
    with pytest.raises(ZigguratError, match="--masks has no effect on label maps; leave it out"):
        _run("convert", root, "--masks", "-o", tmp_path / "labels")
    with pytest.raises(ZigguratError, match="has the layout 'pascal_context'; what is converted"):
        _run("convert", root, "--format", "coco", "-o", tmp_path / "labels")
    _run("convert", root, "-o", tmp_path / "labels")
    assert capsys.readouterr().out.splitlines() == [
        "train: 1 image",
        "val: 1 image",
        "left out: 1 x image of the phase 'test'",
        f"{tmp_path / 'labels'}  (Pascal Context)",
    ]
    _run("check", tmp_path / "labels", "--contact_sheet", tmp_path / "sheet.png")
    assert "(Pascal Context): train 1 image; val 1 image" in capsys.readouterr().out
    _run("convert", root, "--format", "labels", "-o", tmp_path / "again")
    assert "(Pascal Context)" in capsys.readouterr().out


@pytest.fixture
def scattered(tmp_path: Path) -> Path:
    """COCO files and images where no layout has them."""
    _run("synthesize", tmp_path / "made", "--num_images", "8", "--size", "32")
    source = tmp_path / "made" / "detection"
    for split in ("train", "val"):
        (source / split).rename(tmp_path / f"{split}_photos")
        file = source / "annotations" / f"instances_{split}.json"
        file.rename(tmp_path / f"{split}_v2.json")
    return tmp_path


def test_annotations_in_any_place(scattered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = scattered / "sheet.png"
    files = ["train_v2.json", "val_v2.json"]
    folders = ["train_photos", "val_photos"]
    words: list[str | Path] = ["--data.annotations", *files, "--data.images", *folders]
    words += ["--contact_sheet", sheet]
    _run("check", scattered, *words)
    assert "(COCO): train_v2 6 images" in capsys.readouterr().out
    assert sheet.is_file()
    content = json.loads((scattered / "val_v2.json").read_text())
    content["categories"][0]["name"] = "cow"
    (scattered / "val_v2.json").write_text(json.dumps(content))
    next((scattered / "train_photos").iterdir()).write_bytes(b"")
    with pytest.raises(ZigguratError, match="has 2 faults"):
        _run("check", scattered, *words)
    out = capsys.readouterr().out
    assert "fault: val_v2.json: category 1 is 'cow', but" in out
    assert "it is empty (0 bytes)" in out
    with pytest.raises(ZigguratError, match="has 1 fault"):  # without a root: as named
        _run(
            "check",
            *("--data.annotations", scattered / "train_v2.json"),
            *("--data.images", scattered / "train_photos", "--contact_sheet", sheet),
        )


def test_annotations_and_images_belong_together(
    scattered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = scattered / "train_v2.json"
    with pytest.raises(ZigguratError, match="names 1 file and --data.images 0 folders; give one"):
        _run("check", "--data.annotations", file)
    with pytest.raises(ZigguratError, match="names 0 files and --data.images 1 folder; give one"):
        _run("check", "--data.images", scattered)
    with pytest.raises(ZigguratError, match="the annotation file .*absent.json does not exist"):
        _run("check", scattered, "--data.annotations", "absent.json", "--data.images", ".")
    with pytest.raises(ZigguratError, match="name the folder of a data set, or a file"):
        _run("check")
    with pytest.raises(ZigguratError, match="has 1 fault"):
        _run("check", scattered, "--data.annotations", file, "--data.images", "absent")
    assert "the folder of its images, " in capsys.readouterr().out


def test_a_contact_sheet_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "train" / "cat").mkdir(parents=True)
    Image.new("RGB", (8, 6)).save(tmp_path / "train" / "cat" / "1.png")
    with pytest.raises(ZigguratError, match=r"sheet.what has no suffix of a picture; name a .jpg"):
        _run("check", tmp_path / "absent", "--contact_sheet", tmp_path / "sheet.what")  # at once
    with pytest.raises(ZigguratError, match=r"has no suffix of a picture"):  # is only read
        _run("check", tmp_path / "absent", "--contact_sheet", tmp_path / "sheet.psd")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ZigguratError, match=r"folder.png is a folder; name a file"):
        _run("check", tmp_path / "absent", "--contact_sheet", tmp_path / "folder.png")


def test_the_usual_contact_sheet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "train" / "cat").mkdir(parents=True)
    Image.new("RGB", (8, 6)).save(tmp_path / "train" / "cat" / "1.png")
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    (place / "contact_sheet.jpg").write_bytes(b"mine")
    for _ in range(2):
        _run("check", tmp_path)
    assert (place / "contact_sheet.jpg").read_bytes() == b"mine"
    assert "contact sheet: contact_sheet_3.jpg" in capsys.readouterr().out
    monkeypatch.chdir("/proc")  # where nobody writes
    _run("check", tmp_path)
    assert "cannot write the contact sheet contact_sheet.jpg: No such" in capsys.readouterr().out


def test_sizes_are_one_number_or_two(tmp_path: Path) -> None:
    with pytest.raises(ZigguratError, match="--size takes one number, or height and width; got 3"):
        _run("synthesize", tmp_path, "--size", "1", "2", "3")
