"""Every family becomes one graph, trains with less memory, and runs in half precision.

Tested on the first backbone listed of each family, which should be its smallest.
"""

import copy

import pytest
import torch
from torch import Tensor
from torch.export import Dim

import ziggurat
from ziggurat.zoo import BACKBONES, TRUNKS

SMALLEST = list({BACKBONES[name].__module__: name for name in reversed(BACKBONES)}.values())
SMALLEST_TRUNKS = [name for name in SMALLEST if name in TRUNKS]


def worst_difference(ours: list[Tensor], expected: list[Tensor]) -> float:
    pairs = zip(ours, expected, strict=True)
    return max(((a - b).norm() / b.norm()).item() for a, b in pairs)


@pytest.mark.parametrize("name", SMALLEST)
def test_checkpointing_changes_no_gradient_and_no_statistics(name: str) -> None:
    backbone = ziggurat.create_backbone(name).train()
    before = copy.deepcopy(backbone.state_dict())
    images = torch.randn(2, 3, 64, 64)
    gradients, statistics = [], []
    for enable in (False, True):
        backbone.load_state_dict(before)
        backbone.zero_grad()
        backbone.set_grad_checkpointing(enable)
        torch.stack([features.square().mean() for features in backbone(images)]).sum().backward()
        gradients.append([p.grad for p in backbone.parameters() if p.grad is not None])
        statistics.append([buffer.clone() for buffer in backbone.buffers()])
    assert gradients[0]
    assert all(map(torch.equal, *gradients))
    assert all(map(torch.equal, *statistics))


@pytest.mark.parametrize("name", SMALLEST)
def test_half_precision_stays_near(name: str) -> None:
    backbone = ziggurat.create_backbone(name).eval()
    images = torch.randn(1, 3, 96, 96)
    with torch.inference_mode():
        expected = backbone(images)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = [features.float() for features in backbone(images)]
    # bfloat16 has 8 bits, 0.4 % a rounding, and hundreds of them follow one another: up to 0.11
    # with fresh weights. What is computed wrongly differs by about 1.
    assert worst_difference(half, expected) < 0.2


@pytest.mark.parametrize("name", SMALLEST_TRUNKS)
def test_token_views_are_free(name: str) -> None:
    backbone = ziggurat.create_backbone(name)
    with torch.inference_mode():
        for features in backbone(torch.randn(2, 3, 64, 64)):
            assert features.flatten(2).mT.data_ptr() == features.data_ptr()
            assert features.flatten(2).mT.is_contiguous()


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
# The adapter compiles too, but not through the hook that checks shapes in these tests.
@pytest.mark.parametrize("name", [name for name in SMALLEST if name != "gpvit_l1_adapter"])
def test_backbone_compiles_to_one_graph(name: str) -> None:
    backbone = ziggurat.create_backbone(name).eval()
    compiled = torch.compile(backbone, fullgraph=True, backend="eager", dynamic=True)
    with torch.inference_mode():
        for size in ((96, 128), (160, 96)):
            images = torch.randn(1, 3, *size)
            assert worst_difference(compiled(images), backbone(images)) < 1e-5


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "name",
    ["topformer_seg_tiny", "semantic_fpn_p2t_tiny", "segformer_gpvit_l1", "upernet_gpvit_l1"],
)
def test_a_segmenter_compiles_to_one_graph(name: str) -> None:
    model = ziggurat.create_model(name, num_classes=3).eval()
    compiled = torch.compile(model, fullgraph=True, backend="eager", dynamic=True)
    with torch.inference_mode():
        for size in ((96, 128), (160, 96)):
            images = torch.randn(1, 3, *size)
            torch.testing.assert_close(compiled(images), model(images), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", [*SMALLEST_TRUNKS, "pvt_v2_b2_li"])
def test_classifier_exports_with_sizes_left_open(name: str) -> None:
    """As docs/export.md says: made with two images, run with one and with many."""
    classify = ziggurat.create_model(name, num_classes=3).eval()
    sizes = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    with torch.no_grad():
        program = torch.export.export(
            classify, (torch.randn(2, 3, 224, 256),), dynamic_shapes={"images": sizes}
        )
        for shape in ((1, 3, 256, 320), (2, 3, 448, 192), (3, 3, 256, 320)):
            images = torch.randn(*shape)
            assert worst_difference([program.module()(images)], [classify(images)]) < 1e-5
