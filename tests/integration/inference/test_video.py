"""Videos are read frame by frame and written again; PyAV comes with the extra `video`."""

import sys
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from ziggurat.errors import ZigguratError
from ziggurat.inference import video
from ziggurat.inference.prediction import Prediction
from ziggurat.inference.video import (
    Frame,
    VideoError,
    VideoWriter,
    is_video_file,
    predict_video,
    read_frames,
)
from ziggurat.types import Detections, LabelMap

TIMES = [0.0, 0.1, 0.2, 0.7, 0.8]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A grey video of 500 x 300 that becomes brighter, with a pause in it."""
    pytest.importorskip("av", reason="the extra `video` is not installed")
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    with path.open("wb") as file, VideoWriter(file) as writer:
        for number, time in enumerate(TIMES):
            writer.add(Image.new("RGB", (500, 300), (40 * number,) * 3), time)
    return path


def find_a_box(images: Iterable[Image.Image]) -> Iterator[Prediction]:
    found = Detections(
        torch.tensor([[100.0, 100.0, 300.0, 200.0]]), torch.ones(1), torch.tensor([0])
    )
    for image in images:
        yield Prediction(image, found, ("box",))


def test_what_was_written_is_read(clip: Path) -> None:
    frames = list(read_frames(clip))
    assert [frame.number for frame in frames] == [0, 1, 2, 3, 4]
    assert [frame.time for frame in frames] == pytest.approx(TIMES, abs=1e-3)
    for frame in frames:
        assert frame.image.size == (500, 300)
        assert abs(float(np.asarray(frame.image).mean()) - 40 * frame.number) < 4


def test_objects_are_drawn_on_every_frame(clip: Path, tmp_path: Path) -> None:
    seen: list[tuple[Frame, Prediction]] = []
    target = tmp_path / "drawn.mp4"
    predict_video(clip, target, find_a_box, lambda *both: seen.append(both))
    assert [frame.number for frame, _ in seen] == [0, 1, 2, 3, 4]
    frames = list(read_frames(target))
    assert [frame.time for frame in frames] == pytest.approx(TIMES, abs=1e-3)
    pixels = np.asarray(frames[0].image).astype(int)
    assert pixels[150, 100].max() > 120  # the left side of the box
    assert pixels[150, 200].max() < 20
    assert list(tmp_path.iterdir()) == [target]


def test_a_predictor_may_take_several_frames_at_once(clip: Path) -> None:
    def by_twos(images: Iterable[Image.Image]) -> Iterator[Prediction]:
        yield from find_a_box(list(images))

    seen: list[tuple[Frame, Prediction]] = []
    predict_video(clip, None, by_twos, lambda *both: seen.append(both))
    assert [frame.number for frame, _ in seen] == [0, 1, 2, 3, 4]
    assert all(frame.image is prediction.image for frame, prediction in seen)


def test_odd_sides_and_times_that_stand_still(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="the extra `video` is not installed")
    path = tmp_path / "odd.mp4"
    with path.open("wb") as file, VideoWriter(file) as writer:
        for time in (0.0, 0.0, -1.0):
            writer.add(Image.new("RGB", (101, 67)), time)
    frames = list(read_frames(path))
    assert len(frames) == 3
    assert frames[0].image.size == (100, 66)


@pytest.mark.parametrize("rate", [24, 25, 30, 50, 60, Fraction(30000, 1001), Fraction(60000, 1001)])
def test_times_of_usual_rates_are_exact(rate: int | Fraction) -> None:
    assert (1 / (rate * video.TIME_BASE)).denominator == 1


def test_without_h264_it_is_mpeg4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    av = pytest.importorskip("av", reason="the extra `video` is not installed")
    monkeypatch.setattr(av, "codecs_available", set())
    path = tmp_path / "old.mp4"
    spots = np.random.default_rng(0).integers(0, 256, (16, 24), dtype=np.uint8)
    photo = Image.fromarray(spots).resize((192, 128)).convert("RGB")
    with path.open("wb") as file, VideoWriter(file) as writer:
        for number in range(30):
            writer.add(photo.rotate(number), number / 24)
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "mpeg4"
    frames = list(read_frames(path))
    assert [frame.time for frame in frames] == [pytest.approx(n / 24, abs=1e-6) for n in range(30)]
    for frame in frames:
        seen, true = (
            np.asarray(image, float) for image in (frame.image, photo.rotate(frame.number))
        )
        assert np.abs(seen - true).mean() < 5, frame.number


def test_a_video_that_cannot_be_written(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video, "TIME_BASE", Fraction(1, 90000))
    monkeypatch.setattr(pytest.importorskip("av"), "codecs_available", set())
    with pytest.raises(VideoError, match=r"cannot write video .*out\.mp4: Invalid argument; "):
        predict_video(clip, tmp_path / "out.mp4", find_a_box, lambda *_: None)
    assert not list(tmp_path.iterdir())


def test_the_first_error_of_a_writer_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("av", reason="the extra `video` is not installed")

    def fail() -> None:
        raise OSError("a second error")

    target = tmp_path / "out.mp4"
    with (
        pytest.raises(RuntimeError, match="the model failed"),
        target.open("wb") as file,
        VideoWriter(file) as writer,
    ):
        monkeypatch.setattr(writer, "_container", SimpleNamespace(close=fail))
        raise RuntimeError("the model failed")


def test_a_broken_video_leaves_nothing_behind(clip: Path, tmp_path: Path) -> None:
    def fail(images: Iterable[Image.Image]) -> Iterator[Prediction]:
        yield from find_a_box([next(iter(images))])
        raise RuntimeError("the model failed")

    with pytest.raises(RuntimeError, match="the model failed"):
        predict_video(clip, tmp_path / "out.mp4", fail, lambda *_: None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.mp4", None, r"cannot read video .*absent.mp4: No such file"),
        ("noise.mp4", b"\x00\x01 no video" * 50, r"cannot read video .*noise.mp4: "),
        ("empty.mp4", b"", r"cannot read video .*empty.mp4: "),
    ],
)
def test_bad_videos(name: str, content: bytes | None, message: str, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="the extra `video` is not installed")
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(VideoError, match=message):
        list(read_frames(tmp_path / name))


def test_cut_videos(clip: Path, tmp_path: Path) -> None:
    data = clip.read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(data[: len(data) // 2])  # the table of frames stands at the end
    with pytest.raises(VideoError, match="cannot read video"):
        list(read_frames(cut))


def test_a_video_that_is_damaged_in_the_middle(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="the extra `video` is not installed")
    path = tmp_path / "torn.mp4"
    with path.open("wb") as file, VideoWriter(file) as writer:
        for number in range(120):
            writer.add(Image.new("RGB", (64, 48), (2 * number,) * 3), number / 25)
    data = path.read_bytes()
    begin, end = data.index(b"mdat"), data.index(b"moov") - 4
    middle = begin + 3 * (end - begin) // 4
    path.write_bytes(data[:middle] + b"\xff" * (end - middle) + data[end:])
    frames: list[Frame] = []
    with pytest.raises(VideoError, match=r"torn\.mp4 after \d+ frames: Invalid data") as caught:
        frames.extend(read_frames(path))
    assert f"after {len(frames)} frames" in str(caught.value)


def test_without_pyav(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ZigguratError, match=r"pip install 'ziggurat\[video\]'"):
        list(read_frames("a.mp4"))


@pytest.mark.parametrize(
    ("degrees", "place"), [(0, (0, 0)), (-90, (4, 0)), (90, (0, 2)), (180, (2, 4)), (3, (0, 0))]
)
def test_frames_are_turned_as_a_player_does(degrees: int, place: tuple[int, int]) -> None:
    """The upper left pixel goes to the upper right when a frame is turned clockwise."""
    image = Image.new("RGB", (3, 5))
    image.putpixel((0, 0), (255, 0, 0))
    turned = video._upright(image, degrees)
    assert turned.getpixel(place) == (255, 0, 0)


def test_videos_are_told_by_name() -> None:
    assert is_video_file(Path("a/b.MP4"))
    assert is_video_file(Path("b.webm"))
    assert not is_video_file(Path("mp4"))
    assert not is_video_file(Path("b.gif"))


def test_a_legend_of_one_size_for_all_frames(clip: Path, tmp_path: Path) -> None:
    classes = tuple(f"something with a long name {number}" for number in range(60))
    numbers = torch.arange(300)[:, None].repeat(1, 500)

    def segment(images: Iterable[Image.Image]) -> Iterator[Prediction]:
        for number, image in enumerate(images):
            labels = numbers // 5 if number % 2 else torch.zeros_like(numbers)
            yield Prediction(image, LabelMap(labels), classes)

    target = tmp_path / "drawn.mp4"
    predict_video(clip, target, segment, lambda *_: None)
    few, many = (frame.image for frame in list(read_frames(target))[:2])
    rows = few.height - 300
    assert 2 * 15 < rows < 2 * 40
    # A frame of few classes has the room, one of many fills it.
    assert np.asarray(few.convert("L"))[-rows // 3 :].max() < 60
    assert np.asarray(many.convert("L"))[-rows // 3 :].max() > 150
