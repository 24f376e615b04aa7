"""`ziggurat data synthesize`, `check`, `convert` and `pack`: make a data set, or work on one."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from PIL import Image
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ziggurat.cli.outputs import free_name, make_place
from ziggurat.data.check import check_layout, find_datasets
from ziggurat.data.check_coco import check_annotations
from ziggurat.data.convert import convert_to_coco
from ziggurat.data.convert_labels import ConvertFormat, convert_labels, natural_format
from ziggurat.data.detection_layouts import FOREIGN
from ziggurat.data.findings import DatasetCheck, SplitCount, evenly, plural
from ziggurat.data.pack import pack
from ziggurat.data.preview import Preview, read_preview
from ziggurat.data.segmentation_layouts import SEGMENTATION
from ziggurat.data.synthesize import synthesize
from ziggurat.errors import ZigguratError
from ziggurat.visualize.contact_sheet import contact_sheet

_SHARD_MEGABYTES = 500
_MAX_CLASSES = 30
_MAX_PICTURES = 16
_LAYOUT_NAMES = {
    "image_folder": "ImageFolder",
    "image_list": "image list",
    "image_lmdb": "LMDB",
    "image_shards": "tar shards",
    "coco": "COCO",
    "class_masks": "masks of classes",
    **{name: layout.title for name, layout in FOREIGN.items()},
    **{name: layout.title for name, layout in SEGMENTATION.items()},
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the actions and their options."""
    actions = parser.add_subparsers(
        dest="action", metavar="{synthesize,check,convert,pack}", required=True
    )
    make = actions.add_parser(
        "synthesize",
        help="make a data set of synthetic scenes in the layouts of all tasks",
        description="Make a data set of synthetic scenes: ImageFolder, COCO and ADE20K at once.",
    )
    make.add_argument("dir", type=Path, help="folder to write to")
    make.add_argument("--num_images", type=int, default=200, help="number of scenes (default 200)")
    make.add_argument(
        "--size",
        type=int,
        nargs="+",
        default=[256],
        metavar=("SIDE", "WIDTH"),
        help="side of the scenes in pixels, or height and width (default 256)",
    )
    make.add_argument(
        "--seed", type=int, default=0, help="the same seed, the same bytes (default 0)"
    )
    make.add_argument(
        "--val_fraction", type=float, default=0.2, help="share of the split val (default 0.2)"
    )
    make.add_argument(
        "--num_classes", type=int, default=6, help="kinds of shapes, 1 to 6 (default 6)"
    )
    look = actions.add_parser(
        "check",
        help="recognise a data set's layout, count it, name every fault",
        description="Recognise a data set's layout, count it, name every fault with its file, and "
        "draw examples with their annotations. Exits with 1 if there are faults.",
    )
    look.add_argument(
        "dir",
        type=Path,
        nargs="?",
        help="folder of the data set; with --data.annotations what the files are below, by default "
        "the current folder",
    )
    look.add_argument(
        "--data.annotations",
        dest="annotations",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="COCO annotation files in any place instead of a layout; the first is trained on, and "
        "the others must have its classes",
    )
    look.add_argument(
        "--data.images",
        dest="images",
        type=Path,
        nargs="+",
        metavar="DIR",
        help="folder that the file names of each of --data.annotations are relative to, or one for "
        "all",
    )
    look.add_argument(
        "--contact_sheet",
        type=Path,
        metavar="FILE",
        help="picture of examples to write (default contact_sheet.jpg, or where that exists "
        "contact_sheet_2.jpg and so on)",
    )
    turn = actions.add_parser(
        "convert",
        help="convert Pascal VOC, SBD, Cityscapes, YOLO or LabelMe to COCO; COCO-Stuff 10k and "
        "Pascal Context, as downloaded, to label maps",
        description="Convert a data set to a layout that is trained on: boxes or masks of objects "
        "of Pascal VOC, SBD, Cityscapes, YOLO or LabelMe to COCO, the labels of COCO-Stuff 10k or "
        "Pascal Context, as they are downloaded, to PNG files; images are copied.",
    )
    turn.add_argument("dir", type=Path, help="folder of the data set")
    turn.add_argument("-o", "--output", type=Path, required=True, help="folder to write to")
    turn.add_argument(
        "--format",
        choices=get_args(ConvertFormat),
        help="what to write: objects as COCO, or label maps (default: COCO where the folder has "
        "objects, as Pascal VOC 2010 beside Pascal Context)",
    )
    turn.add_argument(
        "--masks",
        action="store_true",
        help="convert the masks of objects, where a folder has boxes besides, as Pascal VOC's",
    )
    bind = actions.add_parser(
        "pack",
        help="pack classification images into LMDB or tar shards",
        description="Pack the images of class folders, lists, LMDB or shards, every file byte for "
        "byte; what was written is read back and compared.",
    )
    bind.add_argument("dir", type=Path, help="folder of the data set")
    bind.add_argument("-o", "--output", type=Path, required=True, help="folder to make")
    bind.add_argument("--format", choices=["lmdb", "shards"], required=True, help="what to write")
    bind.add_argument(
        "--shard_size",
        type=int,
        metavar="MB",
        help="a shard is closed when it has this many megabytes (default 500)",
    )


