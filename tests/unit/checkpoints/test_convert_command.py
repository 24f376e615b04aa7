"""`ziggurat convert` turns official files into weight files, those into timm's, and says so."""

import argparse
import os
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor

import ziggurat
from ziggurat.checkpoints.native import load_weights, save_weights
from ziggurat.checkpoints.pvt_v2 import to_timm
from ziggurat.class_lists import class_list
from ziggurat.cli import convert
from ziggurat.errors import ZigguratError
from ziggurat.models.classifier import Classifier
from ziggurat.preprocessing import FitAligned

Weights = dict[str, Tensor]


def _run(*arguments: object) -> None:
    parser = argparse.ArgumentParser()
    convert.add_arguments(parser)
    convert.run(parser.parse_args([str(argument) for argument in arguments]))


@pytest.fixture
def official(tmp_path: Path, imagenet_file: Weights) -> Path:
    path = tmp_path / "official.pth"
    torch.save({"model": imagenet_file}, path)
    return path


def test_convert_classifier(
    tmp_path: Path,
    official: Path,
    imagenet_file: Weights,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "out" / "mini.safetensors"
    _run(official, "--model", "p2t_mini", "--num_classes", 5, "-o", output)
    model = load_weights(output)
    assert torch.equal(model.state_dict()["head.fc.weight"], imagenet_file["head.weight"])
    assert model.classes == tuple(f"class_{i}" for i in range(5))
    printed = capsys.readouterr().out
    assert f"{len(imagenet_file)} entries loaded" in printed
    assert str(output) in printed


def test_convert_averaged_weights(tmp_path: Path, imagenet_file: Weights) -> None:
    averaged = {name: value + 1 for name, value in imagenet_file.items()}
    torch.save({"model": imagenet_file, "model_ema": averaged}, tmp_path / "official.pth")
    arguments = (tmp_path / "official.pth", "--model", "p2t_mini", "--num_classes", 5, "-o")
    for options, expected in ((), imagenet_file), (("--ema",), averaged):
        _run(*arguments, tmp_path / "mini.safetensors", *options)
        loaded = load_weights(tmp_path / "mini.safetensors").state_dict()
        assert torch.equal(loaded["head.fc.bias"], expected["head.bias"])


def test_convert_for_timm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = ziggurat.create_model("pvt_v2_b0", num_classes=3).eval()
    save_weights(model, tmp_path / "ours.safetensors")
    output = tmp_path / "theirs.safetensors"
    _run(tmp_path / "ours.safetensors", "--to", "timm", "-o", output)
    printed = capsys.readouterr().out
    assert f"{len(model.state_dict())} entries" in printed
    assert f"timm.create_model('pvt_v2_b0', num_classes=3, checkpoint_path={str(output)!r})" in (
        printed
    )
    other = timm.create_model("pvt_v2_b0", num_classes=3, checkpoint_path=str(output)).eval()
    images = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        torch.testing.assert_close(model(images), other(images), rtol=1e-5, atol=1e-5)


def test_timm_does_not_have_every_model(tmp_path: Path, classifier: Classifier) -> None:
    save_weights(classifier, tmp_path / "ours.safetensors")
    with pytest.raises(ZigguratError, match=r"P2T.*only PVT v2"):
        _run(tmp_path / "ours.safetensors", "--to", "timm", "-o", tmp_path / "theirs.safetensors")
    assert not (tmp_path / "theirs.safetensors").exists()


def test_convert_detector_with_names(
    tmp_path: Path, detector_file: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ziggurat.zoo.models.HEAD_CHANNELS", 16)
    monkeypatch.setattr("ziggurat.zoo.models.HEAD_DEPTH", 2)
    torch.save({"state_dict": detector_file, "meta": {}}, tmp_path / "official.pth")
    (tmp_path / "names.txt").write_text("red cell\nwhite cell\nplatelet\n")
    output = tmp_path / "mini.safetensors"
    _run(
        tmp_path / "official.pth",
        *("--model", "retinanet_p2t_mini"),
        *("--classes", tmp_path / "names.txt", "-o", output),
    )
    assert load_weights(output).classes == ("red cell", "white cell", "platelet")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "p2t_minni", "-o", "a.safetensors"], "did you mean 'p2t_mini'"),
        (["--model", "p2t_mini", "-o", "a.safetensors"], r"is \(5, 24\), expected \(1000, 24\)"),
        (["--model", "retinanet_p2t_mini", "-o", "a.safetensors"], "ImageNet file"),
        (["--model", "p2t_mini", "--num_classes", "5", "-o", "a.pth"], r"saved as \.safetensors"),
        (["--model", "p2t_mini", "--num_classes", "0", "-o", "a.safetensors"], "num_classes"),
        (["--model", "p2t_mini", "-o", "official.pth"], "is the file to convert itself"),
        (["-o", "a.safetensors"], "does not say which model it is of; name it with --model"),
        (
            ["--model", "p2t_mini", "--num_classes", "5", "--ema", "-o", "a.safetensors"],
            "has no averaged weights",
        ),
        (["--to", "timm", "-o", "a.safetensors"], "is not a weight file of ziggurat"),
        (
            ["--to", "timm", "--model", "p2t_mini", "--ema", "-o", "a.safetensors"],
            "--model, --ema describe an official file",
        ),
        (["--model", "p2t_mini", "--classes", "no.txt", "-o", "a.safetensors"], "cannot read"),
        (["--model", "p2t_mini", "--classes", "gap.txt", "-o", "a.safetensors"], "empty line"),
        (
            ["--model", "p2t_mini", "--classes", "two.txt", "--num_classes=5", "-oa.safetensors"],
            "has 2 names, expected 5",
        ),
    ],
)
def test_bad_arguments(
    tmp_path: Path,
    official: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("gap.txt").write_text("a\n\nb\n")
    Path("two.txt").write_text("a\nb\n")
    files = sorted(os.listdir())
    before = official.read_bytes()
    with pytest.raises(ZigguratError, match=message):
        _run("official.pth", *arguments)
    assert sorted(os.listdir()) == files
    assert official.read_bytes() == before


def test_a_malicious_file_runs_nothing_and_leaves_no_output(tmp_path: Path) -> None:
    marker = tmp_path / "it_ran"

    class Command:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {marker}",)

    torch.save({"state_dict": Command()}, tmp_path / "evil.pth")
    output = tmp_path / "a.safetensors"
    with pytest.raises(ZigguratError, match="refused and nothing in it was run"):
        _run(tmp_path / "evil.pth", "--model", "p2t_mini", "-o", output)
    assert not marker.exists()
    assert not output.exists()


def test_names_of_a_known_list(tmp_path: Path) -> None:
    model = ziggurat.create_model("pvt_v2_b0", num_classes=11)
    torch.save(to_timm(model), tmp_path / "official.pth")
    output = tmp_path / "ours.safetensors"
    _run(tmp_path / "official.pth", "--model", "pvt_v2_b0", "--classes", "camvid", "-o", output)
    assert load_weights(output).classes == class_list("camvid").classes


def test_the_size_that_a_model_was_trained_for() -> None:
    model = ziggurat.create_model("topformer_seg_tiny")
    convert._set_sides(model, 448, None)
    assert model.preprocessing == FitAligned(short_side=448, long_side=2048)
    convert._set_sides(model, 520, 520)
    assert model.preprocessing == FitAligned(short_side=520, long_side=520)


@pytest.mark.parametrize(("short", "long"), [(0, None), (9, 8), (None, 511)])
def test_sizes_that_are_none(short: int | None, long: int | None) -> None:
    model = ziggurat.create_model("topformer_seg_tiny")
    with pytest.raises(ZigguratError, match="at least 1 pixel and at most the long one, got"):
        convert._set_sides(model, short, long)


def test_a_classifier_has_no_sides(tmp_path: Path, official: Path) -> None:
    output = tmp_path / "ours.safetensors"
    words = (official, "--model", "p2t_mini", "--num_classes", 5, "-o", output, "--short_side", 9)
    with pytest.raises(ZigguratError, match="p2t_mini is a classifier; leave them out"):
        _run(*words)
    assert not output.exists()


def test_a_file_of_ziggurat_needs_no_conversion(tmp_path: Path, classifier: Classifier) -> None:
    save_weights(classifier, tmp_path / "ours.safetensors")
    with pytest.raises(ZigguratError, match="is a weight file of ziggurat already"):
        _run(tmp_path / "ours.safetensors", "--model", "p2t_mini", "-o", tmp_path / "a.safetensors")
    with pytest.raises(ZigguratError, match="is a weight file of ziggurat already"):
        _run(tmp_path / "ours.safetensors", "-o", tmp_path / "a.safetensors")
    assert not (tmp_path / "a.safetensors").exists()


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ZigguratError, match=r"there is no file .*absent.pth"):
        _run(tmp_path / "absent.pth", "-o", tmp_path / "a.safetensors")


def test_convert_a_file_of_the_catalogue(
    tmp_path: Path, official: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ziggurat.pretrained.fetch", lambda file, **_: official)
    output = tmp_path / "mini.safetensors"
    _run("pvt_tiny.pth", "--model", "p2t_mini", "--num_classes", 5, "-o", output)
    assert output.exists()
