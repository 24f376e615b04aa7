"""`ziggurat predict RUN_OR_WEIGHTS FILES_OR_FOLDERS... -o OUT`: overlays and results of any images.

Videos are taken where they are named, frame by frame.
"""

import argparse
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from PIL import Image

from ziggurat.cli.suppression import add_suppression_arguments, suppression_of
from ziggurat.cli.views import add_precision_argument, add_view_arguments, views_of
from ziggurat.data.decode import ImageDecodeError, allow_megapixels, decode_image, is_image_file
from ziggurat.errors import ZigguratError
from ziggurat.inference.explanation import MIDDLE, check_place, explain, transformer_of
from ziggurat.inference.formats import FORMATS, ResultWriter, choose_format
from ziggurat.inference.output import picture_names
from ziggurat.inference.predictor import Prediction, load
from ziggurat.inference.source import Source
from ziggurat.inference.video import (
    Frame,
    VideoError,
    import_av,
    is_video_file,
    predict_video,
)
from ziggurat.types import Detections

SECONDS_BETWEEN_LINES = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument(
        "weights",
        type=Path,
        metavar="RUN_OR_WEIGHTS",
        help="folder of a training run, or a .safetensors file",
    )
    parser.add_argument(
        "sources",
        type=Path,
        nargs="+",
        metavar="FILES_OR_FOLDERS",
        help="image files, video files (with the extra `video`), and folders whose image files "
        "are taken, those in subfolders too",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="OUT",
        help="folder for the results, and for one picture an image or one .mp4 a video",
    )
    parser.add_argument(
        "--format",
        choices=tuple(FORMATS),
        help="coco (the default, but for segmenters): predictions.json, with names of file and "
        "class; category_id counts the model's classes from 1. csv: predictions.csv. yolo: "
        "labels/<image>.txt and data.yaml, without scores. labelme: <image>.json. cityscapes: "
        "what the benchmark's server takes, cityscapes/<image>.txt and a PNG a mask. labels (the "
        "default of segmenters): labels/<image>.png, whose values are the classes. masks (their "
        "default where classes overlap): masks/<class>/<image>.png. json: areas.json, the area of "
        "each class",
    )
    parser.add_argument(
        "--no_pictures", action="store_true", help="write the results only, no pictures or videos"
    )
    parser.add_argument(
        "--score_threshold",
        type=float,
        metavar="S",
        help="leave out a detector's objects below this score, 0.3 by default",
    )
    parser.add_argument(
        "--classes",
        nargs="+",
        metavar="NAME",
        help="keep the objects of these classes only; give it after the files",
    )
    parser.add_argument(
        "--max_detections",
        type=int,
        metavar="N",
        help="keep the N best objects of an image, by default the 100 best of each look at it",
    )
    parser.add_argument(
        "--max_megapixels",
        type=float,
        metavar="N",
        help="read photos of up to N million pixels, 179 by default; a larger file may have been "
        "made to fill the memory",
    )
    add_view_arguments(parser, after="the files")
    add_suppression_arguments(parser)
    parser.add_argument(
        "--batch_size",
        type=int,
        metavar="N",
        help="images of one forward pass, 16 for a classifier and 1 for others by default",
    )
    parser.add_argument(
        "--device", default="auto", help="auto (the default), cpu, cuda, cuda:<number> or mps"
    )
    add_precision_argument(parser)
    parser.add_argument(
        "--fast",
        action="store_true",
        help="optimize the model for inference first; a kernel is compiled once, where possible",
    )

    parser.add_argument(
        "--explain",
        nargs="*",
        type=float,
        metavar="SHARE",
        help="draw where a Feature Pyramid Transformer looks, too: from the middle of each image, "
        "or from the place so far from the left and the top, 0.5 0.25; after the files",
    )


def run(args: argparse.Namespace) -> None:
    """Predict every file, say what was found, and write pictures and results.

    Where there is no image, or at least one file is none, an error says so: all others are done.

    Raises:
        ZigguratError: If that is so, or options do not go together.
    """
    if args.max_megapixels is not None:
        allow_megapixels(args.max_megapixels)
    files = find_images(args.sources, args.output)
    videos = [file for file in files if is_video_file(file)]
    (tiles, augmentation), suppression = views_of(args), suppression_of(args)
    if videos:
        import_av()  # else it is missed only when all images are done
    predictor = load(
        args.weights, device=args.device, precision=args.precision or "32", fast=args.fast
    )
    identity = predictor.model.identity
    chosen = choose_format(args.format, identity, videos[0] if videos else None)
    place = _place(args)
    if place is not None and videos:
        raise ZigguratError(
            f"--explain draws where a model looks in photos, and {videos[0]} is a video; leave one "
            "of the two out"
        )
    if place is not None:
        transformer_of(predictor)  # else it is missed only after the first image

    def predict(images: Iterable[Image.Image]) -> Iterator[Prediction]:
        return predictor(
            images,
            score_threshold=args.score_threshold,
            classes=args.classes,
            max_detections=args.max_detections,
            tiles=tiles,
            augmentation=augmentation,
            suppression=suppression,
            batch_size=args.batch_size,
        )

    def draw(image: Image.Image, file: Path) -> None:
        if place is not None:
            explain(predictor, image, place).save(file)

    _make_folder(args.output)
    work = _Work(
        predict,
        draw,
        chosen.new(args.output, predictor.classes),
        args.output,
        dict(zip(files, picture_names(files), strict=True)),
        has_pictures=not args.no_pictures,
    )
    work.predict_images([file for file in files if file not in videos])
    for video in videos:
        work.predict_video(video)
    work.finish()


