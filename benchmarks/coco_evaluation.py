"""COCO's numbers of a validation set of COCO's size, in turns with pycocotools.

    python benchmarks/coco_evaluation.py [--images 5000] [--found 50] [--rounds 3]

Truth and detections are drawn: images of 640 x 480, about 7 objects of 80 classes in each, and so
many detections, near an object or anywhere. Everything is in memory before the clock starts; it
runs from the checked detections to the numbers of all classes. Both must give the same twelve
numbers of boxes and of masks; otherwise nothing is written and the exit code is 1.
"""

import argparse
import contextlib
import io
import json
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from hotcoco import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ziggurat.engine.budget import describe_machine
from ziggurat.metrics.coco import PREFIXES, count_report
from ziggurat.metrics.coco_counts import NUMBERS, Kind
from ziggurat.metrics.coco_results import CocoResults
from ziggurat.metrics.coco_truth import read_truth

RESULTS = Path(__file__).parent / "results"
HEIGHT, WIDTH = 480, 640
CLASSES = 80
OBJECTS = 7
NEAR = 0.4
"""Share of the detections that are near an object."""
CORNERS = 16
IOU_TYPES: dict[Kind, str] = {"boxes": "bbox", "masks": "segm"}


def main() -> int:
    """Draw, measure in turns, compare, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--found", type=int, default=50, help="detections an image")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of both files")
    arguments = parser.parse_args()
    truth, found = draw(arguments.images, arguments.found)
    print(f"drawn: {len(truth['annotations'])} objects, {len(found)} detections", flush=True)
    outcome: dict[str, Any] = {
        "machine": describe_machine(),
        "date": date.today().isoformat(),
        "images": arguments.images,
        "detections": len(found),
        "seconds": {},
    }
    is_same = True
    for kind in IOU_TYPES:
        ways = {"ziggurat": ours(truth, found, kind), "pycocotools": theirs(truth, found, kind)}
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        numbers: dict[str, list[float]] = {}
        for _ in range(arguments.rounds):
            for name, way in ways.items():
                begin = time.perf_counter()
                numbers[name] = way()
                seconds[name].append(time.perf_counter() - begin)
        agrees = numbers["ziggurat"] == numbers["pycocotools"]
        is_same &= agrees
        outcome["seconds"][kind] = seconds
        medians = {name: statistics.median(taken) for name, taken in seconds.items()}
        print(
            f"{kind}: ziggurat {medians['ziggurat']:.2f} s, pycocotools "
            f"{medians['pycocotools']:.1f} s, AP {numbers['ziggurat'][0]:.4f}, the twelve numbers "
            f"{'are the same' if agrees else 'DIFFER'}",
            flush=True,
        )
    if not is_same:
        return 1
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "coco_evaluation.json").write_text(json.dumps(outcome, indent=1) + "\n")
    (arguments.output / "coco_evaluation.md").write_text(describe(outcome))
    return 0


def draw(images: int, per_image: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return annotations and results as COCO's files have them, masks as run lengths."""
    rng = np.random.default_rng(0)
    truth: dict[str, Any] = {
        "images": [{"id": i, "height": HEIGHT, "width": WIDTH} for i in range(images)],
        "categories": [{"id": k + 1, "name": f"class_{k}"} for k in range(CLASSES)],
        "annotations": [],
    }
    found: list[dict[str, Any]] = []
    for image in range(images):
        count = int(rng.poisson(OBJECTS))
        boxes, labels = draw_boxes(rng, count), rng.integers(1, CLASSES + 1, count)
        for box, label in zip(boxes, labels, strict=True):
            entry = drawn_object(rng, image, box, int(label))
            area = float(coco_mask.area(entry["segmentation"]))
            number = len(truth["annotations"]) + 1
            truth["annotations"].append({**entry, "id": number, "area": area, "iscrowd": 0})
        for _ in range(per_image):
            if count and rng.random() < NEAR:
                number = int(rng.integers(count))
                x, y, width, height = boxes[number]
                spread = 0.2 * rng.random() * np.array([width, height, width, height])
                box = np.array([x, y, width, height]) + spread * rng.normal(size=4)
                box[2:] = box[2:].clip(min=2)
                label = int(labels[number])
            else:
                (box,), label = draw_boxes(rng, 1), int(rng.integers(1, CLASSES + 1))
            found.append({**drawn_object(rng, image, box, label), "score": float(rng.random())})
    return truth, found


def draw_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw x, y, width and height; small boxes are the most frequent."""
    size = np.exp(rng.uniform(np.log(8), np.log(400), (count, 2))).clip(max=(WIDTH, HEIGHT))
    corner = rng.random((count, 2)) * (np.array([WIDTH, HEIGHT]) - size)
    return np.concatenate([corner, size], axis=1)


def drawn_object(
    rng: np.random.Generator, image: int, box: np.ndarray, label: int
) -> dict[str, Any]:
    """Return an object with a mask that fills most of its box."""
    angles = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    radii = rng.uniform(0.7, 1, (CORNERS, 1)) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    outline = box[:2] + box[2:] * (0.5 + 0.5 * radii)
    mask = coco_mask.merge(coco_mask.fr_py_objects([outline.flatten().tolist()], HEIGHT, WIDTH))
    return {
        "image_id": image,
        "category_id": label,
        "bbox": box.tolist(),
        "segmentation": {"size": [HEIGHT, WIDTH], "counts": text(mask["counts"])},
    }


def text(counts: str | bytes) -> str:
    """Return compressed run lengths as JSON has them."""
    return counts.decode() if isinstance(counts, bytes) else counts


def ours(truth: dict[str, Any], found: list[dict[str, Any]], kind: Kind) -> Callable[[], Any]:
    """Return what counts with Ziggurat."""
    known = read_truth(truth, with_masks=kind == "masks")
    objects = CocoResults(Path("drawn"), found, (kind,)).objects(known)
    names = tuple(category["name"] for category in truth["categories"])
    ids = tuple(category["id"] for category in truth["categories"])

    def run() -> list[float]:
        report = count_report(known, objects, ids, names, [kind])
        return [report.numbers[PREFIXES[kind] + name] for name in NUMBERS]

    return run


def theirs(truth: dict[str, Any], found: list[dict[str, Any]], kind: Kind) -> Callable[[], Any]:
    """Return what counts with pycocotools."""
    # With both, it would take the size of a mask from its box.
    wanted = "bbox" if kind == "boxes" else "segmentation"
    entries = [
        {key: entry[key] for key in ("image_id", "category_id", "score", wanted)} for entry in found
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = truth
        known.createIndex()
        results = known.loadRes(entries)

    def run() -> list[float]:
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(known, results, IOU_TYPES[kind])
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return [float(value) for value in evaluation.stats]

    return run


def describe(outcome: dict[str, Any]) -> str:
    """Return the page."""
    turns = len(outcome["seconds"]["boxes"]["ziggurat"])
    lines = [
        "# COCO's numbers",
        "",
        f"`python benchmarks/coco_evaluation.py --rounds {turns}`, {outcome['date']}, "
        f"{outcome['machine']}. "
        f"{outcome['images']} images, {outcome['detections']} detections; seconds from the "
        "detections in memory to the numbers of all classes, the median of each over "
        f"{turns} turns. The numbers of both are the same to the last digit.",
        "",
        "| | ziggurat | pycocotools | times as long |",
        "|---|---|---|---|",
    ]
    for kind, seconds in outcome["seconds"].items():
        own, other = (statistics.median(seconds[name]) for name in ("ziggurat", "pycocotools"))
        lines.append(f"| {kind} | {own:.2f} | {other:.1f} | {other / own:.0f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
