"""Sound runs learn ten images by heart, from new weights and from trained ones."""

from collections.abc import Callable
from pathlib import Path

import pytest
from torch.optim import AdamW

from ziggurat.checkpoints.native import save_weights
from ziggurat.doctor import overfit
from ziggurat.doctor.clock import Clock
from ziggurat.doctor.overfit import check_overfit
from ziggurat.doctor.plain import plain_batch, some_indices
from ziggurat.doctor.step import training_step
from ziggurat.doctor.subject import Subject

pytestmark = pytest.mark.slow

Opened = Callable[..., Subject]

# A segmenter of 16 channels has too few for ten label maps.
SEGMENTER = ("--model.name=semantic_fpn", "--model.backbone=pvt_v2_b0", "--model.head_channels=64")


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("classification", ()),
        ("detection", ("--model.head_channels=64",)),
        ("segmentation", SEGMENTER),
    ],
)
def test_from_new_weights(task: str, words: tuple[str, ...], opened: Opened) -> None:
    (finding,) = check_overfit(opened(task, *words), Clock(120.0))
    assert finding.verdict == "ok", finding.evidence


def test_from_weights_that_know_the_images(opened: Opened, tmp_path: Path) -> None:
    """Nothing is left to learn, and nothing is wrong."""
    subject = opened("segmentation")
    batch = plain_batch(subject, some_indices(subject, overfit.NUM_IMAGES), 96)
    optimizer = AdamW(subject.model.parameters(), lr=2e-3)
    for _ in range(150):
        training_step(subject, batch, "32")
        optimizer.step()
    save_weights(subject.model, tmp_path / "known.safetensors")
    again = opened("segmentation", f"--model.weights={tmp_path / 'known.safetensors'}")
    (finding,) = check_overfit(again, Clock(120.0))
    assert finding.verdict == "ok", finding.evidence
    assert "without weights" in finding.evidence
