"""Memory and time of `ziggurat predict` for photos of 8000 x 8000 pixels, cut into tiles.

    python benchmarks/large_images.py [--side 8000] [--only MODEL]

The photo is made of synthesized scenes; the models have fresh weights, detectors scaled so that
they find objects in a scene. Each prediction is a process of its own, with pictures and results
written, whose peak resident memory the system tells. The exit code is 0 if each stayed within 4 GB.
Linux only.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ziggurat.bench.detection import enliven
from ziggurat.checkpoints.native import save_weights
from ziggurat.data.scenes import make_scene
from ziggurat.engine.budget import describe_machine
from ziggurat.models.detector import Detector
from ziggurat.zoo import create_model

RESULTS = Path(__file__).parent / "results"
TILES = {"retinanet_p2t_tiny": 2048, "mask_rcnn_p2t_tiny": 2048, "semantic_fpn_p2t_tiny": 1024}
"""Side of the tiles of each model; a segmenter's logits of 150 classes are larger than any map."""
SCENE = 500
LIMIT_BYTES = 4e9
SCORE_THRESHOLD = 0.05
SECONDS_BETWEEN_LOOKS = 0.05


@dataclass(frozen=True)
class Outcome:
    """What a process took."""

    model: str
    seconds: float
    peak_bytes: int
    found: str


def main() -> int:
    """Make the photo, let each model see it, write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--side", type=int, default=8000)
    parser.add_argument("--only", choices=TILES)
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of both files")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photo = folder / "photo.jpg"
        make_photo(arguments.side).save(photo, quality=90)
        outcomes = []
        for model in [arguments.only] if arguments.only else TILES:
            outcome = measure(model, photo, folder / model)
            if outcome is None:  # the process has said why
                return 1
            outcomes.append(outcome)
            print(
                f"{model}: {outcome.peak_bytes / 1e9:.2f} GB at most, {outcome.seconds:.0f} s; "
                f"{outcome.found}",
                flush=True,
            )
    facts = {
        "machine": describe_machine(),
        "date": date.today().isoformat(),
        "side": arguments.side,
        "outcomes": [asdict(outcome) for outcome in outcomes],
    }
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "large_images.json").write_text(json.dumps(facts, indent=1) + "\n")
    rows = [
        f"| `{o.model}` | {TILES[o.model]} | {o.peak_bytes / 1e9:.2f} | {o.seconds:.0f} | "
        f"{o.found} |"
        for o in outcomes
    ]
    lines = [
        "# Very large photos",
        "",
        f"`python benchmarks/large_images.py`, {facts['date']}, {facts['machine']}: "
        f"`ziggurat predict` of a photo of {arguments.side} x {arguments.side} pixels, "
        "peak resident memory of the process and its time, start, reading and pictures included.",
        "",
        "| model | `--tile_size` | GB | s | found |",
        "|---|---|---|---|---|",
        *rows,
    ]
    (arguments.output / "large_images.md").write_text("\n".join(lines) + "\n")
    return 0 if all(outcome.peak_bytes <= LIMIT_BYTES for outcome in outcomes) else 1


def make_photo(side: int) -> Image.Image:
    """Put scenes side by side, a few of them again and again."""
    scenes = [
        np.asarray(make_scene(np.random.default_rng(seed), (SCENE, SCENE), seed % 3).image)
        for seed in range(8)
    ]
    count = -(-side // SCENE)
    rows = [
        np.concatenate(
            [scenes[(3 * row + column) % len(scenes)] for column in range(count)], axis=1
        )
        for row in range(count)
    ]
    return Image.fromarray(np.concatenate(rows)[:side, :side])


def measure(name: str, photo: Path, folder: Path) -> Outcome | None:
    """Predict in a process of its own; None if it failed."""
    torch.manual_seed(0)
    model = create_model(name).eval()
    if isinstance(model, Detector):
        enliven(model, torch.randn(1, 3, 512, 512))
    folder.mkdir()
    weights = folder / "weights.safetensors"
    save_weights(model, weights)
    words = ["predict", weights, photo, "-o", folder / "out", "--tile_size", TILES[name]]
    if isinstance(model, Detector):
        words += ["--score_threshold", SCORE_THRESHOLD]
    begin, peak = time.monotonic(), 0
    command = [sys.executable, "-m", "ziggurat", *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = peak_bytes(process.pid) or peak
            time.sleep(SECONDS_BETWEEN_LOOKS)
    if process.returncode:
        return None
    seconds = time.monotonic() - begin
    predictions = folder / "out" / "predictions.json"
    if predictions.is_file():
        found = f"{len(json.loads(predictions.read_text()))} objects"
    else:
        found = "a class for each pixel"
    return Outcome(name, seconds, peak, found)


def peak_bytes(pid: int) -> int:
    """Return the most resident memory that a process has had; 0 once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


if __name__ == "__main__":
    sys.exit(main())
