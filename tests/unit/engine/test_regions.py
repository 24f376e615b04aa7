"""How many regions the second stage of a detector learns from."""

import pytest
import torch

from ziggurat.config import load_run
from ziggurat.engine.model import prepare_model
from ziggurat.engine.regions import limit_regions
from ziggurat.errors import ZigguratError
from ziggurat.heads.cascade_mask_rcnn import CascadeMaskRCNNHead
from ziggurat.heads.faster_rcnn import FasterRCNNHead
from ziggurat.heads.roi_samples import SAMPLES, RegionSampler
from ziggurat.types import Detections
from ziggurat.zoo import Model, create_model

OBJECT = Detections(
    boxes=torch.tensor([[0.0, 0.0, 32.0, 32.0]]), scores=torch.ones(1), labels=torch.tensor([0])
)


def on_meta(name: str) -> Model:
    with torch.device("meta"):
        return create_model(name, backbone="p2t_tiny", head_channels=32)


def samplers(model: Model) -> list[RegionSampler]:
    found: list[RegionSampler] = []
    for part in model.modules():
        if isinstance(part, FasterRCNNHead):
            found.append(part.sampler)
        if isinstance(part, CascadeMaskRCNNHead):
            found += part.samplers
    return found


@pytest.mark.parametrize(
    ("system", "rounds"),
    [("faster_rcnn", 1), ("mask_rcnn", 1), ("keypoint_rcnn", 1), ("cascade_mask_rcnn", 3)],
)
def test_every_second_stage_learns_from_fewer(system: str, rounds: int) -> None:
    model = on_meta(system)
    before = samplers(model)
    assert [sampler.num_samples for sampler in before] == [SAMPLES] * rounds
    limit_regions(model, 64)
    after = samplers(model)
    assert [sampler.num_samples for sampler in after] == [64] * rounds
    assert [sampler.iou for sampler in after] == [sampler.iou for sampler in before]


def test_at_most_a_quarter_of_the_regions_is_on_objects() -> None:
    model = on_meta("faster_rcnn")
    limit_regions(model, 64)
    # 100 regions on the object, 100 on nothing.
    proposals = torch.cat([OBJECT.boxes.repeat(100, 1), OBJECT.boxes.repeat(100, 1) + 500])
    (drawn,) = samplers(model)[0].draw([proposals], [OBJECT], 1)
    assert (drawn.num_foreground, len(drawn.boxes)) == (16, 64)


def test_a_run_says_how_many() -> None:
    config = load_run(
        "mask_rcnn_p2t_tiny_from_scratch",
        ["--data.root=/nowhere", "--model.train_regions=32", "--trainer.use_kernel=false"],
    )
    model = on_meta("mask_rcnn")
    prepare_model(model, config, print)
    assert [sampler.num_samples for sampler in samplers(model)] == [32]


def test_a_model_without_regions() -> None:
    with pytest.raises(ZigguratError, match="null for retinanet_p2t_tiny.*got 64"):
        limit_regions(on_meta("retinanet"), 64)
