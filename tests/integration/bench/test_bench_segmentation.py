"""Segmenters in the bench: whole steps, and where their time goes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from ziggurat.bench.parts import INJECTION, LABELLING, time_parts
from ziggurat.bench.results import Setting
from ziggurat.bench.work import count_flops, draw_label_maps, make_ready, make_step
from ziggurat.models.semantic_segmenter import SemanticSegmenter
from ziggurat.zoo import create_model

CPU = torch.device("cpu")


@pytest.fixture
def model() -> SemanticSegmenter:
    built = create_model("topformer_seg_tiny", num_classes=5)
    assert isinstance(built, SemanticSegmenter)
    return built


def test_drawn_label_maps_have_the_size_of_the_images() -> None:
    maps = draw_label_maps(torch.empty(2, 3, 70, 100), 5)
    assert [tuple(m.labels.shape) for m in maps] == [(70, 100)] * 2
    assert set(maps[0].labels.unique().tolist()) == set(range(5))
    assert not torch.equal(maps[0].labels, maps[1].labels)


def test_a_step_of_a_segmenter_is_all_of_it(
    model: SemanticSegmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def watched(name: str, own: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: object) -> Any:
            calls.append(name)
            return own(*arguments)

        return call

    for name in ("loss", "decode"):
        monkeypatch.setattr(model, name, watched(name, getattr(model, name)))
    training = Setting("fp32", 2, (64, 96), is_training=True)
    images = make_ready(model, training, CPU, "channels_last")
    flops = count_flops(model, training, images)
    make_step(model, images, training)()
    inference = Setting("fp32", 2, (64, 96))
    images = make_ready(model, inference, CPU, "channels_last")
    assert flops == 3 * count_flops(model, inference, images) > 0
    make_step(model, images, inference)()
    assert calls == ["loss", "decode"]


def test_topformers_injection_is_a_part_of_its_own(model: SemanticSegmenter) -> None:
    autocast = torch.autocast("cpu", enabled=False)
    parts = time_parts(model.eval(), torch.randn(1, 3, 64, 96), 2, autocast)
    assert list(parts) == ["backbone", INJECTION, "head", LABELLING]
    assert min(parts.values()) > 0
