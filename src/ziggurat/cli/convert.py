"""`ziggurat convert`: official checkpoints to weight files of ziggurat, and those to timm's."""

import argparse
from pathlib import Path

from ziggurat.checkpoints.for_timm import save_for_timm
from ziggurat.checkpoints.native import load_weights, save_weights
from ziggurat.checkpoints.official import load_official
from ziggurat.data.storage import read_class_names
from ziggurat.errors import ZigguratError
from ziggurat.zoo import create_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument(
        "file",
        type=Path,
        help="official .pth, .pt, .safetensors, .pdparams or .pkl file; with --to one of ziggurat",
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
        "--classes", type=Path, help="text file with the name of one class a line, in their order"
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
    if args.output.exists() and args.file.exists() and args.output.samefile(args.file):
        raise ZigguratError(
            f"the output {args.output} is the file to convert itself; choose another name"
        )
    if args.to is None:
        _from_official(args)
    else:
        _to_timm(args)
    print(f"wrote {args.output} ({args.output.stat().st_size / 1e6:.1f} MB)")


def _from_official(args: argparse.Namespace) -> None:
    if args.model is None:
        raise ZigguratError(
            f"{args.file} does not say which model it is of; name it with --model, `ziggurat list` "
            "shows the names"
        )
    names = None if args.classes is None else read_class_names(args.classes)
    num_classes = args.num_classes
    if names is not None:
        if num_classes is not None and num_classes != len(names):
            raise ZigguratError(
                f"{args.classes} has {len(names)} names, expected {num_classes} as --num_classes "
                "says; correct one of them"
            )
        num_classes = len(names)
    model = create_model(args.model, num_classes=num_classes)
    report = load_official(model, args.file, use_ema=args.ema)
    if names is not None:
        model.classes = names
    save_weights(model, args.output)
    print(report.summary())


def _to_timm(args: argparse.Namespace) -> None:
    options = {
        "--model": args.model,
        "--num_classes": args.num_classes,
        "--classes": args.classes,
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
