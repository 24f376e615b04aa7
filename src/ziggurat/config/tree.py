"""A run as one tree: model, data, optimizer, schedule, trainer.

The runs of the tasks differ in their data only. Every field has its meaning and
unit below it, which is also what `ziggurat train --help` prints, and is checked when it is set.
"""

from dataclasses import dataclass, field
from typing import Literal, get_args

from ziggurat.config.checks import require, require_counts, require_positive
from ziggurat.config.data import ClassificationData, DetectionData, SegmentationData
from ziggurat.config.distillation import DistillationConfig
from ziggurat.config.loss import LossConfig
from ziggurat.config.optimizer import OptimizerConfig
from ziggurat.config.schedule import ScheduleConfig


@dataclass(frozen=True)
class ModelConfig:
    """Which model is trained, and from which weights it starts."""

    name: str
    """Name of the model (see `ziggurat list`), or of a system for model.backbone."""
    backbone: str | None = None
    """Backbone where model.name is a system (mask_rcnn); null for a model that has its own."""
    neck: str | None = None
    """Neck of a detector or segmenter; null for the published one."""
    num_classes: int | None = None
    """Number of classes; null takes it from the data."""
    head_channels: int | None = None
    """Width of a detector's or segmenter's neck and head; null for the published one."""
    head_depth: int | None = None
    """Convolutions of each tower of a detector's head; null for the published one."""
    auxiliary_head: bool | None = None
    """Whether a segmenter has a head on a map of its backbone that helps it in training alone (see
    loss.auxiliary); null as published: UPerNet with one, the others without."""
    drop_path_rate: float | None = None
    """Stochastic depth of the last block; null for the published one."""
    key_budget: int | None = None
    """Most keys that a pixel of a neck fpt or fpt_paper reads in a softmax; null for all."""
    self_levels: int | None = None
    """How many of the coarsest maps look at themselves in such a neck; null for all."""
    grounding_window: int | None = None
    """Side of the square that such a neck's grounding reads, odd; null as published."""
    drop_block: float = 0.0
    """Share of what such a neck found that training sets to 0, in squares of 3 pixels."""
    freeze_stages: int | None = None
    """Stages of the backbone that do not learn, from the input on; null lets all learn."""
    freeze_norms: bool = False
    """Whether the batch norms of the backbone stay as they are, for few images a step."""
    train_regions: int | None = None
    """Regions of an image that the second stage of a detector learns from; null for 512."""
    weights: str | None = None
    """Weights the whole model starts from: a file, ours or an official one, true for the published
    ones, a name of `ziggurat list --weights`, or hf:USER/NAME; null starts anew."""
    backbone_weights: str | None = None
    """Weights the backbone starts from, given likewise; any file of ours; null starts anew."""
    use_ema: bool = False
    """Whether to take the weights that were averaged over a training, where a file has both."""
    reset_classes: bool = False
    """Whether model.weights may be of other classes: those of the same name are carried over, from
    a file of ours or an official one, and the others begin anew, instead of being refused."""

    def __post_init__(self) -> None:
        counts = {"head_channels": self.head_channels, "key_budget": self.key_budget}
        require_counts("model", 1, num_classes=self.num_classes, **counts)
        require_counts("model", 0, head_depth=self.head_depth, self_levels=self.self_levels)
        require_counts("model", 1, grounding_window=self.grounding_window)
        require_counts("model", 1, freeze_stages=self.freeze_stages)
        # At most a quarter of them is on objects, and that must not be none.
        require_counts("model", 4, train_regions=self.train_regions)
        rate = self.drop_path_rate
        require(rate is None or 0 <= rate < 1, "model.drop_path_rate", rate, "at least 0, below 1")
        rate = self.drop_block
        require(0 <= rate < 1, "model.drop_block", rate, "at least 0, below 1")
        for name in ("weights", "backbone_weights"):
            source = getattr(self, name)
            expected = "a file, a name, true, or null to start anew"
            require(source != "false", f"model.{name}", source, expected)
        require(
            self.weights is None or self.backbone_weights is None,
            "model.backbone_weights",
            self.backbone_weights,
            "null where model.weights is given, which holds the backbone too",
        )
        require(
            not self.use_ema or self.weights is not None or self.backbone_weights is not None,
            "model.use_ema",
            self.use_ema,
            "false where no weights are given",
        )
        require(
            not self.reset_classes or self.weights is not None,
            "model.reset_classes",
            self.reset_classes,
            "false where no model.weights are given",
        )


