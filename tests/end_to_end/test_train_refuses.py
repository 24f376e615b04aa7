"""What `ziggurat train` refuses: one sentence, exit code 1, and nothing written or lost."""

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from ziggurat import zoo
from ziggurat.checkpoints.native import load_weights, save_weights
from ziggurat.cli.main import main
from ziggurat.necks import fpt

Train = Callable[..., int]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--optimizer.lrr=1"], ["--optimizer.lrr", "did you mean --optimizer.lr?"]),
        (["--optimizer.lr=fast"], ["optimizer.lr must be float", "'fast'"]),
        (["--data.short_side=3"], ["data.short_side", "detection"]),
        (["--data.root=/nowhere"], ["/nowhere"]),
        (["--data.val_split=test"], ["test"]),
        (["--model.name=p2t_tny"], ["p2t_tny", "p2t_tiny"]),
        (["--model.name=retinanet_p2t_tiny"], ["model.name", "classification"]),
        (["--model.num_classes=1"], ["model.num_classes", "2 classes", "got 1"]),
        (["--model.weights=nowhere.safetensors"], ["nowhere.safetensors"]),
        (["--model.backbone_weights=nowhere.pth"], ["nowhere.pth"]),
        (["--model.head_depth=3"], ["head_depth"]),
        (["--data.batch_size=64"], ["12 images", "64"]),
        (["--data.auto_augment=randaugment"], ["randaugment"]),
        (["--trainer.precision=fp16"], ["trainer.precision", "fp16", "CPU"]),
        (
            ["--trainer.sync_batch_norm=true", "--trainer.devices=2"],
            ["trainer.sync_batch_norm must be false", "only GPUs"],
        ),
        (["--schedule.warmup_start=0.1"], ["schedule.warmup_start", "null", "got 0.1"]),
        (["--schedule.gamma=0.5"], ["schedule.gamma", "null", "cosine"]),
        (["--resume"], ["no run to resume"]),
        (["--config", "run.yaml"], ["not both"]),
        (["extra"], ["extra"]),
    ],
)
def test_one_sentence_and_nothing_written(
    words: list[str],
    parts: list[str],
    tmp_path: Path,
    train_classifier: Train,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train_classifier(tmp_path / "run", *words) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("ziggurat: error: ")
    assert "\n" not in error
    assert all(part in error for part in parts), error
    assert not (tmp_path / "run" / "run.yaml").exists()


def test_an_output_that_holds_a_run_is_left_alone(
    tmp_path: Path, train_classifier: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "run"
    assert train_classifier(output, "--trainer.max_steps=1") == 0
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    assert train_classifier(output) == 1
    assert "already holds a run; add --resume" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before


def test_output_that_is_a_file(
    tmp_path: Path, train_classifier: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").write_text("mine")
    assert train_classifier(tmp_path / "run") == 1
    assert "is a file" in capsys.readouterr().err
    assert (tmp_path / "run").read_text() == "mine"


def test_resume_refuses_another_run(
    tmp_path: Path, train_classifier: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "run"
    assert train_classifier(output, "--trainer.max_steps=1") == 0
    resume = ["train", "--output", str(output), "--resume"]
    assert main([*resume, "--optimizer.weight_decay=0.5"]) == 1
    assert "optimizer.weight_decay was 0.05" in capsys.readouterr().err
    assert main(["train", "retinanet_p2t_tiny_1x_coco", *resume[1:], "--data.root=/x"]) == 1
    assert "classification" in capsys.readouterr().err


def test_resume_without_output_or_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train"]) == 1
    assert "`ziggurat list --recipes`" in capsys.readouterr().err
    assert main(["train", "--resume", "--output", str(tmp_path / "nothing")]) == 1
    assert "no run to resume" in capsys.readouterr().err


def test_bad_files_are_named_and_skipped_up_to_the_limit(
    tmp_path: Path,
    train_classifier: Train,
    image_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("train/red/0.png", "val/blue/1.png"):
        (image_folder / name).write_bytes(b"no image")
    # Every image once: repeated, an epoch would see a third of them.
    words = ("--trainer.max_epochs=1", "--data.augmentation_repeats=1")
    assert train_classifier(tmp_path / "two", *words, "--data.max_bad_files=2") == 0
    said = capsys.readouterr().out
    assert said.count("skipped, cannot be decoded") == 2
    assert "0.png" in said and "on 3 images" in said
    assert train_classifier(tmp_path / "none", *words, "--data.max_bad_files=0") == 1
    assert "0.png" in capsys.readouterr().err


def test_weights_of_another_run_start_a_new_one(
    tmp_path: Path, train_classifier: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "start.safetensors"
    start = zoo.create_model("p2t_tiny", num_classes=5)
    save_weights(start, path)
    start_words = (f"--model.weights={path}", "--optimizer.lr=1e-9", "--schedule.min_lr=0")
    words = (*start_words, "--trainer.max_steps=1")
    assert train_classifier(tmp_path / "refused", *words) == 1
    assert "reset_classes" in capsys.readouterr().err
    assert train_classifier(tmp_path / "run", *words, "--model.reset_classes=true") == 0
    trained = load_weights(tmp_path / "run" / "last.safetensors")
    assert trained.identity.num_classes == 2
    expected = start.state_dict()
    for name, value in trained.state_dict().items():
        if name.startswith("backbone."):
            assert (value - expected[name]).abs().max() < 1e-6, name


def test_bf16_trains_on_a_cpu(tmp_path: Path, train_classifier: Train) -> None:
    assert (
        train_classifier(tmp_path / "run", "--trainer.precision=bf16", "--trainer.max_steps=2") == 0
    )
    weights = load_weights(tmp_path / "run" / "last.safetensors").state_dict()
    assert {value.dtype.itemsize for value in weights.values()} == {4}


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_gradients_are_clipped(tmp_path: Path, train_classifier: Train, precision: str) -> None:
    path = tmp_path / "start.safetensors"
    start = zoo.create_model("p2t_tiny", num_classes=2)
    save_weights(start, path)
    # Adam divides a gradient by its size, unless it is far below 1e-8.
    words = (f"--model.weights={path}", "--trainer.clip_norm=1e-12", "--optimizer.weight_decay=0")
    two_steps = ("--trainer.max_steps=2", f"--trainer.precision={precision}")
    assert train_classifier(tmp_path / "run", *words, *two_steps) == 0
    expected = start.state_dict()
    for name, value in load_weights(tmp_path / "run" / "last.safetensors").state_dict().items():
        assert (value - expected[name]).abs().max() < 1e-3, name


def test_training_warns_of_nothing(tmp_path: Path, train_classifier: Train) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert train_classifier(tmp_path / "run", "--trainer.max_steps=1") == 0


def test_a_largest_batch_without_memory_for_it(
    coco_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(fpt, "available_bytes", lambda _: 2**20)
    words = [f"--data.root={coco_folder}", "--data.workers=0", "--trainer.accelerator=cpu"]
    words += ["--model.name=retinanet", "--model.backbone=p2t_tiny", "--model.neck=fpt"]
    output = tmp_path / "run"
    assert main(["train", "retinanet_p2t_tiny_1x_coco", "--output", str(output), *words]) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith(f"ziggurat: error: a step of the run in {output} does not fit into")
    assert "(the Feature Pyramid Transformer needs about " in error and "\n" not in error
    assert "nothing was saved yet; begin anew with a lower data.batch_size" in error
    assert not (output / "run.yaml").exists()
