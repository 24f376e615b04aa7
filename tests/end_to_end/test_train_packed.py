"""Runs on packed images: pack, check, train, stop, resume and evaluate from the command line."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ziggurat.checkpoints.native import load_weights
from ziggurat.cli.main import main
from ziggurat.engine.module import TrainingModule

Train = Callable[..., int]


def weights_of(output: Path) -> dict[str, torch.Tensor]:
    return load_weights(output / "last.safetensors").state_dict()


@pytest.mark.parametrize(
    ("kind", "decoder"), [pytest.param("lmdb", "exact", marks=pytest.mark.slow), ("shards", "fast")]
)
def test_a_run_on_packed_images_is_that_on_folders(
    tmp_path: Path,
    train_classifier: Train,
    image_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    decoder: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    packed, folders, parts = (tmp_path / name for name in ("packed", "on_folders", "on_packed"))
    assert main(["data", "pack", str(image_folder), "--format", kind, "-o", str(packed)]) == 0
    sheet = ["--contact_sheet", str(tmp_path / "sheet.png")]
    assert main(["data", "check", str(packed), *sheet]) == 0
    assert train_classifier(folders, f"--data.decoder={decoder}") == 0
    step, calls = TrainingModule.training_step, []

    def stop(self: TrainingModule, *words: object) -> object:
        calls.append(1)
        if len(calls) == 5:  # within the second epoch
            raise KeyboardInterrupt
        return step(self, *words)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", stop)
        words = (f"--data.decoder={decoder}", f"--data.root={packed}")
        assert train_classifier(parts, *words) == 130
    assert main(["train", "--output", str(parts), "--resume"]) == 0
    expected, found = weights_of(folders), weights_of(parts)
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
    assert main(["evaluate", str(parts), "--data.root", str(packed)]) == 0
    assert "val, 4 images" in capsys.readouterr().out
