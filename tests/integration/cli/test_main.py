"""`ziggurat VERB`: which verb runs, what an error prints, and the exit code."""

import argparse
import io
import sys
from types import ModuleType

import pytest

from ziggurat.cli import main as main_module
from ziggurat.cli.main import VERBS, main
from ziggurat.config.fields import field_names
from ziggurat.errors import ZigguratError


def install(monkeypatch: pytest.MonkeyPatch, error: BaseException | None) -> list[str]:
    """Let `ziggurat list` be a verb with --size that raises `error`; returns what it was given."""
    seen: list[str] = []
    module = ModuleType("verb", "`ziggurat list`: say hello.")

    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--size", default="small")

    def run(args: argparse.Namespace) -> None:
        seen.append(args.size)
        if error is not None:
            raise error

    module.add_arguments = add_arguments  # type: ignore[attr-defined]
    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setattr(main_module, "import_module", lambda name: module)
    return seen


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_overview_names_every_verb(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert all(f"  {verb} " in printed for verb in VERBS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip()[0].isdigit()


def test_unknown_verb_has_the_nearest_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 1
    assert "unknown command 'trian'; did you mean train?" in capsys.readouterr().err
    assert main(["xyz"]) == 1
    assert "expected one of train, evaluate" in capsys.readouterr().err


def test_arguments_reach_the_verb(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = install(monkeypatch, None)
    assert main(["list", "--size", "large"]) == 0
    assert seen == ["large"]


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["--size=~/run"], "/home/me/run"),
        (["--size", "~/run"], "/home/me/run"),
        (["--size=~"], "/home/me"),
        (["--size=~no_such_user/run"], "~no_such_user/run"),
        (["--size=a~/b"], "a~/b"),
    ],
)
def test_a_tilde_is_the_home_folder(
    monkeypatch: pytest.MonkeyPatch, words: list[str], value: str
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    seen = install(monkeypatch, None)
    assert main(["list", *words]) == 0
    assert seen == [value]


@pytest.mark.parametrize(
    ("error", "code", "printed"),
    [
        (ZigguratError("no such thing"), 1, "ziggurat: error: no such thing\n"),
        (KeyboardInterrupt(), 130, "ziggurat: stopped\n"),
        (KeyboardInterrupt("saved, go on so"), 130, "ziggurat: saved, go on so\n"),
        (SystemExit(3), 3, ""),
    ],
)
def test_exit_codes(
    error: BaseException,
    code: int,
    printed: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    install(monkeypatch, error)
    assert main(["list"]) == code
    assert capsys.readouterr().err == printed


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_file_names_that_are_no_utf8_are_printed(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = io.BytesIO()
    stream = io.TextIOWrapper(printed, encoding="utf-8", newline="")
    monkeypatch.setattr(sys, name, stream)
    monkeypatch.setattr(
        main_module, "_dispatch", lambda _: print("a\udcff.jpg", file=stream, flush=True)
    )
    assert main([]) == 0
    assert printed.getvalue() == b"a\\udcff.jpg\n"


def test_a_defect_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, RuntimeError("a defect"))
    with pytest.raises(RuntimeError, match="a defect"):
        main(["list"])


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("--lr", "--optimizer.lr"),
        ("--batch_siz=4", "--data.batch_size"),
        ("--optimizer.lrr", "--optimizer.lr"),
        ("--outptu", "--output"),
    ],
)
def test_a_field_without_its_section(
    word: str, near: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "p2t_tiny_300e_imagenet", word]) == 1
    assert f"did you mean {near}?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sise", "3"], "unknown option '--sise'; did you mean --size?"),
        (["--siz=3"], "unknown option '--siz'; did you mean --size?"),
        (["more"], "unknown argument 'more'"),
        (["--size"], "expected one argument"),
    ],
)
def test_wrong_words(
    words: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen = install(monkeypatch, None)
    assert main(["list", *words]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert seen == []


def test_help_of_a_verb(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch, None)
    assert main(["list", "--help"]) == 0
    assert "say hello" in capsys.readouterr().out


def test_train_help_lists_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    printed = capsys.readouterr().out
    for task in ("classification", "detection"):
        assert all(f"--{name}" in printed for name in field_names(task))


def test_train_help_after_a_recipe_has_its_values(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "retinanet_p2t_small_1x_coco", "--help"]) == 0
    printed = capsys.readouterr().out
    assert "default: retinanet_p2t_small" in printed
    assert "--data.mixup" not in printed
    assert main(["train", "retinanet_p2t_smal_1x_coco", "--help"]) == 1
    assert "the nearest are retinanet_p2t_small_1x_coco, " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "command"),
    [
        ([], " "),
        (["--model.name", "mask_rcnn", "--model.backbone", "resnet50"], " mask_rcnn_"),
        (["--model.name", "semantic_fpn_resnet50"], " semantic_fpn_"),
        (["--model.name", "keypoint_rcnn_p2t_tiny"], " keypoint_rcnn_"),
    ],
)
def test_training_without_a_recipe_has_an_example_that_fits(
    words: list[str], command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *words]) == 1
    message = capsys.readouterr().err
    assert f"for example `ziggurat train{command}" in message
    values = zip(words[::2], words[1::2], strict=True)
    assert all(f" {name}={value}" in message for name, value in values)
    assert "`ziggurat list --recipes` prints" in message and len(message) < 400


def test_training_of_an_unknown_model_without_a_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--model.name", "p2t_tny"]) == 1
    assert "unknown model 'p2t_tny'; did you mean 'p2t_tiny'?" in capsys.readouterr().err
