"""`ziggurat predict` where a photo fails, where all do, and where Ctrl-C ends it."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from ziggurat.cli.main import main
from ziggurat.cli.prediction_work import FIRST_FEW, PredictionWork
from ziggurat.inference import video
from ziggurat.inference.formats import CocoWriter
from ziggurat.inference.predictor import Prediction, Predictor, load
from ziggurat.inference.wish import Wish
from ziggurat.ops.memory import TooLittleMemoryError
from ziggurat.types import Result

BAD, GOOD = (1, 2, 3), (200, 90, 30)  # colours of photos
FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 1 GiB.")
REFUSED = TooLittleMemoryError("the model needs about 9.0 GiB; take smaller images")

Stop = Callable[[BaseException], list[int]]


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> Stop:
    """Let bad photos raise an error, and count the photos that are predicted together."""
    results = Predictor._results

    def with_error(error: BaseException) -> list[int]:
        tried = []

        def refuse(self: Predictor, images: Sequence[Image.Image], wish: Wish) -> Iterable[Result]:
            tried.append(len(images))
            if any(image.getpixel((0, 0)) == BAD for image in images):
                raise error
            return results(self, images, wish)

        monkeypatch.setattr(Predictor, "_results", refuse)
        return tried

    return with_error


def save_photos(folder: Path, *colours: tuple[int, int, int]) -> list[str]:
    folder.mkdir()
    for number, colour in enumerate(colours):
        Image.new("RGB", (100, 80), colour).save(folder / f"{number}.png")
    return [str(folder), "-o", str(folder / "out"), "--no_pictures", "--device", "cpu"]


def photos_in(out: Path, kind: str) -> set[str]:
    """Names of the photos that have results."""
    if kind == "yolo":
        assert yaml.safe_load((out / "data.yaml").read_text())["names"][0] == "cell"
        return {f"{file.stem}.png" for file in (out / "labels").iterdir()}
    if kind == "csv":
        with (out / "predictions.csv").open(newline="") as file:
            return {Path(row["file_name"]).name for row in csv.DictReader(file)}
    entries = json.loads((out / "predictions.json").read_text())
    return {Path(entry["file_name"]).name for entry in entries}


@pytest.mark.parametrize(
    ("kind", "error", "reason"),
    [("coco", FULL, "CUDA out of memory\n"), ("csv", REFUSED, str(REFUSED)), ("yolo", FULL, "")],
)
def test_a_photo_that_fails_costs_no_other(
    kind: str,
    error: BaseException,
    reason: str,
    detector_file: Path,
    stop: Stop,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = save_photos(tmp_path / "in", GOOD, BAD, GOOD)
    stop(error)
    assert main(["predict", str(detector_file), *words, "--format", kind]) == 1
    said = capsys.readouterr().err
    assert f"cannot predict image {tmp_path / 'in' / '1.png'}: {reason}" in said
    assert "1 of 3 files could not be read or predicted" in said
    assert "all else is done" in said
    assert photos_in(tmp_path / "in" / "out", kind) == {"0.png", "2.png"}


def test_of_a_batch_that_fails_each_photo_is_tried(
    detector_file: Path, stop: Stop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = save_photos(tmp_path / "in", GOOD, BAD, GOOD, GOOD)
    tried = stop(FULL)
    assert main(["predict", str(detector_file), *words, "--batch_size", "3"]) == 1
    assert tried == [3, 1, 1, 1, 1]
    said = capsys.readouterr().err
    assert "3 images cannot be predicted together (CUDA out of memory)" in said
    assert "1 of 4 files" in said
    assert photos_in(tmp_path / "in" / "out", "coco") == {"0.png", "2.png", "3.png"}


def test_what_all_photos_fail_by_is_not_repeated(
    detector_file: Path, stop: Stop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = save_photos(tmp_path / "in", *[BAD] * (FIRST_FEW + 3))
    tried = stop(REFUSED)
    assert main(["predict", str(detector_file), *words]) == 1
    assert len(tried) == FIRST_FEW
    last = capsys.readouterr().err.splitlines()[-1]
    assert f"the first {FIRST_FEW} images failed, all for the same reason" in last
    assert last.endswith(str(REFUSED))
    assert not list((tmp_path / "in" / "out").iterdir())


def test_options_are_no_fault_of_the_first_photo(
    detector_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = save_photos(tmp_path / "in", GOOD)
    assert main(["predict", str(detector_file), *words, "--classes", "stra"]) == 1
    said = capsys.readouterr().err
    assert said == "ziggurat: error: unknown class 'stra'; did you mean 'star'?\n"


@pytest.mark.parametrize("kind", ["coco", "csv", "yolo"])
def test_ctrl_c_keeps_what_was_found(
    kind: str,
    detector_file: Path,
    stop: Stop,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = save_photos(tmp_path / "in", GOOD, GOOD, BAD, GOOD)
    stop(KeyboardInterrupt())
    assert main(["predict", str(detector_file), *words, "--format", kind]) == 130
    said = capsys.readouterr().err
    assert "is partial, it has what was found in 2 of 4 files" in said
    assert photos_in(tmp_path / "in" / "out", kind) == {"0.png", "1.png"}


def test_a_defect_keeps_what_was_found(detector_file: Path, stop: Stop, tmp_path: Path) -> None:
    words = save_photos(tmp_path / "in", GOOD, BAD)
    stop(RuntimeError("a defect"))
    with pytest.raises(RuntimeError, match="a defect"):
        main(["predict", str(detector_file), *words])
    assert photos_in(tmp_path / "in" / "out", "coco") == {"0.png"}


def test_ctrl_c_before_the_first_result_leaves_earlier_ones(
    detector_file: Path, stop: Stop, tmp_path: Path
) -> None:
    words = save_photos(tmp_path / "in", BAD)
    kept = tmp_path / "in" / "out" / "predictions.json"
    kept.parent.mkdir()
    kept.write_text("[1]")
    stop(KeyboardInterrupt())
    assert main(["predict", str(detector_file), *words]) == 130
    assert kept.read_text() == "[1]"


def test_a_video_that_fails_costs_no_other(
    detector_file: Path,
    stop: Stop,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("av", reason="the extra `video` is not installed")

    def frames(path: Path) -> Iterator[video.Frame]:
        colours = [GOOD, GOOD, BAD] if path.stem == "bad" else [GOOD]
        for number, colour in enumerate(colours):
            yield video.Frame(Image.new("RGB", (100, 80), colour), number, number / 25)

    monkeypatch.setattr(video, "read_frames", frames)
    stop(REFUSED)
    out = tmp_path / "out"
    words = [str(tmp_path / "bad.mp4"), str(tmp_path / "good.mp4"), "-o", str(out)]
    assert main(["predict", str(detector_file), *words, "--device", "cpu"]) == 1
    said = capsys.readouterr().err
    assert f"cannot predict video {tmp_path / 'bad.mp4'} after 2 frames: {REFUSED}" in said
    assert "1 of 2 files" in said
    assert sorted(file.name for file in out.iterdir()) == ["good.mp4", "predictions.json"]
    entries = json.loads((out / "predictions.json").read_text())
    assert {entry["image_id"] for entry in entries} == {3, 4, 5}


def test_a_photo_whose_looks_fail(detector_file: Path, tmp_path: Path) -> None:
    save_photos(tmp_path / "in", GOOD)
    predictor = load(detector_file, device="cpu")

    def predict(images: Iterable[Image.Image]) -> Iterator[Prediction]:
        return predictor(images)

    def draw_looks(image: Image.Image, file: Path) -> None:
        raise REFUSED

    file = tmp_path / "in" / "0.png"
    work = PredictionWork(
        predict, 1, draw_looks, CocoWriter(tmp_path), tmp_path, {file: "0.jpg"}, has_pictures=True
    )
    work.predict_images([file])
    assert work.failed == [file]
    assert not (tmp_path / "0.jpg").exists()