@dataclass(frozen=True)
class TrainerConfig:
    """How long, on what and how exactly the run computes."""

    max_epochs: int | None = 12
    """Passes over the training data; null for as many as trainer.max_steps takes."""
    max_steps: int | None = None
    """Optimizer steps that end the run, and with it a cosine; milestones stay where they are."""
    max_minutes: float | None = None
    """Minutes after which the run is stopped; the schedule follows with schedule.follow_clock."""
    precision: Literal["32", "tf32", "bf16", "fp16"] = "32"
    """Numbers in forward and backward; tf32 is float32 but for products, on NVIDIA's GPUs since
    Ampere, bf16 and fp16 are mixed precision."""
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Kind of device; auto takes the fastest there is."""
    devices: int | None = None
    """Devices per node; null takes all, on a CPU one, under torchrun as many as it started."""
    nodes: int = 1
    """Machines; under torchrun 1 takes as many as it started."""
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    """How several devices share a run: each with the whole model (ddp, which auto takes), or with
    a part of weights, gradients and optimizer (fsdp: classifiers and segmenters)."""
    accumulate: int = 1
    """Batches whose gradients are added up to one optimizer step."""
    checkpoint_activations: bool = False
    """Whether blocks are computed again for their gradients, slower and in far less memory."""
    compile: bool = False
    """Whether the forward pass of training is compiled, slow to begin and faster then."""
    use_kernel: bool = True
    """Whether feed-forward blocks learn through a kernel that is built for this processor: on the
    CPU, without compile and fsdp."""
    keep_memory: bool = True
    """Whether memory that a step has freed stays with the process for the next one: on the CPU,
    where the C library is glibc."""
    clip_norm: float | None = None
    """Largest norm of all gradients together; null for no limit."""
    sync_batch_norm: bool = False
    """Whether batch norms take the images of all devices together; only GPUs can."""
    ema_decay: float | None = None
    """Decay of a running mean of the weights, which is then validated and kept; null for none."""
    val_every_epochs: int = 1
    """Epochs between validations; the end is always validated."""
    val_every_steps: int | None = None
    """Optimizer steps between validations, in place of val_every_epochs; null for the latter."""
    save_every_minutes: float = 10.0
    """Minutes between checkpoints within an epoch; the end of an epoch is always kept."""
    keep_checkpoints: int = 2
    """Checkpoints kept; the older ones are there should the newest be damaged."""
    seed: int = 0
    """Seed of initial weights, order of images, augmentation and dropout."""
    log_every_steps: int = 50
    """Optimizer steps between entries of metrics.csv and TensorBoard."""

    def __post_init__(self) -> None:
        require_counts(
            "trainer",
            1,
            max_epochs=self.max_epochs,
            max_steps=self.max_steps,
            devices=self.devices,
            nodes=self.nodes,
            accumulate=self.accumulate,
            val_every_epochs=self.val_every_epochs,
            val_every_steps=self.val_every_steps,
            keep_checkpoints=self.keep_checkpoints,
            log_every_steps=self.log_every_steps,
        )
        require_counts("trainer", 0, seed=self.seed)
        require_positive(
            "trainer",
            max_minutes=self.max_minutes,
            clip_norm=self.clip_norm,
            save_every_minutes=self.save_every_minutes,
        )
        require(
            self.max_epochs is not None or self.max_steps is not None,
            "trainer.max_steps",
            self.max_steps,
            "given where trainer.max_epochs is null",
        )
        require(
            self.val_every_steps is None or self.val_every_epochs == 1,
            "trainer.val_every_epochs",
            self.val_every_epochs,
            f"1 or left out where trainer.val_every_steps = {self.val_every_steps} is given",
        )
        decay = self.ema_decay
        require(decay is None or 0 < decay < 1, "trainer.ema_decay", decay, "above 0 and below 1")
        require(
            self.precision != "fp16" or self.accelerator != "cpu",
            "trainer.precision",
            self.precision,
            "32 or bf16 on a CPU",
        )
        require(
            self.precision != "tf32" or self.accelerator in ("auto", "cuda"),
            "trainer.precision",
            self.precision,
            f"32 or bf16 where trainer.accelerator is {self.accelerator}",
        )

    def total_steps(self, steps_per_epoch: int) -> int:
        """Return the optimizer steps of the whole run.

        Args:
            steps_per_epoch: Optimizer steps of a pass over the data.
        """
        limits = [] if self.max_steps is None else [self.max_steps]
        if self.max_epochs is not None:
            limits.append(self.max_epochs * steps_per_epoch)
        return min(limits)


@dataclass(frozen=True)
class ClassificationRun:
    """Training of an image classifier."""

    model: ModelConfig
    data: ClassificationData
    optimizer: OptimizerConfig
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    task: Literal["classification"] = "classification"
    """What the model does."""

    def __post_init__(self) -> None:
        _require_time(self.schedule, self.trainer)


@dataclass(frozen=True)
class DetectionRun:
    """Training of an object detector."""

    model: ModelConfig
    data: DetectionData
    optimizer: OptimizerConfig
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    task: Literal["detection"] = "detection"
    """What the model does."""

    def __post_init__(self) -> None:
        _require_one_size(self.trainer)
        _require_time(self.schedule, self.trainer)


@dataclass(frozen=True)
class InstanceSegmentationRun:
    """Training of a detector that also finds the pixels of each object."""

    model: ModelConfig
    data: DetectionData
    optimizer: OptimizerConfig
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    task: Literal["instance_segmentation"] = "instance_segmentation"
    """What the model does."""

    def __post_init__(self) -> None:
        _require_one_size(self.trainer)
        _require_time(self.schedule, self.trainer)


@dataclass(frozen=True)
class KeypointDetectionRun:
    """Training of a detector that also finds the keypoints of each object."""

    model: ModelConfig
    data: DetectionData
    optimizer: OptimizerConfig
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    task: Literal["keypoint_detection"] = "keypoint_detection"
    """What the model does."""

    def __post_init__(self) -> None:
        _require_one_size(self.trainer)
        _require_time(self.schedule, self.trainer)


@dataclass(frozen=True)
class SemanticSegmentationRun:
    """Training of a model that finds the class of every pixel."""

    model: ModelConfig
    data: SegmentationData
    optimizer: OptimizerConfig
    loss: LossConfig = field(default_factory=LossConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    task: Literal["semantic_segmentation"] = "semantic_segmentation"
    """What the model does."""

    def __post_init__(self) -> None:
        _require_time(self.schedule, self.trainer)


def _require_one_size(trainer: TrainerConfig) -> None:
    # Every batch of a detector has another size, for each of which there would be a compilation.
    require(
        not trainer.compile,
        "trainer.compile",
        trainer.compile,
        "false in runs whose images differ in size from batch to batch",
    )


def _require_time(schedule: ScheduleConfig, trainer: TrainerConfig) -> None:
    require(
        not schedule.follow_clock or trainer.max_minutes is not None,
        "schedule.follow_clock",
        schedule.follow_clock,
        "false where trainer.max_minutes is null: there is no time to keep up with",
    )


DetectorRun = DetectionRun | InstanceSegmentationRun | KeypointDetectionRun
TrainConfig = ClassificationRun | DetectorRun | SemanticSegmentationRun

RUNS: dict[str, type[ClassificationRun] | type[DetectorRun] | type[SemanticSegmentationRun]] = {
    run.task: run for run in get_args(TrainConfig)
}
