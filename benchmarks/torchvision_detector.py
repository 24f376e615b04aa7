"""torchvision's RetinaNet with ResNet-50 from scratch on BCCD, to hold ours against.

    python benchmarks/torchvision_detector.py --data ../shared/data --minutes 30

The same run as `python benchmarks/real_data.py --only bccd`, with another model: the same data,
image size, batches, optimizer and limits, the same time, the same evaluation. The learning rate
falls as a cosine over the minutes, so that nothing has to be planned.
"""

import argparse
import json
import math
import sys
import time
from datetime import date
from pathlib import Path

import torch
from torch.nn.utils import clip_grad_norm_
from torchvision.models.detection import retinanet_resnet50_fpn

from ziggurat.bench.detection import TorchvisionDetector, total_loss
from ziggurat.config.files import load_run
from ziggurat.config.tree import TrainConfig
from ziggurat.engine.budget import describe_machine
from ziggurat.engine.data import RunData, build_data, training_loader, validation_loader
from ziggurat.engine.optimizer import build_optimizer, scaled_lr
from ziggurat.metrics.base import Report
from ziggurat.types import Batch, Detections, scale_between

RECIPE = "retinanet_p2t_tiny_from_scratch"
SETTINGS = ["--data.short_side=240", "--data.long_side=320"]
TRAINING_SHARE = 0.95
"""Share of the minutes for training; the rest is for the validation."""
SECONDS_BETWEEN_LINES = 20.0


def main() -> int:
    """Train, evaluate, write the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--output", type=Path, default=Path("runs/real_data"))
    parser.add_argument("--minutes", type=float, default=30.0)
    arguments = parser.parse_args()
    root = arguments.data / "bccd"
    config = load_run(RECIPE, [f"--data.root={root}", "--trainer.devices=1", *SETTINGS])
    torch.manual_seed(config.trainer.seed)
    data = build_data(config)
    # It counts the background as a class.
    plain = retinanet_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=len(data.classes) + 1
    )
    model = TorchvisionDetector(plain.to(memory_format=torch.channels_last))
    begin = time.monotonic()
    steps = train(model, data, config, 60 * TRAINING_SHARE * arguments.minutes)
    report = evaluate(model, data, config)
    outcome = {
        "model": "torchvision retinanet_resnet50_fpn",
        "machine": describe_machine(),
        "date": date.today().isoformat(),
        "seconds": round(time.monotonic() - begin),
        "steps": steps,
        "numbers": {key: round(value, 4) for key, value in report.numbers.items()},
    }
    file = arguments.output / "torchvision_bccd.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(outcome, indent=2) + "\n")
    print(f"AP {report.numbers['AP']:.4f}, AP50 {report.numbers['AP50']:.4f}; wrote {file}")
    return 0


def train(model: TorchvisionDetector, data: RunData, config: TrainConfig, seconds: float) -> int:
    """Train for so many seconds and return the number of steps."""
    peak = scaled_lr(config.optimizer, config.data.batch_size)
    optimizer = build_optimizer(model, config.optimizer, lr=peak, is_fused=True)
    loader = training_loader(data, config, rank=0, world_size=1)
    model.train()
    begin = said = time.monotonic()
    step = epoch = 0
    while True:
        loader.set_epoch(epoch)
        for batch in loader:
            now = time.monotonic()
            if now - begin >= seconds:
                return step
            warm = min(1.0, (step + 1) / max(1, config.schedule.warmup_steps))
            rate = peak * warm * (1 + math.cos(math.pi * (now - begin) / seconds)) / 2
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss = total_loss(model, batch.images, targets_of(batch))
            optimizer.zero_grad()
            loss.backward()
            clip_grad_norm_(model.parameters(), config.trainer.clip_norm or math.inf)
            optimizer.step()
            step += 1
            if now - said >= SECONDS_BETWEEN_LINES:
                said = now
                left = duration_left(begin, seconds, now)
                print(f"step {step}: loss {float(loss.detach()):.3f}, {left}", flush=True)
        epoch += 1


def duration_left(begin: float, seconds: float, now: float) -> str:
    """Say how long the training goes on."""
    return f"{(begin + seconds - now) / 60:.1f} min left"


def targets_of(batch: Batch) -> list[Detections]:
    """Return the true objects of a batch.

    Raises:
        TypeError: If the batch is not one of detection.
    """
    targets = [target for target in batch.targets or [] if isinstance(target, Detections)]
    if len(targets) != len(batch.infos):
        raise TypeError("a batch of detection has the objects of each image")
    return targets


@torch.inference_mode()
def evaluate(model: TorchvisionDetector, data: RunData, config: TrainConfig) -> Report:
    """Predict the validation split and count."""
    model.eval()
    metric = data.new_metric(data.classes)
    for batch in validation_loader(data, config, rank=0, world_size=1):
        results = []
        for found, size, info in zip(
            model(batch.images), batch.image_sizes, batch.infos, strict=True
        ):
            x, y = scale_between(size, info.original_size)
            boxes = found["boxes"] / torch.tensor([x, y, x, y])
            results.append(Detections(boxes, found["scores"], found["labels"] - 1))
        metric.update(results, batch)
    return metric.compute()


if __name__ == "__main__":
    sys.exit(main())
