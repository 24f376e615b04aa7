"""The same detector with FPN and with the Feature Pyramid Transformer, trained alike.

    python benchmarks/necks.py --data ../shared/data/bccd --steps 400 --output runs/necks
    python benchmarks/necks.py --data ../shared/data/bccd --steps 400 --only fpt

Both runs have the same seed, steps, photos in the same order, and settings: those of
`retinanet_p2t_tiny_from_scratch` with photos of 320 x 240 and a neck and head of 64 channels. The
transformer sees strides 8 to 32. Once both are there the curves are drawn into `necks.png`, and
`necks.json` holds the figures.
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from ziggurat.config.files import load_run
from ziggurat.engine.budget import describe_machine
from ziggurat.engine.train import train
from ziggurat.errors import ZigguratError
from ziggurat.visualize.plots import plot_curves, read_curves

NECKS = ("fpn", "fpt")
RECIPE = "retinanet_p2t_tiny_from_scratch"
SETTINGS = (
    "--model.name=retinanet",
    "--model.backbone=p2t_tiny",
    "--model.head_channels=64",
    "--data.short_side=240",
    "--data.long_side=320",
    "--trainer.devices=1",
    "--trainer.max_epochs=null",
)
SHOWN = ("val/AP", "val/AP50")


def main() -> int:
    """Train, compare, draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/bccd"))
    parser.add_argument("--output", type=Path, default=Path("runs/necks"))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--only", choices=NECKS)
    arguments = parser.parse_args()
    for neck in [arguments.only] if arguments.only else NECKS:
        try:
            outcome = measure(neck, arguments.data, arguments.output / neck, arguments.steps)
        except ZigguratError as error:
            print(f"{neck}: {error}", file=sys.stderr)
            return 1
        (arguments.output / f"{neck}.json").write_text(json.dumps(outcome, indent=2) + "\n")
    if all((arguments.output / f"{neck}.json").is_file() for neck in NECKS):
        compare(arguments.output)
    return 0


def measure(neck: str, root: Path, output: Path, steps: int) -> dict[str, Any]:
    """Train with one neck; the last weights are evaluated at the end of every run.

    Raises:
        ZigguratError: If the output folder already holds a run.
    """
    if output.exists():
        raise ZigguratError(f"{output} already exists; remove it or choose another --output")
    words = [f"--data.root={root}", f"--model.neck={neck}", f"--trainer.max_steps={steps}"]
    config = load_run(RECIPE, [*words, *SETTINGS])
    begin = time.monotonic()
    last = train(config, output, say=lambda line: print(line, flush=True)).metrics["last"]
    seconds = time.monotonic() - begin
    return {
        "neck": neck,
        "steps": steps,
        "seconds": round(seconds),
        "machine": describe_machine(),
        "date": date.today().isoformat(),
        "numbers": {key: round(value, 4) for key, value in last["metrics"].items()},
    }


def compare(output: Path) -> None:
    """Print both results and draw their curves."""
    outcomes = [json.loads((output / f"{neck}.json").read_text()) for neck in NECKS]
    (output / "necks.json").write_text(json.dumps(outcomes, indent=2) + "\n")
    for outcome in outcomes:
        numbers = outcome["numbers"]
        print(
            f"{outcome['neck']}: AP {numbers['AP']:.4f}, AP50 {numbers['AP50']:.4f} after "
            f"{outcome['steps']} steps in {outcome['seconds']} s"
        )
    curves = {
        neck: {curve.name: curve for curve in read_curves(output / neck / "metrics.csv")}
        for neck in NECKS
    }
    groups = [
        (name, [replace(curves[neck][name], name=neck) for neck in NECKS])
        for name in ("train/loss", *SHOWN)
        if all(name in curves[neck] for neck in NECKS)
    ]
    (output / "necks.png").write_bytes(plot_curves(groups))
    print(f"wrote {output / 'necks.png'}")


if __name__ == "__main__":
    sys.exit(main())
