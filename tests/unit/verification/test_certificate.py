"""A certificate says what a file is, and refuses what it is not."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import ziggurat
from ziggurat.cli.main import main
from ziggurat.cli.verify import to_text
from ziggurat.data.synthesize import synthesize
from ziggurat.errors import ZigguratError
from ziggurat.verification import certificate as certificate_module
from ziggurat.verification.certificate import (
    VALIDATION_IMAGES,
    Certificate,
    GoldenCheck,
    Measurement,
    certify,
)
from ziggurat.verification.golden import (
    GoldenValues,
    golden_entry,
    golden_error,
    golden_images,
    is_golden,
)
from ziggurat.weights.catalogue import FILES


@pytest.fixture(autouse=True, scope="module")
def listed_mini(p2t_mini: str) -> str:
    return p2t_mini


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mini.safetensors"
    ziggurat.save_weights(ziggurat.create_model("p2t_mini"), path)
    return path


@pytest.fixture
def certificate(file: Path) -> Certificate:
    return certify("p2t_mini", file)


def test_certificate_of_a_whole_file(certificate: Certificate, file: Path) -> None:
    assert certificate.size == file.stat().st_size
    assert certificate.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert certificate.report.is_complete
    assert certificate.golden is None
    assert certificate.measured is None
    assert certificate.faults == []
    assert certify("p2t_mini", file).fingerprint == certificate.fingerprint


def test_other_weights_have_another_fingerprint(certificate: Certificate, tmp_path: Path) -> None:
    torch.manual_seed(1)
    other = tmp_path / "other.safetensors"
    ziggurat.save_weights(ziggurat.create_model("p2t_mini"), other)
    assert certify("p2t_mini", other).fingerprint != certificate.fingerprint


def test_detectors_have_a_fingerprint_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "detector.safetensors"
    model = ziggurat.create_model("retinanet_p2t_mini", head_channels=8, head_depth=1).eval()
    ziggurat.save_weights(model, path)
    monkeypatch.setattr(certificate_module, "_build", lambda name: model)
    assert certify("retinanet_p2t_mini", path).fingerprint.std > 0


def test_a_published_hash_is_compared(
    certificate: Certificate, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = replace(FILES["p2t_tiny.pth"], name=file.name, model="p2t_mini")
    assert certificate.has_published_hash is None
    for prefix, verdict in ((certificate.sha256[:8], True), ("0badf11e", False)):
        monkeypatch.setitem(FILES, file.name, replace(entry, sha256_prefix=prefix))
        found = certify("p2t_mini", file)
        assert found.catalogue is not None
        assert found.has_published_hash is verdict
        assert (found.faults == []) is verdict


def measured(num_images: int, top1: float) -> Measurement:
    return Measurement("ImageNet", num_images, {"top1": top1}, {"top1": 75.1})


@pytest.mark.parametrize(
    ("measurement", "is_comparable", "fits"),
    [
        (measured(VALIDATION_IMAGES["top1"], 75.2), True, True),
        (measured(VALIDATION_IMAGES["top1"], 74.8), True, False),
        (measured(100, 10.0), False, True),
        (Measurement("ImageNet", 50_000, {"top1": 10.0}, {}), False, True),
    ],
)
def test_accuracy_counts_on_the_published_data_only(
    measurement: Measurement, is_comparable: bool, fits: bool, certificate: Certificate
) -> None:
    assert measurement.is_comparable is is_comparable
    assert measurement.fits is fits
    faults = replace(certificate, measured=measurement).faults
    assert faults == ([] if fits else ["its accuracy is not within 0.2 points of the published"])


def test_golden_differences_are_faults(certificate: Certificate) -> None:
    assert replace(certificate, golden=GoldenCheck("case", 1e-6)).faults == []
    faults = replace(certificate, golden=GoldenCheck("case", 1e-3)).faults
    assert "differ from the official ones by 1.0e-03" in faults[0]


def test_golden_entries_are_recognised() -> None:
    weights = {name: golden_entry(name, shape) for name, shape in (("a.bias", (3,)), ("b", (2, 2)))}
    assert is_golden(weights)
    assert not is_golden(weights | {"a.bias": torch.zeros(3)})


@pytest.mark.parametrize(
    ("name", "shape", "check"),
    [
        ("n.num_batches_tracked", (), lambda v: v.dtype == torch.int64 and v == 0),
        ("n.running_var", (50,), lambda v: v.min() >= 1),
        ("n.running_mean", (50,), lambda v: v.abs().max() < 0.3),
        ("n.weight", (50,), lambda v: 0.9 < v.mean() < 1.1),
        ("n.bias", (50,), lambda v: v.abs().mean() < 0.1),
        ("scale", (), lambda v: v == torch.tensor(0.1)),
        ("pos_embed", (1, 50, 4), lambda v: 0.01 < v.std() < 0.03),
        ("conv.weight", (8, 100), lambda v: 0.08 < v.std() < 0.12),
    ],
)
def test_golden_formula(name: str, shape: tuple[int, ...], check: object) -> None:
    assert callable(check)
    value = golden_entry(name, shape)
    assert value.shape == shape
    assert check(value)


def test_golden_error_is_a_relative_distance() -> None:
    model = ziggurat.create_model("p2t_mini", num_classes=4).eval()
    shape = (1, 3, 32, 32)
    with torch.inference_mode():
        logits = model(golden_images(shape)).reshape(-1)[::2]
    same = GoldenValues("", shape, 2, tuple(logits.tolist()))
    assert golden_error(model, same) < 1e-6
    doubled = GoldenValues("", shape, 2, tuple((2 * logits).tolist()))
    assert golden_error(model, doubled) == pytest.approx(0.5, abs=1e-5)


def test_wrong_requests_are_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZigguratError, match="unknown model 'p2t_mni'"):
        certify("p2t_mni", file)
    backbone = ziggurat.create_backbone("p2t_mini")
    monkeypatch.setattr(certificate_module, "_build", lambda name: backbone)
    with pytest.raises(ZigguratError, match="holds a whole model of ziggurat, expected the offic"):
        certify("p2t_mini", file)
    monkeypatch.setattr(certificate_module, "_load", lambda model, file, use_ema: None)
    with pytest.raises(ZigguratError, match="a backbone has no accuracy to measure"):
        certify("p2t_mini", file, data_root=file.parent)


def test_command_prints_text_and_json(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "p2t_mini", str(file)]) == 0
    text = capsys.readouterr().out
    assert "entries loaded" in text
    assert "verdict      fits" in text
    assert main(["verify", "p2t_mini", str(file), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["faults"] == []
    assert content["matched"] > 50
    assert content["golden"] is None


def test_command_takes_a_name_of_the_catalogue(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(FILES, "listed.pth", FILES["p2t_tiny.pth"])
    monkeypatch.setattr("ziggurat.pretrained.fetch", lambda *_, path=file, **__: path)
    assert main(["verify", "p2t_mini", "listed.pth"]) == 0
    assert str(file) in capsys.readouterr().out


def test_command_takes_averaged_weights(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = {name: torch.zeros(2) for name in ("a", "b")}
    torch.save({"state_dict_ema": entries}, tmp_path / "averaged.pth")
    averaged = str(tmp_path / "averaged.pth")
    assert main(["verify", "p2t_mini", averaged]) == 1
    assert "holds averaged weights only" in capsys.readouterr().err
    assert main(["verify", "p2t_mini", averaged, "--ema"]) == 1
    assert "does not fit p2t_mini: 2 of its entries are unknown" in capsys.readouterr().err
    assert main(["verify", "p2t_mini", str(file), "--ema"]) == 1
    assert "holds weights once; leave --ema out" in capsys.readouterr().err


def test_golden_files_without_official_values(
    certificate: Certificate, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "golden       " not in to_text(certificate)
    monkeypatch.setattr(certificate_module, "is_native", lambda file: False)
    monkeypatch.setattr(certificate_module, "_load", lambda *_: certificate.report)
    monkeypatch.setattr(certificate_module, "is_golden", lambda weights: True)
    found = certify("p2t_mini", file)
    assert (found.is_golden, found.golden) == (True, None)
    assert "no values of the official code are kept for this model" in to_text(found)


def test_command_measures_on_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    synthesize(tmp_path / "data", num_images=10, size=(64, 64), seed=0, val_fraction=0.5)
    root = tmp_path / "data" / "classification"
    classes = tuple(sorted(path.name for path in (root / "val").iterdir()))
    model = ziggurat.create_model("p2t_mini", num_classes=len(classes))
    file = tmp_path / "mini.safetensors"
    ziggurat.save_weights(model, file)
    monkeypatch.setattr(certificate_module, "_build", lambda name: model)
    assert main(["verify", "p2t_mini", str(file), "--data", str(root)]) == 0
    text = capsys.readouterr().out
    assert "not the published validation set: numbers are not compared" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["p2t_mini", "nowhere.pth"], "there is no file nowhere.pth"),
        (["p2t_tiny", "FILE"], "does not fit p2t_tiny"),
        (["p2t_mini", "FILE", "--data", "nowhere"], "nowhere does not exist; check --data\n"),
        (["p2t_mini", "FILE", "--split", "test"], "--split test names a part of the data"),
    ],
)
def test_command_fails_on_what_does_not_fit(
    words: list[str], message: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", *(str(file) if word == "FILE" else word for word in words)]) == 1
    assert message in capsys.readouterr().err


def test_command_fails_after_printing_the_certificate(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = replace(
        FILES["p2t_tiny.pth"], name=file.name, model="p2t_mini", sha256_prefix="0badf11e"
    )
    monkeypatch.setitem(FILES, file.name, entry)
    assert main(["verify", "p2t_mini", str(file)]) == 1
    printed = capsys.readouterr()
    assert "not the published one" in printed.out
    assert "does not fit p2t_mini: its hash is not the published one" in printed.err
