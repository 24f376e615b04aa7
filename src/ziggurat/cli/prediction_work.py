"""The files of one `ziggurat predict`: predicted one after the other, told, counted and written."""

import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import torch
from PIL import Image

from ziggurat.data.decode import ImageDecodeError, decode_image
from ziggurat.errors import ZigguratError
from ziggurat.inference.formats import ResultWriter
from ziggurat.inference.prediction import Prediction
from ziggurat.inference.source import Source
from ziggurat.inference.video import Frame, VideoError, predict_video
from ziggurat.types import Detections

SECONDS_BETWEEN_LINES = 5.0

FIRST_FEW = 5
"""Where as many images fail before one succeeds, all for one reason, it is no fault of theirs."""


class PredictionWork:
    """The files of one call: predicts them, tells what was found, and counts what failed.

    Args:
        predict: Gives one prediction for each image, in order.
        batch_size: Images that are predicted together.
        draw_looks: Draws where the model looks in an image into a file, if it was asked to.
        writer: Takes the results.
        output: Folder for pictures.
        pictures: Name of the picture of each file; `image_id` counts them from 1.
        has_pictures: Whether pictures and videos are written.
    """

    def __init__(
        self,
        predict: Callable[[Iterable[Image.Image]], Iterator[Prediction]],
        batch_size: int,
        draw_looks: Callable[[Image.Image, Path], None],
        writer: ResultWriter,
        output: Path,
        pictures: Mapping[Path, str],
        *,
        has_pictures: bool,
    ) -> None:
        self.predict = predict
        self.batch_size = batch_size
        self.draw_looks = draw_looks
        self.writer = writer
        self.output = output
        self.pictures = pictures
        self.has_pictures = has_pictures
        self.image_ids = {file: number for number, file in enumerate(pictures, start=1)}
        self.last_id = len(pictures)  # the frames of videos come after
        self.failed: list[Path] = []
        self.reasons: list[str] = []  # why images that were read could not be predicted
        self.predicted: set[Path] = set()

    def predict_images(self, files: Iterable[Path]) -> None:
        """Predict image files; those that cannot be read or predicted are told on stderr."""
        waiting: deque[Path] = deque()  # several are predicted together

        def images() -> Iterator[Image.Image]:
            for file in files:
                try:
                    image = decode_image(file)
                except ImageDecodeError as error:
                    self._fail(file, str(error))
                    continue
                waiting.append(file)
                yield image

        for outcome in self._outcomes(images()):
            file = waiting.popleft()
            if isinstance(outcome, str):
                self._fail_to_predict(file, outcome)
            else:
                self._take(file, outcome)

    def predict_video(self, file: Path) -> None:
        """Predict the frames of a video; if it cannot be read or predicted, stderr is told."""
        picture = (self.output / self.pictures[file]).with_suffix(".mp4")
        counts: Counter[str] = Counter()
        said = time.monotonic()
        frames = 0

        def predict(images: Iterable[Image.Image]) -> Iterator[Prediction]:
            for outcome in self._outcomes(images):
                if isinstance(outcome, str):
                    place = f" after {frames} frames" if frames else ""
                    raise VideoError(f"cannot predict video {file}{place}: {outcome}")
                yield outcome

        def on_frame(frame: Frame, prediction: Prediction) -> None:
            nonlocal frames, said
            frames += 1
            self.last_id += 1
            counts.update(_names(prediction))
            self._add(
                prediction, Source(self.last_id, file, picture.stem, frame.number, frame.time)
            )
            if time.monotonic() - said >= SECONDS_BETWEEN_LINES:
                said = time.monotonic()
                print(f"{file}: {frames} frames", file=sys.stderr)

        try:
            predict_video(file, picture if self.has_pictures else None, predict, on_frame)
        except VideoError as error:
            self._fail(file, str(error))
            return
        self._tell(file, f"{frames} frames, {_describe(counts)}", picture)

    def finish(self) -> None:
        """Write what is left to be written: of a video that broke off, its first frames.

        Raises:
            ZigguratError: If a file could not be read to its end, or predicted.
        """
        total, failed = len(self.pictures), len(self.failed)
        if self.predicted:  # else what an earlier call wrote stays
            pictures = f", pictures: {total - failed}" if self.has_pictures else ""
            print(f"wrote {self.writer.close()}{pictures}")
        if failed:
            first = ", ".join(str(file) for file in self.failed[:5])
            raise ZigguratError(
                f"{failed} of {total} files could not be read or predicted "
                f"({first}{', ...' if failed > 5 else ''}); "
                f"{'all else is done' if self.predicted else 'nothing was written'}"
            )

    def break_off(self) -> None:
        """Write the results so far, where Ctrl-C or an error that is of no file ends the work."""
        if not self.predicted:  # what an earlier call wrote stays
            return
        try:
            written = self.writer.close()
        except ZigguratError as error:
            print(error, file=sys.stderr)  # and what ended the work goes on
            return
        print(
            f"stopped: {written} is partial, it has what was found in {len(self.predicted)} of "
            f"{len(self.pictures)} files",
            file=sys.stderr,
        )

    def _outcomes(self, images: Iterable[Image.Image]) -> Iterator[Prediction | str]:
        """Predict images, several together.

        Yields:
            For each image its prediction, or why there is none.
        """
        remaining = iter(images)
        while batch := list(islice(remaining, self.batch_size)):
            yield from self._outcomes_of(batch)

    def _outcomes_of(self, batch: Sequence[Image.Image]) -> Iterator[Prediction | str]:
        """Predict images together; where that fails, each alone.

        Yields:
            For each image its prediction, or why there is none.
        """
        try:
            predictions = list(self.predict(iter(batch)))
        except (ZigguratError, torch.OutOfMemoryError) as error:
            # No more of the error is kept: its traceback holds the tensors that filled the memory.
            reason = _reason(error)
        else:
            yield from predictions
            return
        if len(batch) == 1:
            yield reason
            return
        print(
            f"{len(batch)} images cannot be predicted together ({reason}): each is tried alone",
            file=sys.stderr,
        )
        for image in batch:
            yield from self._outcomes_of([image])

    def _take(self, file: Path, prediction: Prediction) -> None:
        """Tell, keep and draw what was found in an image."""
        picture = self.output / self.pictures[file]
        if self.has_pictures:
            try:
                self.draw_looks(prediction.image, picture.with_suffix(".looks.png"))
            except (ZigguratError, torch.OutOfMemoryError) as error:  # it shows the image again
                self._fail_to_predict(file, _reason(error))
                return
        self._add(prediction, Source(self.image_ids[file], file, picture.stem))
        if self.has_pictures:
            prediction.save(picture)
        found = _describe(_names(prediction))
        if not isinstance(prediction.result, Detections):  # shares of scores or of areas
            shares = [f"{name} {100 * score:.1f} %" for name, score in prediction.top(3)]
            found = ", ".join(shares) or "nothing found"
        self._tell(file, found, picture)

    def _add(self, prediction: Prediction, source: Source) -> None:
        self.writer.add(prediction, source)
        self.predicted.add(source.path)

    def _fail_to_predict(self, file: Path, reason: str) -> None:
        """Count an image as failed.

        Raises:
            ZigguratError: If the reason seems to be none of the images.
        """
        self._fail(file, f"cannot predict image {file}: {reason}")
        self.reasons.append(reason)
        is_start = not self.predicted and len(self.reasons) == FIRST_FEW
        if is_start and len(set(self.reasons)) == 1:
            raise ZigguratError(
                f"the first {FIRST_FEW} images failed, all for the same reason, so that no other "
                f"is tried and nothing was written: {reason}"
            )

    def _fail(self, file: Path, why: str) -> None:
        print(why, file=sys.stderr)
        self.failed.append(file)

    def _tell(self, file: Path, found: str, picture: Path) -> None:
        where = f" -> {picture}" if self.has_pictures else ""
        print(f"{file}: {found}{where}", flush=True)


def _reason(error: ZigguratError | torch.OutOfMemoryError) -> str:
    """Word why an image failed; the numbers that torch has for a full memory are left out."""
    return str(error) if isinstance(error, ZigguratError) else str(error).partition(". ")[0]


def _names(prediction: Prediction) -> list[str]:
    """Name the class of every object, or the most probable or largest class."""
    if not isinstance(prediction.result, Detections):
        return [name for name, _ in prediction.top(1)]
    return [prediction.classes[label] for label in prediction.result.labels.tolist()]


def _describe(names: Iterable[str]) -> str:
    counts = Counter(names)
    return ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "nothing found"
