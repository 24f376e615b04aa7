"""`ziggurat verify NAME FILE`: a certificate of a weight file."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from ziggurat.data.remote_shards import remote_url
from ziggurat.errors import ZigguratError
from ziggurat.pretrained import find_weights
from ziggurat.types import BadFile
from ziggurat.verification.certificate import (
    VALIDATION_IMAGES,
    Certificate,
    Measurement,
    certify,
)
from ziggurat.weights.published_file import in_words

STEP = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("name", help="name of the model or of the backbone")
    parser.add_argument(
        "file",
        help="official weight file or one of ziggurat; a name that `ziggurat list --weights` "
        "shows, or hf:USER/NAME",
    )
    parser.add_argument(
        "--ema", action="store_true", help="take the weights averaged over the training"
    )
    parser.add_argument(
        "--num_classes",
        type=int,
        help="number of classes of an official file, where it is not the published one",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="ROOT",
        help="folder of ImageNet, COCO or ADE20K: measure the accuracy and compare it with the "
        "published",
    )
    parser.add_argument("--split", help="split of --data (default val)")
    parser.add_argument(
        "--device", default="auto", help="auto (the default), cpu, cuda, cuda:<number> or mps"
    )
    parser.add_argument("--batch_size", type=int, help="images at a time, with --data")
    parser.add_argument(
        "--workers", type=int, help="processes that read images, with --data (default 0)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def run(args: argparse.Namespace) -> None:
    """Print the certificate.

    Raises:
        ZigguratError: If the file is not what it claims to be, which the certificate explains, or
            if the options do not fit each other.
    """
    if args.data is None:
        for name in ("split", "batch_size", "workers"):
            value = getattr(args, name)
            if value is not None:
                raise ZigguratError(
                    f"--{name} {value} is for the images that --data gives; add it, or leave "
                    f"--{name} out"
                )
    if args.data is not None and not args.data.is_dir() and remote_url(args.data) is None:
        raise ZigguratError(f"the data folder {args.data} does not exist; check --data")
    certificate = certify(
        args.name,
        find_weights(args.name, args.file),
        num_classes=args.num_classes,
        use_ema=args.ema,
        data_root=args.data,
        split=args.split or "val",
        device=args.device,
        batch_size=args.batch_size,
        workers=args.workers or 0,
        on_progress=_say_progress,
        on_bad_file=_say_bad_file,
    )
    print(json.dumps(to_json(certificate), indent=2) if args.json else to_text(certificate))
    if certificate.faults:
        raise ZigguratError(
            f"{args.file} does not fit {args.name}: {'; '.join(certificate.faults)}; get the file "
            "from its source again"
        )


def to_text(certificate: Certificate) -> str:
    """Write a certificate for people.

    Args:
        certificate: What was found out.
    """
    fingerprint = certificate.fingerprint
    first = ", ".join(f"{value:.5g}" for value in fingerprint.first)
    lines = [
        f"model        {certificate.model}",
        f"file         {certificate.file} ({certificate.size / 1e6:.1f} MB)",
        f"SHA-256      {certificate.sha256} ({_hash_in_words(certificate)})",
        *(
            f"{'entries' if number == 0 else '':<12} {line}"
            for number, line in enumerate(certificate.report.summary().splitlines())
        ),
        f"output       mean {fingerprint.mean:.5g}, deviation {fingerprint.std:.5g}, first {first}",
    ]
    golden = certificate.golden
    if golden is not None:
        lines.append(
            f"golden       {golden.case}: {golden.error:.1e} from the official code's values"
        )
    elif certificate.is_golden:
        lines.append(
            "golden       no values of the official code are kept for such a file: not compared"
        )
    if certificate.measured is not None:
        lines += _measurement_in_words(certificate.measured)
    lines.append(f"verdict      {'; '.join(certificate.faults) or 'fits'}")
    return "\n".join(lines)


def to_json(certificate: Certificate) -> dict[str, Any]:
    """Return a certificate as plain data.

    Args:
        certificate: What was found out.
    """
    catalogue, golden, measured = certificate.catalogue, certificate.golden, certificate.measured
    report = certificate.report
    return {
        "model": certificate.model,
        "file": str(certificate.file),
        "size": certificate.size,
        "sha256": certificate.sha256,
        "published_file": None if catalogue is None else catalogue.name,
        "has_published_hash": certificate.has_published_hash,
        "matched": len(report.matched + report.resized + report.reordered),
        "resized": [name for name, _ in report.resized],
        "reordered": [name for name, _ in report.reordered],
        "ignored": [{"entry": name, "reason": reason} for name, reason in report.ignored],
        "absent": [{"entry": name, "reason": reason} for name, reason in report.absent],
        "output": {
            "mean": certificate.fingerprint.mean,
            "std": certificate.fingerprint.std,
            "first": list(certificate.fingerprint.first),
        },
        "is_golden": certificate.is_golden,
        "golden": None if golden is None else {"case": golden.case, "error": golden.error},
        "measured": None
        if measured is None
        else {
            "data": measured.data,
            "num_images": measured.num_images,
            "numbers": measured.numbers,
            "published": measured.published,
            "other_files": {file.name: dict(file.metrics) for file in measured.others},
            "is_comparable": measured.is_comparable,
        },
        "faults": certificate.faults,
    }


def _hash_in_words(certificate: Certificate) -> str:
    catalogue = certificate.catalogue
    if catalogue is None:
        return "no published file of this name or hash"
    words = {True: "as published", False: "not the published one", None: "none is published"}
    return f"{catalogue.name}: {words[certificate.has_published_hash]}"


def _measurement_in_words(measured: Measurement) -> list[str]:
    lines = [f"data         {measured.data}"]
    numbers, published = measured.numbers, measured.published
    others = [name for file in measured.others for name, _ in file.metrics]
    for name in dict.fromkeys((next(iter(numbers)), *published, *others)):
        stated = f"{published[name]} published" if name in published else "none published"
        lines.append(f"{in_words(name):<12} {numbers[name]:.2f} measured, {stated}")
    if not measured.is_comparable:
        lines.append(" " * 13 + _why_not_compared(measured))
    return lines


def _why_not_compared(measured: Measurement) -> str:
    if measured.published:
        count = VALIDATION_IMAGES[next(iter(measured.published))]
        return f"not compared: published on {count} images, these are {measured.num_images}"
    if measured.others:
        others = "; ".join(f"{file.name}: {file.published}" for file in measured.others)
        return f"not compared with other files of the model ({others})"
    return "no number is published for this model"


def _say_progress(done: int, total: int) -> None:
    if done % STEP == 0 or done == total:
        print(f"{done}/{total} batches", file=sys.stderr)


def _say_bad_file(file: BadFile) -> None:
    print(f"left out {file.path}: {file.reason}", file=sys.stderr)
