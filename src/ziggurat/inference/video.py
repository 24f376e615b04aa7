"""Videos through a model: read frames, write them again with what was found drawn on them.

PyAV, which brings FFmpeg along, reads and writes; it is installed with the extra "video". Frames
keep their times, also where they are not at equal distances. The new video is H.264 in MP4, or
MPEG-4 where FFmpeg was built without libx264, in the size of the pictures that are drawn (small
frames are enlarged); sound is left out.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, BinaryIO, cast

from PIL import Image

from ziggurat.checkpoints.atomic import atomic_write
from ziggurat.errors import ZigguratError
from ziggurat.inference.prediction import Prediction

if TYPE_CHECKING:
    import av.container
    import av.video

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"})
"""A file with one of these suffixes, in lower or upper case, is taken for a video."""

TIME_BASE = Fraction(1, 60000)
"""Unit of times in the new video, in seconds; FFmpeg's mpeg4 takes none below 1/65535.

Frames at 24, 25, 30, 50, 60, 30000/1001 and 60000/1001 a second keep their times exactly, others
to half a unit.
"""

LEGEND_ROWS = 2
"""Rows of class names below the frames of a segmenter: all pictures of a video have one size."""

_UPRIGHT = {
    90: Image.Transpose.ROTATE_90,
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_270,
}


class VideoError(ZigguratError):
    """A video cannot be read or written."""


@dataclass(frozen=True)
class Frame:
    """A frame of a video.

    Attributes:
        image: The picture, upright and in RGB.
        number: Counts from 0.
        time: When it is shown, in seconds.
    """

    image: Image.Image
    number: int
    time: float


def is_video_file(path: Path) -> bool:
    """Tell a video by its name."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def read_frames(path: str | Path) -> Iterator[Frame]:
    """Give the frames of a video one after the other.

    Args:
        path: The file.

    Yields:
        Frames, in the order in which they are shown.

    Raises:
        VideoError: If the file is no video that FFmpeg reads, or not to its end.
    """
    av = import_av()
    number = 0
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise VideoError(f"cannot read video {path}: it has no moving pictures")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            rate = float(stream.average_rate or 25)
            for frame in container.decode(stream):
                time = number / rate if frame.time is None else frame.time
                yield Frame(_upright(frame.to_image(), frame.rotation), number, time)
                number += 1
    except av.FFmpegError as error:
        place = f" after {number} frames" if number else ""
        raise VideoError(
            f"cannot read video {path}{place}: {error.strerror}; give a video file that FFmpeg "
            "reads"
        ) from error
    if not number:
        raise VideoError(f"cannot read video {path}: it has no frame")


def predict_video(
    source: Path,
    target: Path | None,
    predict: Callable[[Iterable[Image.Image]], Iterator[Prediction]],
    on_frame: Callable[[Frame, Prediction], None],
) -> None:
    """Predict every frame of a video and write the video again with the results drawn on it.

    Args:
        source: The video.
        target: File to write, whole or not at all; None writes none.
        predict: Gives one prediction for each image, in order.
        on_frame: Is told of every frame.

    Where FFmpeg cannot write the new video, `VideoError` is raised.
    """
    if target is None:
        for frame, prediction in _predict(source, predict):
            on_frame(frame, prediction)
        return

    av = import_av()

    def write(file: BinaryIO) -> None:
        try:
            with VideoWriter(file) as writer:
                for frame, prediction in _predict(source, predict):
                    on_frame(frame, prediction)
                    writer.add(prediction.draw(legend_rows=LEGEND_ROWS), frame.time)
        except av.FFmpegError as error:
            raise VideoError(
                f"cannot write video {target}: {error.strerror}; its frames may be larger than "
                "FFmpeg's encoder takes: leave the new video out with --no_pictures"
            ) from error

    atomic_write(target, write)


def _predict(
    source: Path, predict: Callable[[Iterable[Image.Image]], Iterator[Prediction]]
) -> Iterator[tuple[Frame, Prediction]]:
    waiting: deque[Frame] = deque()  # a predictor may take several before it answers

    def images() -> Iterator[Image.Image]:
        for frame in read_frames(source):
            waiting.append(frame)
            yield frame.image

    for prediction in predict(images()):
        yield waiting.popleft(), prediction


class VideoWriter:
    """Writes pictures of one size as an MP4 file; to be used in a `with` statement.

    Args:
        file: An open file that can seek.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._av = import_av()
        self._container: av.container.OutputContainer = self._av.open(file, "w", format="mp4")
        self._stream: av.video.VideoStream | None = None
        self._last = -1

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._stream is not None:
            self._container.mux(self._stream.encode())
        # Where writing has failed, a second error while it ends would hide the first.
        later = () if kind is None else (self._av.FFmpegError, OSError)
        with contextlib.suppress(*later):
            self._container.close()

    def add(self, picture: Image.Image, time: float) -> None:
        """Append a picture.

        Args:
            picture: In RGB, of the size of the first one.
            time: When it is shown, in seconds, later than the one before.
        """
        if self._stream is None:
            self._stream = self._start(picture)
        size = (self._stream.width, self._stream.height)
        if picture.size != size:
            picture = picture.crop((0, 0, *size))
        frame = self._av.VideoFrame.from_image(picture)
        # Damaged files tell times twice, or backwards.
        self._last = max(round(time / TIME_BASE), self._last + 1)
        frame.pts, frame.time_base = self._last, TIME_BASE
        self._container.mux(self._stream.encode(frame))

    def _start(self, picture: Image.Image) -> "av.video.VideoStream":
        has_h264 = "libx264" in self._av.codecs_available
        codec = "libx264" if has_h264 else "mpeg4"
        # Without a limit the pictures of mpeg4 become coarse blocks.
        options = {} if has_h264 else {"qmax": "5"}
        stream = cast(
            "av.video.VideoStream", self._container.add_stream(codec, rate=30, options=options)
        )
        # The colours of this format are stored for 2 x 2 pixels: an odd row or column is cut off.
        stream.width, stream.height = (max(2, side - side % 2) for side in picture.size)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = TIME_BASE
        return stream


def import_av() -> ModuleType:
    """Return PyAV.

    Raises:
        ZigguratError: If it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise ZigguratError(
            f"videos need PyAV, which cannot be imported ({error}); install it with `pip install "
            "'ziggurat[video]'`"
        ) from error
    return av


def _upright(image: Image.Image, degrees: int) -> Image.Image:
    """Turn a frame as a player does, counter-clockwise; phones store videos on their side."""
    turn = _UPRIGHT.get(round(degrees) % 360)
    return image if turn is None else image.transpose(turn)
