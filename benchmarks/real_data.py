"""A detector and a classifier from scratch on small real data sets, on an ordinary machine.

    python benchmarks/real_data.py --data ../shared/data --minutes 30

trains `retinanet_p2t_tiny` on BCCD blood cells (205 images, 3 classes) and `p2t_tiny` on the
grocery photos (771 images, 43 classes), each for at most so many minutes, evaluates the best
weights on the validation split (on which they were chosen, too), and writes a page with curves and
pictures for each, and `real_data.json` with the figures and the machine.

With `--only camvid_topformer`, `camvid_p2t` or `camvid_segformer` a segmenter is trained on the
streets of CamVid (184 photos, 11 classes) for 60 minutes; `peers.py camvid` trains another
library's.

With `--only coco_masks` (`mask_rcnn_p2t_tiny`) or `coco_boxes` (`retinanet_pvt_v2_b0`) a detector
is to learn the 80 training images of a small part of COCO by heart, in 60 minutes.

`--only grocery_pvt_v2_b0` and `grocery_topformer_tiny` train these on the grocery photos with P2T's
recipe, without the mean of the weights; `peers.py grocery` trains timm's pvt_v2_b0 so.

`p2t_tiny` is trained with the fast decoder and in bf16, which gives more steps to a processor with
bfloat16 instructions; add `-- --trainer.precision=32` for one without.

Goals: AP50 of 0.60 on BCCD; a top-1 above 45.3 % on grocery (the mean of four views: two sizes,
mirrored or not), which is what the nearest neighbour of the colour histogram reaches; a mIoU above
16.5 %, which the most frequent class of each place reaches, on CamVid; a box AP of 0.50 on the
images of COCO that were trained on. The exit code is 0 if every goal of the call was reached.
"""

import argparse
import json
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

from ziggurat.config.files import load_run
from ziggurat.engine.budget import describe_machine, fit_to_minutes
from ziggurat.engine.progress import duration
from ziggurat.engine.train import train
from ziggurat.errors import ZigguratError
from ziggurat.inference.augmented import Augmentation
from ziggurat.inference.evaluation import evaluate
from ziggurat.inference.evaluation_options import EvaluationOptions
from ziggurat.inference.run_report import describe_run
from ziggurat.visualize.report import Command, Fact, write_report

BY_HEART = [
    "--data.val_split=train",
    "--data.flip=0",
    "--trainer.max_epochs=400",
    "--trainer.val_every_epochs=15",
]
LONG = ["--trainer.max_epochs=2000"]
# Recipe, number, goal (0: to be compared with other runs), and what the data set needs: BCCD's
# photos are 640 x 480.
TASKS: dict[str, tuple[str, str, float, list[str]]] = {
    "bccd": (
        "retinanet_p2t_tiny_from_scratch",
        "AP50",
        0.60,
        ["--data.short_side=240", "--data.long_side=320"],
    ),
    "grocery": (
        "p2t_tiny_from_scratch",
        "top1",
        0.453,
        ["--data.decoder=fast", "--trainer.precision=bf16"],
    ),
    "grocery_pvt_v2_b0": (
        "p2t_tiny_from_scratch",
        "top1",
        0.0,
        ["--model.name=pvt_v2_b0", "--trainer.ema_decay=null", *LONG],
    ),
    "grocery_topformer_tiny": (
        "p2t_tiny_from_scratch",
        "top1",
        0.0,
        ["--model.name=topformer_tiny", "--trainer.ema_decay=null", *LONG],
    ),
    # Evaluated on the images of the training: does a model learn 80 photos of COCO by heart?
    "coco_masks": ("mask_rcnn_p2t_tiny_from_scratch", "AP", 0.50, BY_HEART),
    "coco_boxes": ("retinanet_pvt_v2_b0_from_scratch", "AP", 0.50, BY_HEART),
    "camvid_topformer": ("topformer_seg_tiny_from_scratch", "mIoU", 0.165, LONG),
    "camvid_p2t": ("semantic_fpn_p2t_tiny_from_scratch", "mIoU", 0.165, LONG),
    "camvid_segformer": ("segformer_pvt_v2_b0_from_scratch", "mIoU", 0.165, LONG),
}
FOLDERS = {
    "grocery_pvt_v2_b0": "grocery",
    "grocery_topformer_tiny": "grocery",
    "coco_masks": "coco_mini",
    "coco_boxes": "coco_mini",
    "camvid_topformer": "camvid",
    "camvid_p2t": "camvid",
    "camvid_segformer": "camvid",
}
"""Folder of the data of a task, where it is not the task's name; these run on request only."""
VIEWS = {"grocery": Augmentation(flip=True, scales=(1.0, 1.5))}
"""Views of an image, where it is not seen as it is only; the goal is for their mean."""
MINUTES = dict.fromkeys(FOLDERS, 60.0)
USUAL_MINUTES = 30.0
TRAINING_SHARE = 0.95
"""Share of the minutes for training; the rest is for the last validation and the page."""


