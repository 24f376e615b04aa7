"""Where a Feature Pyramid Transformer looks, as numbers and as a picture."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ziggurat
from ziggurat.checkpoints.native import save_weights
from ziggurat.cli.main import main
from ziggurat.errors import ZigguratError
from ziggurat.inference.explanation import explain
from ziggurat.inference.predictor import Predictor
from ziggurat.layers.grounding_transformer import EuclideanGrounding
from ziggurat.necks.fpt import find_transformer
from ziggurat.visualize.attention import GAP, TITLE, Panel, draw_attention
from ziggurat.zoo import Model


@pytest.fixture(scope="module", params=["fpt", pytest.param("fpt_paper", marks=pytest.mark.slow)])
def model(request: pytest.FixtureRequest) -> Model:
    torch.manual_seed(0)
    return ziggurat.create_model(
        "semantic_fpn", backbone="pvt_v2_b0", neck=request.param, num_classes=3, head_channels=32
    ).eval()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.effect_noise((90, 60), 60).convert("RGB").save(path)
    return path


def test_weights_are_those_of_the_attention(model: Model) -> None:
    neck = find_transformer(model)
    assert neck is not None
    sizes = [(12, 16), (6, 8), (3, 4), (2, 2)]
    channels = [lateral[0].in_channels for lateral in neck.laterals]  # type: ignore[index]
    features = [torch.randn(1, c, *size) for c, size in zip(channels, sizes, strict=True)]
    with torch.inference_mode():
        looks = neck.looks(features, 0.3, 1.0)
    assert {(look.level, look.other) for look in looks} == {
        (level, other) for level in range(4) for other in range(level, 4)
    }
    for look in looks:
        if look.level == look.other:
            assert look.weights.sum().item() == pytest.approx(1.0, abs=1e-5)
            height, width = sizes[look.level]
            assert look.weights.shape == ((height + 1) // 2, (width + 1) // 2)
        else:
            assert look.weights.shape == sizes[look.other]


def test_a_picture_for_each_image(model: Model, photo: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    save_weights(model, weights)
    command = ["predict", str(weights), str(photo), "-o", str(tmp_path / "out"), "--explain"]
    assert main(command) == 0
    picture = Image.open(tmp_path / "out" / "photo.looks.png").convert("RGB")
    assert picture.width > 4 * 200
    assert main([*command, "0.1", "0.9"]) == 0
    moved = Image.open(tmp_path / "out" / "photo.looks.png").convert("RGB")
    assert moved.tobytes() != picture.tobytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--explain", "0.5"], "two shares, from the left and from the top, got 0.5"),
        (["--explain", "0.5", "1.5"], "two shares from 0 to 1, got 0.5 1.5"),
        (["--explain", "--no_pictures"], "--no_pictures wants none"),
    ],
)
def test_bad_places(
    arguments: list[str],
    message: str,
    model: Model,
    photo: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    weights = tmp_path / "weights.safetensors"
    save_weights(model, weights)
    assert main(["predict", str(weights), str(photo), "-o", str(tmp_path / "out"), *arguments]) != 0
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("out/*"))  # before anything is predicted


@pytest.mark.parametrize(("sign", "colour"), [(1.0, 0), (-1.0, 2)])
def test_what_is_subtracted_is_not_dark(sign: float, colour: int) -> None:
    weights = np.zeros((4, 4), dtype=np.float32)
    weights[:2] = sign
    photo = Image.new("RGB", (260, 260), (100, 100, 100))
    drawn = np.asarray(draw_attention(photo, [Panel(0, 0, weights)], (0.5, 0.9), [8]))
    top, bottom = (drawn[GAP + TITLE + row, GAP + 20].astype(int) for row in (10, 250))
    assert top.min() >= 100 > bottom.max()
    assert top.argmax() == colour


def test_other_necks_have_nothing_to_show(photo: Path) -> None:
    plain = ziggurat.create_model("semantic_fpn", backbone="pvt_v2_b0", head_channels=32)
    with pytest.raises(ZigguratError, match="has no Feature Pyramid Transformer"):
        explain(Predictor(plain), photo)


def test_a_window_far_from_its_pixel_still_has_weights() -> None:
    """The nearest keys lie outside of it, by so much that a softmax over all leaves nothing."""
    torch.manual_seed(0)
    ground = EuclideanGrounding(4, window=3)
    for conv in (ground.q, ground.k):
        torch.nn.init.eye_(conv.weight.flatten(1))
        assert conv.bias is not None
        torch.nn.init.zeros_(conv.bias)
    fine, coarse = torch.zeros(1, 4, 16, 16), torch.full((1, 4, 8, 8), 50.0)
    coarse[..., 7, 7] = 0.0
    weights = ground.attention(fine, coarse, 2, 2)
    assert weights.shape == (1, 8, 8)
    assert weights.sum().item() == pytest.approx(1.0)
    assert weights[0, :3, :3].sum().item() == pytest.approx(1.0)