def run(args: argparse.Namespace) -> None:
    """Do what was asked; faults in a data set are an error, after all of them were named."""
    if args.action == "synthesize":
        _synthesize(args)
    elif args.action == "convert":
        _convert(args)
    elif args.action == "pack":
        _pack(args)
    else:
        _check(args)


class _Ticker:
    """Says every few seconds how far a long piece of work has come."""

    def __init__(self) -> None:
        self.last = time.monotonic()

    def show(self, text: str) -> None:
        if time.monotonic() - self.last > 3:
            self.last = time.monotonic()
            print(text, file=sys.stderr, flush=True)


def _synthesize(args: argparse.Namespace) -> None:
    if len(args.size) > 2:
        raise ZigguratError(
            f"--size takes one number, or height and width; got {len(args.size)} numbers"
        )
    size = (args.size[0], args.size[-1])
    ticker = _Ticker()
    synthesize(
        args.dir,
        num_images=args.num_images,
        size=size,
        seed=args.seed,
        val_fraction=args.val_fraction,
        num_classes=args.num_classes,
        on_progress=lambda done, total: ticker.show(f"scene {done} of {total}"),
    )
    print(f"{plural(args.num_images, 'scene')} of {size[0]} x {size[1]} pixels (height x width):")
    print(f"  {args.dir / 'classification'}  (ImageFolder)")
    print(f"  {args.dir / 'detection'}  (COCO, boxes, masks and keypoints)")
    print(f"  {args.dir / 'segmentation'}  (ADE20K)")


def _convert(args: argparse.Namespace) -> None:
    kind = args.format or natural_format(args.dir)
    if kind == "labels" and args.masks:
        raise ZigguratError(
            "--masks has no effect on label maps; leave it out or choose --format coco"
        )
    ticker = _Ticker()

    def show(done: int, total: int) -> None:
        ticker.show(f"image {done} of {total}")

    if kind == "labels":
        labels = convert_labels(args.dir, args.output, on_progress=show)
        for split, num_images in labels.num_images.items():
            print(f"{split}: {plural(num_images, 'image')}")
        for what, count in labels.left_out.items():
            print(f"left out: {count} x {what}")
        print(f"{args.output}  ({_LAYOUT_NAMES[labels.layout]})")
        return
    objects = convert_to_coco(args.dir, args.output, with_masks=args.masks, on_progress=show)
    for split, (num_images, num_objects) in objects.items():
        print(f"{split}: {plural(num_images, 'image')}, {plural(num_objects, 'object')}")
    print(f"{args.output}  (COCO)")


def _pack(args: argparse.Namespace) -> None:
    if args.format == "lmdb" and args.shard_size is not None:
        raise ZigguratError(
            f"--shard_size {args.shard_size} has no effect on LMDB, which is one file; leave it "
            "out or choose --format shards"
        )
    megabytes = _SHARD_MEGABYTES if args.shard_size is None else args.shard_size
    ticker = _Ticker()
    done = pack(
        args.dir,
        args.output,
        args.format,
        shard_bytes=megabytes * 1_000_000,
        on_progress=lambda what, count, total: ticker.show(f"{what}: image {count} of {total}"),
    )
    for split in done:
        print(f"{split.name}: {plural(split.num_images, 'image')}, {split.num_bytes / 1e6:.1f} MB")
    print(f"{args.output}  ({_LAYOUT_NAMES['image_' + args.format]}), read back and compared")


