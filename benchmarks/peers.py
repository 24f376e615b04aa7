"""Models of other libraries from scratch on real photos, to hold ours against.

    python benchmarks/peers.py bccd --data ../shared/data --minutes 30
    python benchmarks/peers.py camvid --data ../shared/data --minutes 60
    python benchmarks/peers.py grocery --data ../shared/data --minutes 10

`bccd` is torchvision's RetinaNet with ResNet-50, `camvid` the FPN of segmentation-models-pytorch
with timm's ResNet-18, `grocery` timm's pvt_v2_b0. Each is the same run as that of its name in
`real_data.py` (`grocery_pvt_v2_b0`), with another model: the same data, image size, crops, batches,
augmentation, optimizer and limits, the same time, the same evaluation. The learning rate falls as a
cosine over the minutes, so that nothing has to be planned.
"""

import argparse
import json
import math
import sys
import time
from abc import ABC, abstractmethod
from datetime import date
from pathlib import Path

import segmentation_models_pytorch as smp
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torchvision.models.detection import retinanet_resnet50_fpn

from ziggurat.bench.detection import TorchvisionDetector, detector_loss
from ziggurat.config.files import load_run
from ziggurat.config.tree import TrainConfig
from ziggurat.engine.budget import describe_machine
from ziggurat.engine.data import RunData, build_data, training_loader, validation_loader
from ziggurat.engine.memory import keep_memory
from ziggurat.engine.module import build_mixing
from ziggurat.engine.optimizer import build_optimizer, scaled_lr
from ziggurat.metrics.base import Report
from ziggurat.types import Batch, ClassScores, Detections, LabelMap, Result, scale_between

TRAINING_SHARE = 0.95
"""Share of the minutes for training; the rest is for the validation."""
SECONDS_BETWEEN_LINES = 20.0


class Peer(ABC):
    """A model of another library, and what its run shares with ours.

    Attributes:
        recipe: Recipe of our run.
        settings: What the data set needs, as in `real_data.py`.
        model: The model.
    """

    name: str
    recipe: str
    settings: tuple[str, ...]
    model: nn.Module

    @abstractmethod
    def build(self, num_classes: int, config: TrainConfig) -> None:
        """Build the model with fresh weights."""

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """Return the model's own loss of a training batch."""

    @abstractmethod
    def predict(self, batch: Batch) -> list[Result]:
        """Return what it says of each image, in pixels of the original."""


class TorchvisionRetinaNet(Peer):
    """torchvision's RetinaNet with ResNet-50 and a feature pyramid."""

    name = "torchvision retinanet_resnet50_fpn"
    recipe = "retinanet_p2t_tiny_from_scratch"
    settings = ("--data.short_side=240", "--data.long_side=320")
    model: TorchvisionDetector

    def build(self, num_classes: int, config: TrainConfig) -> None:
        """Build it; it counts the background as a class."""
        plain = retinanet_resnet50_fpn(
            weights=None, weights_backbone=None, num_classes=num_classes + 1
        )
        self.model = TorchvisionDetector(plain.to(memory_format=torch.channels_last))

    def loss(self, batch: Batch) -> Tensor:
        """Return its focal loss and box loss."""
        targets = [target for target in batch.targets or [] if isinstance(target, Detections)]
        return detector_loss(self.model, batch.images, targets)

    def predict(self, batch: Batch) -> list[Result]:
        """Return detections."""
        results: list[Result] = []
        for found, size, info in zip(
            self.model(batch.images), batch.image_sizes, batch.infos, strict=True
        ):
            x, y = scale_between(size, info.original_size)
            boxes = found["boxes"] / torch.tensor([x, y, x, y])
            results.append(Detections(boxes, found["scores"], found["labels"] - 1))
        return results


class SmpFPN(Peer):
    """The FPN of segmentation-models-pytorch with timm's ResNet-18."""

    name = "segmentation-models-pytorch FPN, tu-resnet18"
    recipe = "topformer_seg_tiny_from_scratch"
    settings = ()

    def build(self, num_classes: int, config: TrainConfig) -> None:
        """Build it."""
        model = smp.FPN("tu-resnet18", encoder_weights=None, classes=num_classes)
        self.model = model.to(memory_format=torch.channels_last)

    def loss(self, batch: Batch) -> Tensor:
        """Return the cross entropy of the labelled pixels."""
        labels = torch.stack([t.labels for t in batch.targets or [] if isinstance(t, LabelMap)])
        return F.cross_entropy(self.model(batch.images), labels.long(), ignore_index=255)

    def predict(self, batch: Batch) -> list[Result]:
        """Return label maps: the logits are resized to the original image."""
        results: list[Result] = []
        for logits, size, info in zip(
            self.model(batch.images), batch.image_sizes, batch.infos, strict=True
        ):
            valid = logits[None, :, : size[0], : size[1]]
            resized = F.interpolate(valid, size=info.original_size, mode="bilinear")
            results.append(LabelMap(resized[0].argmax(dim=0)))
        return results


