"""`ziggurat convert`: turn an official checkpoint into a weight file of ziggurat."""

import argparse
from pathlib import Path

from ziggurat.checkpoints.native import save_weights
from ziggurat.checkpoints.official import load_official
from ziggurat.errors import ZigguratError
from ziggurat.zoo import create_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("official", type=Path, help="official .pth, .pt or .safetensors file")
    parser.add_argument("--model", required=True, help="name of the model, see `ziggurat list`")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, help="file to write, NAME.safetensors"
    )
    parser.add_argument(
        "--num_classes",
        type=int,
        help="number of classes of the file, where it is not the published one",
    )
    parser.add_argument(
        "--classes", type=Path, help="text file with the name of one class a line, in their order"
    )


def run(args: argparse.Namespace) -> None:
    """Convert one file and print what became of its entries.

    Raises:
        ZigguratError: If the file does not fit the model, or the arguments do not fit each other.
    """
    if args.output.exists() and args.official.exists() and args.output.samefile(args.official):
        raise ZigguratError(
            f"the output {args.output} is the official file itself; choose another name"
        )
    names = None if args.classes is None else _read_names(args.classes)
    num_classes = args.num_classes
    if names is not None:
        if num_classes is not None and num_classes != len(names):
            raise ZigguratError(
                f"{args.classes} has {len(names)} names, expected {num_classes} as --num_classes "
                "says; correct one of them"
            )
        num_classes = len(names)
    model = create_model(args.model, num_classes=num_classes)
    report = load_official(model, args.official)
    if names is not None:
        model.classes = names
    save_weights(model, args.output)
    print(report.summary())
    print(f"wrote {args.output} ({args.output.stat().st_size / 1e6:.1f} MB)")


def _read_names(path: Path) -> tuple[str, ...]:
    try:
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise ZigguratError(
            f"cannot read the class names in {path} ({error}); give a text file with one name a "
            "line"
        ) from error
    if not names or not all(names):
        raise ZigguratError(f"{path} has an empty line or no names; give one class name a line")
    return names
