"""`ziggurat predict RUN_OR_WEIGHTS FILES_OR_FOLDERS... -o OUT`: overlays and results of any images.

Videos are taken where they are named, frame by frame.
"""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from PIL import Image

from ziggurat.cli.memory import keep_memory
from ziggurat.cli.outputs import make_folder
from ziggurat.cli.prediction_work import PredictionWork
from ziggurat.cli.suppression import add_suppression_arguments, suppression_of
from ziggurat.cli.views import add_precision_argument, add_view_arguments, views_of
from ziggurat.data.decode import allow_megapixels, is_image_file
from ziggurat.errors import ZigguratError
from ziggurat.inference.explanation import MIDDLE, check_place, explain, transformer_of
from ziggurat.inference.formats import FORMATS, choose_format
from ziggurat.inference.output import picture_names
from ziggurat.inference.predictor import Prediction, load
from ziggurat.inference.video import import_av, is_video_file


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

    Where there is no image, or at least one file is none or cannot be predicted, an error says so:
    all others are done. Whatever else ends it, Ctrl-C too, the results so far are written.

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
    keep_memory(args.device)
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

    predict(iter(()))  # options that do not fit the model are no fault of the first image
    make_folder(args.output)
    work = PredictionWork(
        predict,
        args.batch_size or predictor.usual_batch_size,
        draw,
        chosen.new(args.output, predictor.classes),
        args.output,
        dict(zip(files, picture_names(files), strict=True)),
        has_pictures=not args.no_pictures,
    )
    try:
        work.predict_images([file for file in files if file not in videos])
        for video in videos:
            work.predict_video(video)
    except BaseException:
        work.break_off()
        raise
    work.finish()


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
