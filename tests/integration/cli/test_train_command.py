"""What `ziggurat train` says before a run begins."""

from typing import Any

import pytest

import ziggurat
from ziggurat.cli.main import main


@pytest.mark.parametrize(
    ("words", "is_said"),
    [
        (["retinanet_pvt_v2_b2_1x_coco"], True),
        (["retinanet_pvt_v2_b2_1x_coco", "--model.backbone_weights", "pvt_v2_b2.pth"], False),
        (["retinanet_pvt_v2_b2_1x_coco", "--model.weights", "mine.safetensors"], False),
        (["retinanet_pvt_v2_b2_1x_coco", "--resume", "auto"], False),
        (["retinanet_p2t_tiny_from_scratch"], False),
        (["pvt_v2_b2_300e_imagenet"], False),
    ],
)
def test_a_recipe_without_its_weights_is_named(
    words: list[str],
    is_said: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    begun: list[Any] = []
    monkeypatch.setattr(ziggurat, "train", lambda *run, **_: begun.append(run), raising=False)
    assert main(["train", *words, "--data.root", "coco"]) == 0
    assert len(begun) == 1
    printed = capsys.readouterr().out
    assert ("add --model.backbone_weights pvt_v2_b2.pth" in printed) == is_said