def _check(args: argparse.Namespace) -> None:
    ticker = _Ticker()
    looked_at = 0

    def count(files: int) -> None:
        nonlocal looked_at
        looked_at += files
        ticker.show(f"{looked_at} files looked at")

    if args.contact_sheet is not None:
        _check_sheet(args.contact_sheet)
    if args.annotations is None and args.images is None:
        if args.dir is None:
            raise ZigguratError("name the folder of a data set, or a file with --data.annotations")
        found = find_datasets(args.dir)
        checks = [check_layout(root, layout, on_progress=count) for root, layout in found]
    else:
        root = args.dir or Path()
        places = _named_places(root, args.annotations or [], args.images or [])
        checks = [check_annotations(root, places, on_progress=count)]
    console = Console(highlight=False)
    for check in checks:
        _print(console, check)
    count_each = _MAX_PICTURES if len(checks) == 1 else _MAX_PICTURES // 2
    sections = [(_title(check), _pictures(check, count_each)) for check in checks if check.examples]
    if sections:
        _save(contact_sheet(sections), args.contact_sheet)
    num_faults = sum(len(check.faults) for check in checks)
    if num_faults:
        raise ZigguratError(
            f"{args.dir or 'the data'} has {plural(num_faults, 'fault')}, each one named above; "
            "correct or remove the files and check again"
        )


def _named_places(
    root: Path, annotations: Sequence[Path], images: Sequence[Path]
) -> list[tuple[Path, Path]]:
    """Pair annotation files with the folders of their images.

    Raises:
        ZigguratError: If there is not a folder for each, or a file is none.
    """
    folders = [*images] * len(annotations) if len(images) == 1 else [*images]
    if not annotations or len(folders) != len(annotations):
        raise ZigguratError(
            f"--data.annotations names {plural(len(annotations), 'file')} and --data.images "
            f"{plural(len(images), 'folder')}; give one folder for each file, or one for all"
        )
    for file in annotations:
        if not (root / file).is_file():
            raise ZigguratError(f"the annotation file {root / file} does not exist")
    return [(root / file, root / folder) for file, folder in zip(annotations, folders, strict=True)]


def _title(check: DatasetCheck) -> str:
    parts = [
        f"{split.name} {plural(split.num_images, 'image')}"
        + (
            f", {plural(sum(split.per_class.values()), 'object')}"
            if split.unit == "objects"
            else ""
        )
        for split in check.splits
    ]
    return f"{check.root} ({_LAYOUT_NAMES[check.layout]}): {'; '.join(parts)}"


def _print(console: Console, check: DatasetCheck) -> None:
    print(_title(check))
    if check.splits:
        console.print(_counts(check))
    for finding in check.findings:
        print(f"{finding.severity}: {finding.file}: {finding.reason}")
    num_notes = len(check.findings) - len(check.faults)
    print(f"{plural(len(check.faults), 'fault')}, {plural(num_notes, 'note')}")


def _counts(check: DatasetCheck) -> Table:
    """Lay out the counts, the most frequent classes first where there are too many to show."""
    table = Table(f"{check.splits[0].unit} of each class")
    totals: dict[str, int] = {}
    for split in check.splits:
        of_split = [split.name] if split.images_per_class is None else [split.name, "%", "images"]
        for title in of_split:
            table.add_column(escape(title), justify="right")
        for name, count in split.per_class.items():
            totals[name] = totals.get(name, 0) + count
    names = list(totals)
    if len(names) > _MAX_CLASSES:
        names = sorted(names, key=lambda name: -totals[name])[:_MAX_CLASSES]
    for name in names:
        cells = (cell for split in check.splits for cell in _cells(split, name))
        table.add_row(escape(name), *cells)
    if len(totals) > len(names):
        table.add_row(f"and {len(totals) - len(names)} more classes")
    return table


def _cells(split: SplitCount, name: str) -> list[str]:
    count = split.per_class.get(name, 0)
    if split.images_per_class is None:
        return [str(count)]
    total = sum(split.per_class.values())
    share = f"{100 * count / total:.2f}" if count else "-"
    return [str(count), share, str(split.images_per_class.get(name, 0))]


def _pictures(check: DatasetCheck, count: int) -> list[Preview]:
    chosen = evenly(len(check.examples), count)
    return [read_preview(check.examples[index]) for index in chosen]


def _check_sheet(path: Path) -> None:
    """Raise if no picture can be written there.

    Raises:
        ZigguratError: If so.
    """
    if Image.registered_extensions().get(path.suffix.lower()) not in Image.SAVE:
        raise ZigguratError(
            f"the contact sheet {path} has no suffix of a picture; name a .jpg or .png file with "
            "--contact_sheet"
        )
    make_place(path)


def _save(sheet: Image.Image, path: Path | None) -> None:
    """Write the contact sheet; one that nobody named costs no more than a line where it fails.

    Raises:
        ZigguratError: If it was named and cannot be written.
    """
    place = path or free_name(Path("contact_sheet.jpg"))
    try:
        sheet.save(place)
    except OSError as error:
        line = f"cannot write the contact sheet {place}: {error.strerror or error}"
        if path is not None:
            raise ZigguratError(f"{line}; choose another place") from error
        print(f"{line}; name a place with --contact_sheet")
        return
    print(f"contact sheet: {place}")
