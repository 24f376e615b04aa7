"""How `ziggurat predict` and `evaluate` are told what a model sees, and how finely it computes."""

import argparse
from typing import get_args

from ziggurat.errors import ZigguratError
from ziggurat.inference.augmented import Augmentation
from ziggurat.inference.predictor import Precision
from ziggurat.inference.sliding import SlidingWindows
from ziggurat.inference.tiles import Tiles


def add_view_arguments(parser: argparse.ArgumentParser, *, after: str) -> None:
    """Declare how a model can be shown an image.

    Args:
        parser: Parser of the verb.
        after: The words that a list of numbers would swallow if it stood before them.
    """
    parser.add_argument(
        "--tile_size",
        type=int,
        metavar="PIXELS",
        help="cut images larger than this into overlapping square tiles, for a detector, which "
        "looks at the whole image, too, or a segmenter; tiles as large as the short side of the "
        "model's evaluation are seen pixel by pixel, smaller ones enlarged",
    )
    parser.add_argument(
        "--tile_overlap",
        type=int,
        metavar="PIXELS",
        help="what neighbouring tiles share, a quarter of their size by default; best as large as "
        "the objects",
    )
    parser.add_argument(
        "--window",
        type=int,
        metavar="PIXELS",
        help="show a segmenter the photo through sliding windows of this side, in pixels of the "
        "photo after it is resized for the model, and average what they overlap in; best the side "
        "of the crops in training",
    )
    parser.add_argument(
        "--window_overlap",
        type=int,
        metavar="PIXELS",
        help="what neighbouring windows share, a third of their size by default",
    )
    parser.add_argument(
        "--flip",
        action="store_true",
        help="test-time augmentation: see every image mirrored, too",
    )
    parser.add_argument(
        "--scales",
        type=float,
        nargs="+",
        metavar="F",
        help="test-time augmentation: see every image in these sizes, 1 being that of the "
        f"evaluation; give it after {after}",
    )


def add_precision_argument(parser: argparse.ArgumentParser) -> None:
    """Declare how finely a model computes.

    Args:
        parser: Gets the argument.
    """
    parser.add_argument(
        "--precision",
        choices=get_args(Precision),
        help="32 (the default), or bf16 for products in bfloat16: sooner where the processor or "
        "the GPU has instructions for it",
    )


def views_of(
    args: argparse.Namespace,
) -> tuple[Tiles | SlidingWindows | None, Augmentation | None]:
    """Return how images are cut and which views there are, each None where nothing was asked for.

    A number that is out of range, and an option that does not go with the others, raise
    `ZigguratError`.

    Args:
        args: What the command line says.
    """
    augmentation = None
    if args.flip or args.scales is not None:
        augmentation = Augmentation(args.flip, tuple(args.scales or (1.0,)))
    return _parts_of(args), augmentation


def _parts_of(args: argparse.Namespace) -> Tiles | SlidingWindows | None:
    """Return how images are cut.

    Raises:
        ZigguratError: If it is said twice, or what overlaps is not there.
    """
    if args.tile_size is not None and args.window is not None:
        raise ZigguratError(
            "--tile_size cuts photos before they are resized and --window after it; give one"
        )
    if args.tile_overlap is not None and args.tile_size is None:
        raise ZigguratError(
            "--tile_overlap says how tiles overlap, but without --tile_size there are none"
        )
    if args.window_overlap is not None and args.window is None:
        raise ZigguratError(
            "--window_overlap says how windows overlap, but without --window there are none"
        )
    if args.tile_size is not None:
        overlap = args.tile_size // 4 if args.tile_overlap is None else args.tile_overlap
        return Tiles(args.tile_size, overlap)
    if args.window is None:
        return None
    # In MMSegmentation two windows begin two thirds of their size apart.
    overlap = args.window - args.window * 2 // 3
    return SlidingWindows(
        args.window, overlap if args.window_overlap is None else args.window_overlap
    )
