"""What a run says of its length: steps for other batches, and limits that are never reached."""

from dataclasses import replace

import pytest

from ziggurat.config import TrainerConfig, load_run
from ziggurat.engine.length import (
    as_many_images,
    scale_steps,
    unreached_limit,
    what_was_scaled,
)
from ziggurat.errors import ZigguratError


def test_steps_that_see_as_many_images() -> None:
    config = load_run("mask_rcnn_fpt_resnet50_180k_coco", ["--data.root=/data"])
    assert as_many_images(config, 16) is None
    assert as_many_images(config, 4) == (
        "180000 steps of 4 images see 720000 images; as many as 180000 steps of 16 take "
        "trainer.max_steps 720000, schedule.milestone_steps [480000, 640000], "
        "trainer.val_every_steps 80000, which schedule.scale_steps true sets"
    )


@pytest.mark.parametrize(
    ("images", "steps", "milestones", "validations"),
    [
        (16, 180_000, (120_000, 160_000), 20_000),
        (4, 720_000, (480_000, 640_000), 80_000),
        (12, 240_000, (160_000, 213_333), 26_667),
        (2**20, 3, (2,), 1),
    ],
)
def test_steps_are_scaled_as_in_detectron(
    images: int, steps: int, milestones: tuple[int, ...], validations: int
) -> None:
    words = ["--data.root=/data", "--schedule.scale_steps=true"]
    if len(milestones) == 1:  # both would fall on one step
        words.append("--schedule.milestone_steps=[120000]")
    given = load_run("mask_rcnn_fpt_resnet50_180k_coco", words)
    scaled = scale_steps(given, images)
    assert scaled.trainer == replace(given.trainer, max_steps=steps, val_every_steps=validations)
    assert scaled.schedule == replace(given.schedule, milestone_steps=milestones)
    line = what_was_scaled(given, scaled)
    assert (line is None) == (images == 16)
    if images == 4:
        assert line == (
            "schedule.scale_steps: trainer.max_steps 180000, schedule.milestone_steps "
            "[120000, 160000], trainer.val_every_steps 20000, meant for 16 images a step, become "
            "trainer.max_steps 720000, schedule.milestone_steps [480000, 640000], "
            "trainer.val_every_steps 80000"
        )
        assert as_many_images(scaled, images) is None


@pytest.mark.parametrize(
    ("recipe", "word", "message"),
    [
        (
            "mask_rcnn_fpt_resnet50_180k_coco",
            "--optimizer.reference_batch=null",
            "schedule.scale_steps must be false where optimizer.reference_batch is null",
        ),
        (
            "retinanet_p2t_tiny_1x_coco",
            "--trainer.max_epochs=12",
            "schedule.scale_steps must be false where a run counts in epochs",
        ),
    ],
)
def test_steps_that_cannot_be_scaled(recipe: str, word: str, message: str) -> None:
    config = load_run(recipe, ["--data.root=/data", "--schedule.scale_steps=true", word])
    with pytest.raises(ZigguratError, match=message):
        scale_steps(config, 4)


@pytest.mark.parametrize("word", ["--trainer.max_epochs=9", "--optimizer.reference_batch=null"])
def test_steps_that_say_nothing_of_images(word: str) -> None:
    config = load_run("mask_rcnn_fpt_resnet50_180k_coco", ["--data.root=/data", word])
    assert as_many_images(config, 4) is None


@pytest.mark.parametrize(
    ("epochs", "steps", "given", "line"),
    [
        (12, 90_001, "trainer.max_steps", "steps 90001 is not reached: trainer.max_epochs 12 ends"),
        (12, 90_001, "trainer.max_epochs", None),
        (12, 12_000, "trainer.max_steps", None),
        (12, 12_000, "trainer.max_epochs", None),
        (12, 8_001, "trainer.max_epochs", "epochs 12 is not reached: trainer.max_steps 8001 ends"),
        (12, 8_001, "trainer.max_steps", None),
        (12, None, "trainer.max_epochs", None),
        (None, 8_001, "trainer.max_steps", None),
    ],
)
def test_a_limit_that_is_not_reached(
    epochs: int | None, steps: int | None, given: str, line: str | None
) -> None:
    wanted = TrainerConfig(max_epochs=epochs, max_steps=steps)
    found = unreached_limit(wanted, 1000, ["trainer.seed", given])
    assert (found is None) if line is None else (found is not None and line in found)


def test_the_end_of_a_run_with_two_limits_is_named() -> None:
    found = unreached_limit(TrainerConfig(12, 90_001), 1000, ["trainer.max_steps"])
    assert found is not None
    assert found.endswith("the run after 12000 steps; set trainer.max_epochs null to take all")
    found = unreached_limit(TrainerConfig(12, 8_001), 1000, ["trainer.max_epochs"])
    assert found is not None
    assert found.endswith("ends the run in epoch 9; set trainer.max_steps null to take all")
