"""A certificate says what a file is, and refuses what it is not."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import ziggurat
from ziggurat import zoo
from ziggurat.checkpoints.matching import LoadReport
from ziggurat.cli.main import main
from ziggurat.cli.verify import to_json, to_text
from ziggurat.data.synthesize import synthesize
from ziggurat.errors import ZigguratError
from ziggurat.inference.evaluation import evaluate
from ziggurat.inference.evaluation_result import Evaluation
from ziggurat.metrics.base import Report
from ziggurat.preprocessing import CenterCrop, Preprocessing
from ziggurat.verification import certificate as certificate_module
from ziggurat.verification.certificate import (
    VALIDATION_IMAGES,
    Certificate,
    GoldenCheck,
    Measurement,
    certify,
)
from ziggurat.weights.catalogue import FILES
from ziggurat.weights.published_file import PublishedFile
from ziggurat.zoo import Model


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


def test_files_of_ziggurat_say_themselves_what_they_hold(tmp_path: Path) -> None:
    path = tmp_path / "detector.safetensors"
    model = ziggurat.create_model(
        "retinanet_p2t_mini", num_classes=3, head_channels=8, head_depth=1
    ).eval()
    ziggurat.save_weights(model, path)
    found = certify("retinanet_p2t_mini", path)
    assert found.fingerprint.std > 0
    assert len(found.report.matched) == len(model.state_dict())
    with pytest.raises(ZigguratError, match="holds retinanet_p2t_mini, expected p2t_mini; name"):
        certify("p2t_mini", path)
    with pytest.raises(ZigguratError, match="how many classes it has; leave --num_classes out"):
        certify("retinanet_p2t_mini", path, num_classes=3)


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """A file that is not of ziggurat."""
    path = tmp_path / "official.pth"
    torch.save({"weight": torch.zeros(2)}, path)
    return path


def test_official_files_may_have_other_classes(
    official: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []

    def load(model: Model, path: Path, *, use_ema: bool) -> LoadReport:
        counts.append(model.identity.num_classes)
        return LoadReport(matched=())

    monkeypatch.setattr(certificate_module, "load_official", load)
    assert main(["verify", "p2t_mini", str(official)]) == 0
    assert main(["verify", "p2t_mini", str(official), "--num_classes", "7"]) == 0
    assert counts == [1000, 7]
    with pytest.raises(ZigguratError, match="resnet50 is a backbone, which has no classes, got 7"):
        certify("resnet50", official, num_classes=7)


def test_resnets_of_other_pixels_do_not_fit(official: Path) -> None:
    layer = {
        "conv1.weight": torch.full((64, 3, 7, 7), 0.001),
        "bn1.running_var": torch.ones(64),
    }
    torch.save(layer, official)
    with pytest.raises(ZigguratError, match="was trained on BGR levels .* and resnet50 is for"):
        certify("resnet50", official)


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


GPVIT = dict(FILES["gpvit_l1_maskrcnn_1x.pth"].metrics)


def measured(num_images: int, top1: float) -> Measurement:
    return Measurement("ImageNet", num_images, {"top1": top1}, {"top1": 75.1})


@pytest.mark.parametrize(
    ("measurement", "is_comparable", "fits"),
    [
        (measured(VALIDATION_IMAGES["top1"], 75.2), True, True),
        (measured(VALIDATION_IMAGES["top1"], 74.8), True, False),
        (measured(100, 10.0), False, True),
        (Measurement("ImageNet", 50_000, {"top1": 10.0}, {}), False, True),
        (Measurement("COCO", 5_000, {"AP": 48.1, "mask_AP": 42.7}, GPVIT), True, True),
        (Measurement("COCO", 5_000, {"AP": 48.1, "mask_AP": 1.0}, GPVIT), True, False),
        (Measurement("ADE20K", 2_000, {"mIoU": 49.0}, {"mIoU": 49.1}), True, True),
        (Measurement("ADE20K", 2_000, {"mIoU": 40.0}, {"mIoU": 49.1}), True, False),
    ],
)
def test_accuracy_counts_on_the_published_data_only(
    measurement: Measurement, is_comparable: bool, fits: bool, certificate: Certificate
) -> None:
    assert measurement.is_comparable is is_comparable
    assert measurement.fits is fits
    faults = replace(certificate, measured=measurement).faults
    assert faults == ([] if fits else ["its accuracy is not within 0.2 points of the published"])


def test_every_published_number_can_be_compared() -> None:
    for file in FILES.values():
        assert not file.metrics or file.metrics[0][0] in VALIDATION_IMAGES, file.name


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[Preprocessing]:
    """How images were prepared, each time that a detector was evaluated; it has 38.7 AP."""
    prepared: list[Preprocessing] = []

    def evaluate(model: Model, **_: object) -> Evaluation:
        prepared.append(model.preprocessing)
        report = Report("AP", {"AP50": 0.5, "AP": 0.387}, [], 5_000)
        return Evaluation(report, None, model.identity.name, "COCO", None, ())

    monkeypatch.setattr(certificate_module, "evaluate", evaluate)
    return prepared


def measure_retinanet(file: PublishedFile | None) -> Measurement:
    with torch.device("meta"):
        model = zoo.create_model("retinanet_pvt_small")
    return certificate_module._measure(model, file, vars(certificate_module)["evaluate"])


@pytest.mark.parametrize(
    ("run", "sides", "fits"),
    [("_640", (640, 1066), True), ("", (800, 1333), False)],
)
def test_a_published_file_is_measured_as_published(
    run: str, sides: tuple[int, int], fits: bool, evaluated: list[Preprocessing]
) -> None:
    measurement = measure_retinanet(FILES[f"retinanet_pvt_s_fpn_1x_coco{run}.pth"])
    (prepared,) = evaluated
    assert not isinstance(prepared, CenterCrop)
    assert (prepared.short_side, prepared.long_side) == sides
    assert measurement.is_comparable
    assert measurement.fits is fits
    assert measurement.others == ()


@pytest.mark.usefixtures("evaluated")
def test_a_file_that_is_not_known_is_no_fault(certificate: Certificate) -> None:
    measurement = measure_retinanet(None)
    assert measurement.published == {}
    found = replace(certificate, measured=measurement)
    assert found.faults == []
    text = to_text(found)
    assert "AP           38.70 measured, none published" in text
    assert "retinanet_pvt_s_fpn_1x_coco.pth: 40.4 AP, COCO val2017" in text
    assert to_json(found)["measured"]["other_files"] == {
        "retinanet_pvt_s_fpn_1x_coco.pth": {"AP": 40.4},
        "retinanet_pvt_s_fpn_1x_coco_640.pth": {"AP": 38.7},
    }


def test_why_numbers_are_not_compared(certificate: Certificate) -> None:
    masks = Measurement("COCO", 10, {"mask_AP": 42.0, "AP": 48.0}, GPVIT)
    text = to_text(replace(certificate, measured=masks))
    assert "AP           48.00 measured, 48.1 published" in text
    assert "mask AP      42.00 measured, 42.7 published" in text
    assert "not compared: published on 5000 images, these are 10" in text
    others = (FILES["pvt_v2_b0.pth"],)
    converted = Measurement("ImageNet", 50_000, {"top1": 70.4, "top5": 90.0}, {}, others)
    text = to_text(replace(certificate, measured=converted))
    assert "top1         70.40 measured, none published" in text
    assert "not compared with other files of the model (pvt_v2_b0.pth: 70.5 top1, Im" in text
    compared = to_text(replace(certificate, measured=measured(50_000, 75.2)))
    assert "top1         75.20 measured, 75.1 published" in compared
    assert "not compared" not in compared


def test_entries_that_were_reordered_are_counted(certificate: Certificate) -> None:
    report = LoadReport(matched=(("a", "a"),), reordered=(("b", "b"),))
    content = to_json(replace(certificate, report=report))
    assert (content["matched"], content["reordered"]) == (2, ["b"])


def test_golden_differences_are_faults(certificate: Certificate) -> None:
    assert replace(certificate, golden=GoldenCheck("case", 5e-5, 1e-4)).faults == []
    faults = replace(certificate, golden=GoldenCheck("case", 1e-3, 1e-4)).faults
    assert "differ from the official ones by 1.0e-03, at most 1e-04 is rounding" in faults[0]


def test_wrong_requests_are_refused(file: Path) -> None:
    with pytest.raises(ZigguratError, match="unknown model 'p2t_mni'"):
        certify("p2t_mni", file)
    with pytest.raises(ZigguratError, match="holds a whole model of ziggurat, expected the offic"):
        certify("resnet50", file)
    backbone = ziggurat.create_backbone("p2t_mini")
    with pytest.raises(ZigguratError, match="a backbone has no accuracy to measure"):
        certificate_module._measure(backbone, None, evaluate)


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
    monkeypatch.setattr(certificate_module, "load_official", lambda *_, **__: certificate.report)
    monkeypatch.setattr(certificate_module, "is_golden", lambda weights: True)
    found = certify("p2t_mini", file)
    assert (found.is_golden, found.golden) == (True, None)
    assert "no values of the official code are kept for such a file" in to_text(found)


def test_command_measures_on_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    synthesize(tmp_path / "data", num_images=10, size=(64, 64), seed=0, val_fraction=0.5)
    root = tmp_path / "data" / "classification"
    classes = tuple(sorted(path.name for path in (root / "val").iterdir()))
    model = ziggurat.create_model("p2t_mini", num_classes=len(classes))
    file = tmp_path / "mini.safetensors"
    ziggurat.save_weights(model, file)
    words = ["verify", "p2t_mini", str(file), "--data", str(root)]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "measured, none published" in text
    assert "no number is published for this model" in text
    assert main([*words, "--batch_size", "0"]) == 1
    assert "batch_size" in capsys.readouterr().err
    assert main([*words, "--workers", "-1"]) == 1
    assert "workers" in capsys.readouterr().err
    listed = replace(FILES["p2t_tiny.pth"], name="listed.pth", model="p2t_mini")
    monkeypatch.setitem(FILES, listed.name, listed)
    assert main([*words, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)["measured"]
    assert next(iter(content["numbers"])) == "top1"
    assert content["published"] == {}
    assert content["other_files"] == {"listed.pth": {"top1": 79.8, "top5": 94.9}}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["p2t_mini", "nowhere.pth"], "there is no file nowhere.pth"),
        (["p2t_tiny", "FILE"], "holds p2t_mini, expected p2t_tiny; name the model that it holds"),
        (["p2t_mini", "FILE", "--data", "nowhere"], "nowhere does not exist; check --data\n"),
        (["p2t_mini", "FILE", "--split", "test"], "--split test is for the images that --data"),
        (["p2t_mini", "FILE", "--workers", "0"], "--workers 0 is for the images that --data"),
        (["p2t_mini", "FILE", "--batch_size", "2"], "--batch_size 2 is for the images that"),
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