def main() -> int:
    """Run the benchmark; the exit code says whether every goal was reached."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--output", type=Path, default=Path("runs/real_data"))
    parser.add_argument(
        "--minutes", type=float, help="by default 30, of those that run on request 60"
    )
    parser.add_argument("--only", choices=sorted(TASKS))
    parser.add_argument("overrides", nargs="*", help="--section.field=value, after a --")
    arguments = parser.parse_args()
    file = arguments.output / "real_data.json"
    results = json.loads(file.read_text()) if file.is_file() else {}
    chosen = [arguments.only] if arguments.only else [name for name in TASKS if name not in FOLDERS]
    for name in chosen:
        try:
            results[name] = measure(
                name,
                arguments.data / FOLDERS.get(name, name),
                arguments.output / name,
                arguments.minutes or MINUTES.get(name, USUAL_MINUTES),
                arguments.overrides,
            )
        except ZigguratError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 1
        file.write_text(json.dumps(results, indent=2) + "\n")
    print(f"wrote {file}")
    return 0 if all(results[name]["value"] >= results[name]["goal"] for name in chosen) else 1


def measure(
    name: str, root: Path, output: Path, minutes: float, overrides: list[str]
) -> dict[str, Any]:
    """Train on one data set, evaluate the best weights, write the page.

    Raises:
        ZigguratError: If the output folder already holds a run.
    """
    if output.exists():
        raise ZigguratError(f"{output} already exists; remove it or choose another --output")
    recipe, number, goal, settings = TASKS[name]
    words = [*settings, *overrides]
    start = time.monotonic()
    config = load_run(recipe, [f"--data.root={root}", "--trainer.devices=1", *words])
    config = fit_to_minutes(config, TRAINING_SHARE * minutes, print)
    record = train(config, output, say=lambda line: print(line, flush=True)).metrics
    options = EvaluationOptions(augmentation=VIEWS.get(name))
    report = evaluate(output, options=options).report
    seconds = time.monotonic() - start
    value = report.numbers[number]
    print(f"{name}: {number} {value:.4f} (goal {goal}) in {duration(seconds)}")
    if name in VIEWS:
        print(f"the mean of views; in one {record['best']['value']:.4f}")
    page = describe_run(
        output,
        report,
        title=f"{recipe} on {name}",
        summary=f"{number} {100 * value:.1f} % after {duration(seconds)}, from random weights.",
        facts=[
            Fact("machine", describe_machine()),
            Fact("training", f"{record['last']['step']} steps of {config.data.batch_size} images"),
        ],
        commands=[Command("Repeat it", f"python benchmarks/real_data.py --only {name}")],
    )
    write_report(output / "report.html", page)
    return {
        "recipe": recipe,
        "overrides": words,
        "machine": describe_machine(),
        "date": date.today().isoformat(),
        "seconds": round(seconds),
        "steps": record["last"]["step"],
        "goal": goal,
        "value": round(value, 4),
        "value_in_one_view": round(record["best"]["value"], 4) if name in VIEWS else None,
        "numbers": {key: round(entry, 4) for key, entry in report.numbers.items()},
    }


if __name__ == "__main__":
    sys.exit(main())
