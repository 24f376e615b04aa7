"""Tiny models and the names that the official code gives to their weights."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ziggurat import zoo
from ziggurat.models.classifier import Classifier
from ziggurat.models.detector import Detector
from ziggurat.types import ModelIdentity

# The sizes of `p2t_mini`.
DIMS = (8, 12, 16, 24)
DEPTHS = (1, 2, 1, 1)
CHANNELS = 16
DEPTH = 2


@pytest.fixture(autouse=True, scope="module")
def listed_mini(p2t_mini: str) -> str:
    """Let every test here build the small models by their names."""
    return p2t_mini


@pytest.fixture
def classifier() -> Classifier:
    torch.manual_seed(0)
    model = zoo.build(ModelIdentity("classification", "classifier", "p2t_mini", 5))
    assert isinstance(model, Classifier)
    return model


@pytest.fixture
def detector() -> Detector:
    torch.manual_seed(0)
    identity = ModelIdentity("detection", "retinanet", "p2t_mini", 3, "fpn", CHANNELS, DEPTH)
    model = zoo.build(identity)
    assert isinstance(model, Detector)
    return model


def _pair(name: str, *weight: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": weight, f"{name}.bias": weight[:1]}


def _stage_shapes(stage: int) -> dict[str, tuple[int, ...]]:
    """Names of github.com/yuhuan-wu/P2T, whose stages are counted from 1."""
    dim, hidden = DIMS[stage - 1], 2 * DIMS[stage - 1]
    before, kernel = (3, 7) if stage == 1 else (DIMS[stage - 2], 3)
    shapes = _pair(f"patch_embed{stage}.proj", dim, before, kernel, kernel)
    shapes |= _pair(f"patch_embed{stage}.norm", dim)
    for ratio in range(4):
        shapes |= _pair(f"d_convs{stage}.{ratio}", dim, 1, 3, 3)
    for number in range(DEPTHS[stage - 1]):
        block = f"block{stage}.{number}"
        shapes |= _pair(f"{block}.norm1", dim) | _pair(f"{block}.attn.q.0", dim, dim)
        shapes |= _pair(f"{block}.attn.kv.0", 2 * dim, dim) | _pair(f"{block}.attn.norm", dim)
        shapes |= _pair(f"{block}.attn.proj", dim, dim) | _pair(f"{block}.norm2", dim)
        shapes |= _pair(f"{block}.mlp.fc1", hidden, dim, 1, 1)
        shapes |= _pair(f"{block}.mlp.conv", hidden, 1, 3, 3)
        shapes |= _pair(f"{block}.mlp.fc2", dim, hidden, 1, 1)
    return shapes


def _values(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Different random values for every entry."""
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


@pytest.fixture
def imagenet_file() -> dict[str, Tensor]:
    """What the official classification code saves for `classifier`."""
    shapes: dict[str, tuple[int, ...]] = {}
    for stage in (1, 2, 3, 4):
        shapes |= _stage_shapes(stage)
    return _values(shapes | _pair("head", 5, DIMS[-1]))


@pytest.fixture
def detector_file(imagenet_file: dict[str, Tensor]) -> dict[str, Tensor]:
    """What the official detection code saves for `detector`."""
    shapes = {
        f"backbone.{name}": tuple(value.shape)
        for name, value in imagenet_file.items()
        if not name.startswith("head.")
    }
    for level, dim in enumerate(DIMS[1:]):
        shapes |= _pair(f"neck.lateral_convs.{level}.conv", CHANNELS, dim, 1, 1)
    for level, dim in enumerate((CHANNELS, CHANNELS, CHANNELS, DIMS[-1], CHANNELS)):
        shapes |= _pair(f"neck.fpn_convs.{level}.conv", CHANNELS, dim, 3, 3)
    for tower in ("cls_convs", "reg_convs"):
        for number in range(DEPTH):
            shapes |= _pair(f"bbox_head.{tower}.{number}.conv", CHANNELS, CHANNELS, 3, 3)
    shapes |= _pair("bbox_head.retina_cls", 9 * 3, CHANNELS, 3, 3)
    return _values(shapes | _pair("bbox_head.retina_reg", 9 * 4, CHANNELS, 3, 3))


@pytest.fixture
def snapshot() -> Callable[[torch.nn.Module], dict[str, Tensor]]:
    """Copy a model's entries, to see later whether any has changed."""
    return lambda model: {name: value.clone() for name, value in model.state_dict().items()}