class TimmPVTv2(Peer):
    """timm's PVTv2-B0."""

    name = "timm pvt_v2_b0"
    recipe = "p2t_tiny_from_scratch"
    settings = ("--trainer.ema_decay=null",)

    def build(self, num_classes: int, config: TrainConfig) -> None:
        """Build it, and what mixes its images as ours are mixed."""
        model = timm.create_model(
            "pvt_v2_b0", num_classes=num_classes, drop_path_rate=config.model.drop_path_rate
        )
        self.model = model.to(memory_format=torch.channels_last)
        self.mixing = build_mixing(config, num_classes)
        self.step = 0

    def loss(self, batch: Batch) -> Tensor:
        """Return the cross entropy of the images, mixed where the run mixes."""
        if self.mixing is not None:
            batch = self.mixing(batch, self.step)
        self.step += 1
        assert isinstance(batch.targets, Tensor)
        return F.cross_entropy(self.model(batch.images), batch.targets)

    def predict(self, batch: Batch) -> list[Result]:
        """Return the probability of each class."""
        return [ClassScores(scores) for scores in self.model(batch.images).softmax(dim=1)]


PEERS: dict[str, type[Peer]] = {
    "bccd": TorchvisionRetinaNet,
    "camvid": SmpFPN,
    "grocery": TimmPVTv2,
}


def main() -> int:
    """Train, evaluate, write the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("task", choices=sorted(PEERS))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--output", type=Path, default=Path("runs/real_data"))
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("overrides", nargs="*", help="--section.field=value, after a --")
    # Overrides stand apart from the other positional argument, behind the options.
    arguments = parser.parse_intermixed_args()
    peer = PEERS[arguments.task]()
    root = arguments.data / arguments.task
    words = [f"--data.root={root}", "--trainer.devices=1", *peer.settings, *arguments.overrides]
    config = load_run(peer.recipe, words)
    if config.trainer.precision == "fp16":
        parser.error("peers are trained on the CPU, in --trainer.precision=32 or bf16")
    keep_memory(config.trainer)
    torch.manual_seed(config.trainer.seed)
    data = build_data(config)
    peer.build(len(data.classes), config)
    begin = time.monotonic()
    steps = train(peer, data, config, 60 * TRAINING_SHARE * arguments.minutes)
    report = evaluate(peer, data, config)
    outcome = {
        "model": peer.name,
        "machine": describe_machine(),
        "date": date.today().isoformat(),
        "seconds": round(time.monotonic() - begin),
        "steps": steps,
        "numbers": {key: round(value, 4) for key, value in report.numbers.items()},
    }
    file = arguments.output / f"peer_{arguments.task}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(outcome, indent=2) + "\n")
    print(f"{report.primary} {report.value:.4f}; wrote {file}")
    return 0


def train(peer: Peer, data: RunData, config: TrainConfig, seconds: float) -> int:
    """Train for so many seconds and return the number of steps."""
    peak = scaled_lr(config.optimizer, config.data.batch_size)
    optimizer = build_optimizer(peer.model, config.optimizer, lr=peak, is_fused=True)
    loader = training_loader(data, config, rank=0, world_size=1)
    is_mixed = config.trainer.precision == "bf16"
    peer.model.train()
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
            with torch.autocast("cpu", torch.bfloat16, enabled=is_mixed):
                loss = peer.loss(batch)
            optimizer.zero_grad()
            loss.backward()
            clip_grad_norm_(peer.model.parameters(), config.trainer.clip_norm or math.inf)
            optimizer.step()
            step += 1
            if now - said >= SECONDS_BETWEEN_LINES:
                said = now
                left = (begin + seconds - now) / 60
                print(
                    f"step {step}: loss {float(loss.detach()):.3f}, {left:.1f} min left",
                    flush=True,
                )
        epoch += 1


@torch.inference_mode()
def evaluate(peer: Peer, data: RunData, config: TrainConfig) -> Report:
    """Predict the validation split and count."""
    peer.model.eval()
    metric = data.new_metric(data.classes)
    for batch in validation_loader(data, config, rank=0, world_size=1):
        metric.update(peer.predict(batch), batch)
    return metric.compute()


if __name__ == "__main__":
    sys.exit(main())
