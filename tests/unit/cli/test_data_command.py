"""`ziggurat data`: what it prints, writes and refuses."""

import argparse
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


def test_a_contact_sheet_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "train" / "cat").mkdir(parents=True)
    Image.new("RGB", (8, 6)).save(tmp_path / "train" / "cat" / "1.png")
    with pytest.raises(ZigguratError, match="cannot write the contact sheet .*unknown file ext"):
        _run("check", tmp_path, "--contact_sheet", tmp_path / "sheet.what")


def test_sizes_are_one_number_or_two(tmp_path: Path) -> None:
    with pytest.raises(ZigguratError, match="--size takes one number, or height and width; got 3"):
        _run("synthesize", tmp_path, "--size", "1", "2", "3")
