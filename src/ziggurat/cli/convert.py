"""`ziggurat convert`: official checkpoints to weight files of ziggurat, and those to timm's."""

import argparse
from dataclasses import replace
from pathlib import Path

from ziggurat.checkpoints.for_timm import save_for_timm
from ziggurat.checkpoints.native import is_native, load_weights, save_weights
from ziggurat.checkpoints.official import load_official
from ziggurat.class_lists import LISTS, class_list
from ziggurat.data.storage import read_class_names
from ziggurat.errors import ZigguratError
from ziggurat.preprocessing import CenterCrop
from ziggurat.pretrained import find_weights, is_path
from ziggurat.zoo import Model, create_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument(
        "file",
        help="official .pth, .pt, .safetensors, .pdparams or .pkl file, or the name of one that "
        "`ziggurat list --weights` shows; with --to one of ziggurat",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, help="file to write, NAME.safetensors"
    )
    parser.add_argument("--model", help="name of an official file's model, see `ziggurat list`")
    parser.add_argument(
        "--num_classes",
        type=int,
        help="number of classes of the official file, where it is not the published one",
    )
    parser.add_argument(
        "--classes",
        metavar="FILE",
        help="text file with the name of one class a line, in their order; or one of "
        f"{', '.join(LISTS)}; by default the names in the official file, else those of the data "
        "that the model was published for",
    )
    for side, length in (("short", 800), ("long", 1333)):
        parser.add_argument(
            f"--{side}_side",
            type=int,
            help=f"pixels of the {side} side of an image as a detector or segmenter was trained to "
            f"see it, for example {length}, where that is not as published",
        )
    parser.add_argument(
        "--ema", action="store_true", help="take the weights averaged over the training"
    )
    parser.add_argument(
        "--to", choices=["timm"], help="convert the other way: a PVT v2 of ziggurat for timm"
    )


def run(args: argparse.Namespace) -> None:
    """Convert one file and print what became of its entries.

    Raises:
        ZigguratError: If the file does not fit the model, or the arguments do not fit each other.
    """
    if args.output.exists() and Path(args.file).exists() and args.output.samefile(args.file):
        raise ZigguratError(
            f"the output {args.output} is the file to convert itself; choose another name"
        )
    if args.to is None:
        _from_official(args)
    else:
        _to_timm(args)
    print(f"wrote {args.output} ({args.output.stat().st_size / 1e6:.1f} MB)")


def _from_official(args: argparse.Namespace) -> None:
    if is_path(args.file):
        _refuse_own(Path(args.file))
    if args.model is None:
        raise ZigguratError(
            f"{args.file} does not say which model it is of; name it with --model, `ziggurat list` "
            "shows the names"
        )
    names = None if args.classes is None else _names_of(args.classes)
    num_classes = args.num_classes
    if names is not None:
        if num_classes is not None and num_classes != len(names):
            raise ZigguratError(
                f"{args.classes} has {len(names)} names, expected {num_classes} as --num_classes "
                "says; correct one of them"
            )
        num_classes = len(names)
    model = create_model(args.model, num_classes=num_classes)
    path = find_weights(args.model, args.file)
    _refuse_own(path)
    report = load_official(model, path, use_ema=args.ema)
    if names is not None:
        model.classes = names
    _set_sides(model, args.short_side, args.long_side)
    save_weights(model, args.output)
    print(report.summary())


def _refuse_own(path: Path) -> None:
    if is_native(path):
        raise ZigguratError(
            f"{path} is a weight file of ziggurat already; use it as it is, or with --to"
        )


def _names_of(wanted: str) -> tuple[str, ...]:
    """Return class names from a file, which goes before the list of the same name."""
    is_list = wanted in LISTS and not Path(wanted).exists()
    return class_list(wanted).classes if is_list else read_class_names(Path(wanted))


def _set_sides(model: Model, short_side: int | None, long_side: int | None) -> None:
    """Let a model see images in another size than published.

    Raises:
        ZigguratError: If the model is a classifier, or the sizes are none.
    """
    usual = model.preprocessing
    if short_side is None and long_side is None:
        return
    if isinstance(usual, CenterCrop):
        raise ZigguratError(
            f"--short_side and --long_side are for detectors and segmenters, and "
            f"{model.identity.name} is a classifier; leave them out"
        )
    short = usual.short_side if short_side is None else short_side
    long = usual.long_side if long_side is None else long_side
    if not 0 < short <= long:
        raise ZigguratError(
            f"the short side must be at least 1 pixel and at most the long one, got --short_side "
            f"{short} and --long_side {long}"
        )
    model.preprocessing = replace(usual, short_side=short, long_side=long)


def _to_timm(args: argparse.Namespace) -> None:
    options = {
        "--model": args.model,
        "--num_classes": args.num_classes,
        "--classes": args.classes,
        "--short_side": args.short_side,
        "--long_side": args.long_side,
        "--ema": args.ema or None,
    }
    given = [option for option, value in options.items() if value is not None]
    if given:
        raise ZigguratError(
            f"{', '.join(given)} describe an official file, and --to starts from a file of "
            "ziggurat, which says of itself what it is; leave them out"
        )
    model = load_weights(args.file)
    save_for_timm(model, args.output)
    print(
        f"{len(model.state_dict())} entries; load them with timm.create_model("
        f"{model.identity.name!r}, num_classes={len(model.classes)}, "
        f"checkpoint_path={str(args.output)!r})"
    )