class _Work:
    """The files of one call: predicts them, tells what was found, and counts what failed.

    Args:
        predict: Gives one prediction for each image, in order.
        draw_looks: Draws where the model looks in an image into a file, if it was asked to.
        writer: Takes the results.
        output: Folder for pictures.
        pictures: Name of the picture of each file; `image_id` counts them from 1.
        has_pictures: Whether pictures and videos are written.
    """

    def __init__(
        self,
        predict: Callable[[Iterable[Image.Image]], Iterator[Prediction]],
        draw_looks: Callable[[Image.Image, Path], None],
        writer: ResultWriter,
        output: Path,
        pictures: Mapping[Path, str],
        *,
        has_pictures: bool,
    ) -> None:
        self.predict = predict
        self.draw_looks = draw_looks
        self.writer = writer
        self.output = output
        self.pictures = pictures
        self.has_pictures = has_pictures
        self.image_ids = {file: number for number, file in enumerate(pictures, start=1)}
        self.last_id = len(pictures)  # the frames of videos come after
        self.failed: list[Path] = []
        self.num_added = 0

    def predict_images(self, files: Iterable[Path]) -> None:
        """Predict image files; those that cannot be read are told on stderr."""
        waiting: deque[Path] = deque()  # a predictor may take several before it answers

        def images() -> Iterator[Image.Image]:
            for file in files:
                try:
                    image = decode_image(file)
                except ImageDecodeError as error:
                    self._fail(file, error)
                    continue
                waiting.append(file)
                yield image

        for prediction in self.predict(images()):
            file = waiting.popleft()
            picture = self.output / self.pictures[file]
            self._add(prediction, Source(self.image_ids[file], file, picture.stem))
            if self.has_pictures:
                prediction.save(picture)
                self.draw_looks(prediction.image, picture.with_suffix(".looks.png"))
            found = _describe(_names(prediction))
            if not isinstance(prediction.result, Detections):  # shares of scores or of areas
                shares = [f"{name} {100 * score:.1f} %" for name, score in prediction.top(3)]
                found = ", ".join(shares) or "nothing found"
            self._tell(file, found, picture)

    def predict_video(self, file: Path) -> None:
        """Predict the frames of a video; if it cannot be read, this is told on stderr."""
        picture = (self.output / self.pictures[file]).with_suffix(".mp4")
        counts: Counter[str] = Counter()
        said = time.monotonic()
        frames = 0

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
            predict_video(file, picture if self.has_pictures else None, self.predict, on_frame)
        except VideoError as error:
            self._fail(file, error)
            return
        self._tell(file, f"{frames} frames, {_describe(counts)}", picture)

    def finish(self) -> None:
        """Write what is left to be written: of a video that broke off, its first frames.

        Raises:
            ZigguratError: If a file could not be read to its end.
        """
        total, failed = len(self.pictures), len(self.failed)
        if self.num_added:  # else what an earlier call wrote stays
            pictures = f", pictures: {total - failed}" if self.has_pictures else ""
            print(f"wrote {self.writer.close()}{pictures}")
        if failed:
            first = ", ".join(str(file) for file in self.failed[:5])
            raise ZigguratError(
                f"{failed} of {total} files could not be read as images or videos "
                f"({first}{', ...' if failed > 5 else ''}); "
                f"{'all else is done' if self.num_added else 'nothing was written'}"
            )

    def _add(self, prediction: Prediction, source: Source) -> None:
        self.writer.add(prediction, source)
        self.num_added += 1

    def _fail(self, file: Path, error: ZigguratError) -> None:
        print(error, file=sys.stderr)
        self.failed.append(file)

    def _tell(self, file: Path, found: str, picture: Path) -> None:
        where = f" -> {picture}" if self.has_pictures else ""
        print(f"{file}: {found}{where}", flush=True)


def _names(prediction: Prediction) -> list[str]:
    """Name the class of every object, or the most probable or largest class."""
    if not isinstance(prediction.result, Detections):
        return [name for name, _ in prediction.top(1)]
    return [prediction.classes[label] for label in prediction.result.labels.tolist()]


def _describe(names: Iterable[str]) -> str:
    counts = Counter(names)
    return ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "nothing found"


def _place(args: argparse.Namespace) -> tuple[float, float] | None:
    if args.explain is None:
        return None
    if args.no_pictures:
        raise ZigguratError("--explain draws pictures and --no_pictures wants none; give one")
    if not args.explain:
        return MIDDLE
    if len(args.explain) != 2:
        raise ZigguratError(
            f"--explain takes no place or two shares, from the left and from the top, got "
            f"{' '.join(f'{share:g}' for share in args.explain)}"
        )
    place = args.explain[0], args.explain[1]
    check_place(place)
    return place


def find_images(sources: Sequence[Path], output: Path) -> list[Path]:
    """Return the files that are named, and the image files in the folders that are.

    Args:
        sources: Files and folders; a file is taken whatever its name is.
        output: Folder that pictures go to; what lies in it is never taken from a folder.

    Raises:
        ZigguratError: If a folder has no images, or pictures would lie beside the images.
    """
    target = output.resolve()
    files: dict[Path, None] = {}  # in order, each once
    for source in sources:
        found = [source]
        if source.is_dir():
            found = sorted(
                file
                for file in source.rglob("*")
                if is_image_file(file) and file.is_file() and target not in file.resolve().parents
            )
            if not found:
                raise ZigguratError(
                    f"the folder {source} holds no image file to predict; give files or a folder "
                    "with .jpg, .png or other images that lies outside the output folder"
                )
        files |= dict.fromkeys(found)
    beside = [file for file in files if file.resolve().parent == target]
    if beside:
        raise ZigguratError(
            f"the pictures would be written beside {beside[0]} and could replace images; choose "
            f"another output folder than {output}"
        )
    return list(files)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ZigguratError(
            f"the output folder {folder} cannot be made: {error.strerror}; choose another one"
        ) from error
