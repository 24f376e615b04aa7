"""Time of soft-NMS and box voting beside that of plain suppression, on the same candidates.

    python benchmarks/suppression.py
    python benchmarks/suppression.py --boxes 200 --classes 20

Random boxes around 1000 places of an image, each a candidate of every class: the most that a
region-based detector can give. The best of three turns, the kinds one after the other in each.
"""

import argparse
import sys
import time

import torch

from ziggurat.ops.box_voting import Voting
from ziggurat.ops.nms import BoxCandidates, Suppression

KINDS = {
    "hard": Suppression(),
    "soft-linear": Suppression("soft-linear"),
    "soft-gaussian": Suppression("soft-gaussian"),
    "hard, voting": Suppression(voting=Voting()),
    "soft-gaussian, voting": Suppression("soft-gaussian", voting=Voting()),
    "hard, voting, new scores": Suppression(voting=Voting(score="iou_avg")),
    "soft-gaussian, voting, new scores": Suppression(
        "soft-gaussian", voting=Voting(score="iou_avg")
    ),
}
TURNS = 3


def draw(places: int, classes: int) -> BoxCandidates:
    """Draw candidates."""
    torch.manual_seed(0)
    corners = 800 * torch.rand(places, 2)
    boxes = torch.cat([corners, corners + 20 + 200 * torch.rand(places, 2)], dim=1)
    boxes = boxes.repeat_interleave(classes, dim=0)
    boxes += torch.randn(len(boxes), 4)
    labels = torch.arange(classes).repeat(places)
    return BoxCandidates(boxes, torch.rand(len(boxes)), labels, iou=0.5, max_detections=100)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--boxes", type=int, default=1000)
    parser.add_argument("--classes", type=int, default=80)
    arguments = parser.parse_args()
    candidates = draw(arguments.boxes, arguments.classes)
    best = dict.fromkeys(KINDS, float("inf"))
    for _ in range(TURNS):
        for name, suppression in KINDS.items():
            begin = time.perf_counter()
            candidates.suppress(suppression)
            best[name] = min(best[name], time.perf_counter() - begin)
    print(
        f"{arguments.boxes} boxes x {arguments.classes} classes, {torch.get_num_threads()} threads"
    )
    for name, seconds in best.items():
        print(f"{name:34} {1000 * seconds:8.1f} ms  {seconds / best['hard']:5.2f} of hard")
    return 0


if __name__ == "__main__":
    sys.exit(main())
