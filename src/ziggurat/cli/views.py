"""How `ziggurat predict` and `ziggurat evaluate` are told what parts and views a model sees."""

import argparse

from ziggurat.errors import ZigguratError
from ziggurat.inference.augmented import Augmentation
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


def views_of(args: argparse.Namespace) -> tuple[Tiles | None, Augmentation | None]:
    """Return how images are cut and which views there are, each None where nothing was asked for.

    Args:
        args: What the command line says.

    Raises:
        ZigguratError: If tiles overlap that are not there, or a number is out of range.
    """
    tiles, augmentation = None, None
    if args.tile_size is not None:
        overlap = args.tile_size // 4 if args.tile_overlap is None else args.tile_overlap
        tiles = Tiles(args.tile_size, overlap)
    elif args.tile_overlap is not None:
        raise ZigguratError(
            "--tile_overlap says how tiles overlap, but without --tile_size there are none"
        )
    if args.flip or args.scales is not None:
        augmentation = Augmentation(args.flip, tuple(args.scales or (1.0,)))
    return tiles, augmentation
