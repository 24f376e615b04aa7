"""The model that is examined is the one that trains: prepared, frozen and taught as that."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ziggurat import zoo
from ziggurat.checkpoints.native import save_weights
from ziggurat.doctor import overfit, speed
from ziggurat.doctor.clock import Clock
from ziggurat.doctor.colours import check_colours
from ziggurat.doctor.examine import Check, _run
from ziggurat.doctor.plain import plain_batch
from ziggurat.doctor.speed import check_speed
from ziggurat.doctor.step import compute_losses
from ziggurat.doctor.subject import Subject
from ziggurat.doctor.weights import check_weights
from ziggurat.engine import model as engine_model
from ziggurat.errors import ZigguratError
from ziggurat.necks import fpt
from ziggurat.zoo import Model

Opened = Callable[..., Subject]

UPERNET = ("--model.name=upernet", "--model.backbone=p2t_tiny", "--data.batch_size=1")


@pytest.fixture
def classifier(opened: Opened, tmp_path: Path) -> Path:
    """A weight file for the classes of the scenes, every value moved from where it began."""
    model = zoo.create_model("p2t_tiny", num_classes=len(opened("classification").data.classes))
    model.classes = opened("classification").data.classes
    for value in model.state_dict().values():
        value.add_(0.05 * torch.rand_like(value))
    save_weights(model, tmp_path / "classifier.safetensors")
    return tmp_path / "classifier.safetensors"


def test_a_step_that_computes_blocks_again_keeps_less(opened: Opened) -> None:
    plain, again = (
        speed._step(opened("classification", *words), 2, 64).bytes
        for words in ((), ("--trainer.checkpoint_activations=true",))
    )
    assert again < plain


def test_the_largest_batch_of_a_transformer_of_pyramids_must_fit(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fpt, "available_bytes", lambda _: 2**20)
    monkeypatch.setattr(fpt, "SMALL_ENOUGH", 0)
    subject = opened(
        "detection", "--model.neck=fpt", "--model.backbone=p2t_tiny", "--model.name=retinanet"
    )
    (finding,) = _run(Check("speed", check_speed, 1.0), subject, Clock(60.0))
    assert finding.verdict == "error" and "needs about" in finding.evidence


def test_the_kernel_is_used_where_training_uses_it(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed: list[Model] = []
    monkeypatch.setattr(engine_model, "use_training_kernel", changed.append)
    subject = opened("classification", "--trainer.accelerator=cpu")
    assert changed == [subject.model]
    opened("classification", "--trainer.accelerator=cpu", "--trainer.use_kernel=false")
    assert len(changed) == 1


@pytest.mark.parametrize(
    ("task", "words", "sentence"),
    [
        (
            "classification",
            ("--model.freeze_norms=true",),
            "model.freeze_stages and model.freeze_norms keep parts of the backbone as they are",
        ),
        ("detection", ("--model.train_regions=64",), "model.train_regions must be null for"),
        (
            "detection",
            ("--trainer.strategy=fsdp", "--trainer.devices=2"),
            "trainer.strategy must be auto or ddp with a detector, got 'fsdp'",
        ),
        (
            "segmentation",
            ("--trainer.strategy=fsdp", "--trainer.devices=1"),
            "trainer.strategy must be auto or ddp with a single device, got 'fsdp'",
        ),
    ],
)
def test_what_training_refuses_is_refused(
    task: str, words: tuple[str, ...], sentence: str, opened: Opened
) -> None:
    with pytest.raises(ZigguratError, match=sentence):
        opened(task, *words)


def test_frozen_parts_stay_as_they_are(opened: Opened, classifier: Path) -> None:
    words = (f"--model.weights={classifier}", "--model.freeze_stages=2")
    subject = opened("classification", *words)
    parts = [module for part in subject.frozen for module in part.modules()]
    assert parts
    for check in (check_weights, check_colours):
        check(subject, Clock(60.0))
        assert not any(part.training for part in parts)
        assert subject.model.head.training
    twin = overfit._without_randomness(subject)
    own = {id(module) for module in twin.model.modules()}
    assert all(id(part) in own and not part.training for part in twin.frozen)


def test_memory_is_counted_for_weights_that_learn_and_for_a_part_of_them(
    opened: Opened, classifier: Path
) -> None:
    words = ["--trainer.ema_decay=null", f"--model.backbone_weights={classifier}"]
    whole = opened("classification", *words)
    frozen = opened("classification", *words, "--model.freeze_stages=4")
    count = sum(weight.numel() for weight in whole.model.parameters())
    head = sum(weight.numel() for weight in whole.model.head.parameters())
    assert speed._fixed_bytes(whole) == 4 * 3 * count  # gradients, and AdamW's two
    assert speed._fixed_bytes(frozen) == 4 * 3 * head
    trainer = replace(whole.config.trainer, strategy="fsdp")
    sharded = replace(whole, world_size=4, config=replace(whole.config, trainer=trainer))
    assert speed._fixed_bytes(sharded) == 3 * count
    mean = replace(frozen.config.trainer, ema_decay=0.9)  # it keeps frozen weights as well
    averaged = replace(frozen, config=replace(frozen.config, trainer=mean))
    assert speed._fixed_bytes(averaged) == 4 * (3 * head + count)


def test_a_teacher_is_a_part_of_the_step(opened: Opened, classifier: Path) -> None:
    subject = opened("classification", f"--distillation.teacher={classifier}")
    batch = plain_batch(subject, [0, 1], 64)
    assert compute_losses(subject, batch, "32").keys() == {"classification", "distillation"}
    twin = overfit._without_randomness(subject)  # by heart it learns the labels
    assert compute_losses(twin, batch, "32").keys() == {"classification"}


def test_steps_are_scaled_as_in_training(opened: Opened) -> None:
    words = ("--trainer.max_epochs=null", "--trainer.max_steps=100", "--schedule.scale_steps=true")
    subject = opened("segmentation", *words, "--optimizer.reference_batch=8")
    assert subject.images_per_step == 4
    assert subject.schedule.total_steps == 200


def test_one_image_without_batch_statistics(opened: Opened) -> None:
    subject = opened("segmentation", *UPERNET)
    with pytest.raises(ZigguratError, match="data.batch_size must be at least 2 for upernet"):
        check_speed(subject, Clock(60.0))


def test_one_image_on_each_of_several_devices(opened: Opened) -> None:
    """Their batch norms see more than one, and so does the step that is measured."""
    subject = opened("segmentation", *UPERNET, "--trainer.sync_batch_norm=true")
    memory, *_ = check_speed(replace(subject, world_size=2), Clock(60.0))
    assert memory.check == "memory"
    assert "scaled from 2 images of 96 x 96 pixels" in memory.evidence


@pytest.mark.parametrize(
    ("first", "unlearned", "verdict"),
    [(0.02, 2.0, "ok"), (0.02, 0.0, "error"), (0.8, 2.0, "warning"), (1.9, 2.0, "error")],
)
def test_weights_that_know_the_images_have_little_to_learn(
    first: float, unlearned: float, verdict: str
) -> None:
    """A loss that does not fall is held against that of a model without weights."""
    losses = [first] * overfit.MOST_STEPS
    finding = overfit._judge(losses, unlearned, 10, 96)
    assert finding.verdict == verdict
    assert ("without weights" in finding.evidence) == (unlearned > 0)


def test_the_loss_without_weights_is_that_of_a_new_model(opened: Opened, classifier: Path) -> None:
    subject = opened("classification", f"--model.weights={classifier}")
    batch = plain_batch(subject, [0, 5], 64)
    assert subject.fresh is not None
    fresh = overfit._without_randomness(replace(subject, model=subject.fresh))
    expected = compute_losses(fresh, batch, "32")["classification"].detach()
    assert overfit._loss_without_weights(subject, batch) == pytest.approx(float(expected))
    assert overfit._loss_without_weights(opened("classification"), batch) == 0.0
