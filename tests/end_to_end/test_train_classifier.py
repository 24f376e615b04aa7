"""`ziggurat train` of a classifier, from the command line to the files it leaves."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.optim import AdamW

from ziggurat.checkpoints.native import load_weights
from ziggurat.cli.main import main
from ziggurat.config.files import load_run
from ziggurat.engine.module import TrainingModule
from ziggurat.engine.output import RunFolder
from ziggurat.engine.progress import Progress
from ziggurat.errors import ZigguratError
from ziggurat.preprocessing import CenterCrop

Train = Callable[..., int]


def rows_of(output: Path) -> list[dict[str, str]]:
    with (output / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    return load_weights(path).state_dict()


def assert_same_weights(first: Path, second: Path) -> None:
    expected, got = weights_of(first), weights_of(second)
    assert expected.keys() == got.keys()
    for name, value in expected.items():
        assert torch.equal(value, got[name]), name


def interrupt_at(monkeypatch: pytest.MonkeyPatch, module: type, name: str, call: int) -> list[int]:
    """Let the call with this number, from 0, raise what Ctrl-C raises."""
    original = getattr(module, name)
    calls = [0]

    def wrapped(self: object, *args: object, **kwargs: object) -> object:
        calls[0] += 1
        if calls[0] == call + 1:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    monkeypatch.setattr(module, name, wrapped)
    return calls


def test_train_learns_and_leaves_all_files(
    tmp_path: Path, train_classifier: Train, image_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "run"
    assert (
        train_classifier(output, "--data.mixup=0", "--data.cutmix=0", "--trainer.max_epochs=8") == 0
    )
    for name in ("run.yaml", "checkpoints/last.ckpt", "last.safetensors", "metrics.json"):
        assert (output / name).is_file(), name
    assert list((output / "tensorboard").glob("events*"))
    losses = [float(row["train/loss"]) for row in rows_of(output) if row["train/loss"]]
    assert len(losses) == 24
    assert sum(losses[-3:]) < 0.7 * sum(losses[:3])
    model = load_weights(output / "best.safetensors")
    assert model.classes == ("blue", "red")
    assert model.preprocessing == CenterCrop(resize=80, crop=72)
    record = json.loads((output / "metrics.json").read_text())
    assert record["last"]["step"] == 24
    assert record["best"]["metrics"]["top1"] == 1.0
    assert load_run(output / "run.yaml").data.root == str(image_folder)
    said = capsys.readouterr().out
    assert "step 24/24" in said and "images/s" in said and "left" in said


def test_resume_within_an_epoch_repeats_the_whole_run(
    tmp_path: Path, train_classifier: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    words = ("--trainer.ema_decay=0.5", "--data.flip=0.5")
    assert train_classifier(whole, *words) == 0
    with monkeypatch.context() as patch:
        interrupt_at(patch, TrainingModule, "training_step", call=4)
        assert train_classifier(parts, *words) == 130
    assert torch.load(parts / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 4
    assert main(["train", "--output", str(parts), "--resume"]) == 0
    assert_same_weights(whole / "last.safetensors", parts / "last.safetensors")
    same = ("step", "epoch", "train/loss", "train/lr", "val/top1")
    by_step = [
        [{key: row[key] for key in same} for row in rows_of(output)] for output in (whole, parts)
    ]
    assert by_step[0] == by_step[1]


@pytest.mark.parametrize("call", [pytest.param(0, marks=pytest.mark.slow), 3])
def test_ctrl_c_in_any_step_loses_nothing(
    call: int,
    tmp_path: Path,
    train_classifier: Train,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train_classifier(whole) == 0
    with monkeypatch.context() as patch:
        interrupt_at(patch, TrainingModule, "training_step", call)
        capsys.readouterr()
        assert train_classifier(parts) == 130
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0
    assert f"ziggurat train --output {parts} --resume" in said
    assert main(["train", "--output", str(parts), "--resume"]) == 0
    assert_same_weights(whole / "last.safetensors", parts / "last.safetensors")


@pytest.mark.slow
def test_ctrl_c_with_accumulation_goes_back_to_the_last_whole_step(
    tmp_path: Path, train_classifier: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Three batches an epoch, two a step: the second step of an epoch has one batch.
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    words = ("--trainer.accumulate=2", "--trainer.clip_norm=1.0")
    assert train_classifier(whole, *words) == 0
    with monkeypatch.context() as patch:
        interrupt_at(patch, TrainingModule, "training_step", call=4)
        assert train_classifier(parts, *words) == 130
    assert torch.load(parts / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 2
    assert main(["train", "--output", str(parts), "--resume"]) == 0
    assert_same_weights(whole / "last.safetensors", parts / "last.safetensors")


def test_ctrl_c_during_an_update_keeps_the_earlier_checkpoint(
    tmp_path: Path, train_classifier: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train_classifier(whole) == 0
    # Here the weights are already updated and nothing has counted the step yet.
    with monkeypatch.context() as patch:
        patch.setattr(AdamW, "step", _interrupting_step(AdamW.step, call=4))
        assert train_classifier(parts) == 130
    assert torch.load(parts / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 3
    assert main(["train", "--output", str(parts), "--resume"]) == 0
    assert_same_weights(whole / "last.safetensors", parts / "last.safetensors")


def _interrupting_step(original: Callable[..., object], call: int) -> Callable[..., object]:
    calls = [0]

    def step(self: AdamW, closure: Callable[[], object]) -> object:
        calls[0] += 1
        result = original(self, closure)
        if calls[0] == call + 1:
            raise KeyboardInterrupt
        return result

    return step


@pytest.mark.slow
def test_distillation_is_resumed_exactly_and_leaves_no_teacher(
    tmp_path: Path,
    train_classifier: Train,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    teacher, whole, parts = (tmp_path / name for name in ("teacher", "whole", "parts"))
    assert train_classifier(teacher, "--model.drop_path_rate=0") == 0
    before = (teacher / "best.safetensors").read_bytes()
    words = (
        f"--distillation.teacher={teacher / 'best.safetensors'}",
        "--distillation.kind=soft",
        "--distillation.temperature=3",
        "--data.augmentation_repeats=3",
        "--optimizer.layer_decay=0.7",
        "--trainer.checkpoint_activations=true",
    )
    assert train_classifier(whole, *words) == 0
    said = capsys.readouterr().out
    assert "soft distillation from" in said and "distillation 0." in said
    with monkeypatch.context() as patch:
        interrupt_at(patch, TrainingModule, "training_step", call=4)
        assert train_classifier(parts, *words) == 130
    assert main(["train", "--output", str(parts), "--resume"]) == 0
    assert_same_weights(whole / "last.safetensors", parts / "last.safetensors")
    assert (
        weights_of(whole / "last.safetensors").keys()
        == weights_of(teacher / "last.safetensors").keys()
    )
    state = torch.load(whole / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert all(name.startswith("model.") for name in state)
    assert (teacher / "best.safetensors").read_bytes() == before
    rows = rows_of(whole)
    total = [
        float(row["train/classification"]) + float(row["train/distillation"])
        for row in rows
        if row["train/loss"]
    ]
    assert total == pytest.approx([float(r["train/loss"]) for r in rows if r["train/loss"]])


def test_frozen_stages_keep_their_weights(
    tmp_path: Path, train_classifier: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert train_classifier(first) == 0
    words = (f"--model.weights={first / 'last.safetensors'}", "--model.freeze_stages=2")
    assert train_classifier(second, *words) == 0
    assert "frozen: stages 1 to 2 of 4 of the backbone p2t_tiny, 0.0 M" in capsys.readouterr().out
    before, after = (weights_of(path / "last.safetensors") for path in (first, second))
    same = {name for name, value in before.items() if torch.equal(value, after[name])}
    assert same == {name for name in before if re.match(r"backbone\.stages\.[01]\.", name)}


@pytest.mark.slow
def test_the_compiled_model_is_what_trains(
    tmp_path: Path, train_classifier: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, compiled = tmp_path / "plain", tmp_path / "compiled"
    assert train_classifier(plain) == 0
    calls: list[int] = []

    def compile_with_eager_kernels(function: Callable[..., object]) -> Callable[..., object]:
        graph = torch.compiler.disable(function)

        def run(*inputs: object) -> object:
            calls.append(len(inputs))
            return graph(*inputs)

        return run

    monkeypatch.setattr(torch, "compile", compile_with_eager_kernels)
    assert train_classifier(compiled, "--trainer.compile=true") == 0
    assert calls == [2] * 6  # every step, and no validation
    assert_same_weights(plain / "last.safetensors", compiled / "last.safetensors")


def test_lr_is_said_to_follow_the_batch(
    tmp_path: Path, train_classifier: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--optimizer.lr=0.1024", "--trainer.max_steps=2")
    assert train_classifier(tmp_path / "run", *words) == 0
    said = capsys.readouterr().out
    rule = "learning rate 0.0008 for 4 images a step: optimizer.lr 0.102 is meant for 512"
    assert said.count(rule) == 1
    assert "; as many as" not in said  # the number of steps is no recipe's
    limit = "trainer.max_epochs 2 is not reached: trainer.max_steps 2 ends the run in epoch 1"
    assert said.count(limit) == 1


def test_steps_are_scaled_alike_when_a_run_goes_on(
    tmp_path: Path, train_classifier: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    words = ["--schedule.scale_steps=true", "--optimizer.reference_batch=8", "--optimizer.lr=1e-3"]
    assert train_classifier(run, *words, "--trainer.max_epochs=null", "--trainer.max_steps=1") == 0
    line = "trainer.max_steps 1, meant for 8 images a step, become trainer.max_steps 2"
    assert line in capsys.readouterr().out
    assert json.loads((run / "metrics.json").read_text())["last"]["step"] == 2
    assert main(["train", "--output", str(run), "--resume", "--trainer.max_steps=2"]) == 0
    line = "trainer.max_steps 2, meant for 8 images a step, become trainer.max_steps 4"
    assert line in capsys.readouterr().out
    assert json.loads((run / "metrics.json").read_text())["last"]["step"] == 4


def test_more_batches_a_step_than_an_epoch_has(tmp_path: Path, train_classifier: Train) -> None:
    # Three batches an epoch. A step of gradient descent, unlike Adam's, is as long as they are.
    words = ("--optimizer.kind=sgd", "--optimizer.betas=null", "--optimizer.lr=10")
    for accumulate in (3, 8):
        output = tmp_path / str(accumulate)
        assert train_classifier(output, *words, f"--trainer.accumulate={accumulate}") == 0
    assert_same_weights(tmp_path / "3/last.safetensors", tmp_path / "8/last.safetensors")


def test_the_last_step_of_an_epoch_is_as_long_as_the_batches_that_are_left(
    tmp_path: Path, train_classifier: Train
) -> None:
    # Three batches of one epoch, with weights that stay where they are.
    words = ("--optimizer.kind=sgd", "--optimizer.betas=null", "--optimizer.lr=1e-12")
    still = "--schedule.min_lr=0"
    plain = ("--data.mixup=0", "--data.cutmix=0", "--model.drop_path_rate=0")
    norms = {}
    for accumulate in (1, 2):
        output = tmp_path / str(accumulate)
        more = (f"--trainer.accumulate={accumulate}", "--trainer.max_epochs=1")
        assert train_classifier(output, *words, still, *plain, *more) == 0
        found = [row["train/gradient_norm"] for row in rows_of(output)]
        norms[accumulate] = [float(norm) for norm in found if norm]
    assert [len(norms[1]), len(norms[2])] == [3, 2]
    assert norms[2][1] == pytest.approx(norms[1][2], rel=1e-4)


def test_a_second_run_is_kept_out_of_a_folder(
    tmp_path: Path, train_classifier: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "run"
    with RunFolder(output).claimed(is_new=True):
        assert train_classifier(output) == 1
        assert f"another run is writing into {output}; wait" in capsys.readouterr().err
        assert [path.name for path in output.iterdir()] == [".lock"]
    assert train_classifier(output, "--trainer.max_steps=1") == 0
    before = (output / "metrics.csv").read_bytes()
    with RunFolder(output).claimed(is_new=False):
        assert main(["train", "--output", str(output), "--resume"]) == 1
        assert "another run is writing into" in capsys.readouterr().err
    assert (output / "metrics.csv").read_bytes() == before
    # One that began and ended while this one opened its data.
    with (
        pytest.raises(ZigguratError, match="already holds a run"),
        RunFolder(output).claimed(is_new=True),
    ):
        pass


def test_what_is_no_training_is_told_to_the_speed(
    tmp_path: Path, train_classifier: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(Progress, "pause", lambda self, seconds: pauses.append(seconds))
    assert train_classifier(tmp_path / "run", "--trainer.val_every_epochs=2") == 0
    assert len(pauses) == 3  # two checkpoints and a validation
    assert min(pauses) > 0
