"""What the command line says about duplicates."""

import argparse

import pytest

from ziggurat.cli.main import main
from ziggurat.cli.suppression import add_suppression_arguments, suppression_of
from ziggurat.errors import ZigguratError
from ziggurat.ops.box_voting import Voting
from ziggurat.ops.nms import Suppression


def read(*words: str) -> Suppression | None:
    parser = argparse.ArgumentParser()
    add_suppression_arguments(parser)
    return suppression_of(parser.parse_args(words))


def test_what_is_asked_for() -> None:
    assert read() is None
    assert read("--nms", "hard") == Suppression()
    assert read("--nms", "soft-linear") == Suppression("soft-linear")
    assert read("--nms", "soft-gaussian", "--nms_sigma", "0.3") == Suppression(
        "soft-gaussian", sigma=0.3
    )
    assert read("--voting", "0.8") == Suppression(voting=Voting(0.8))
    assert read(
        *("--nms", "soft-linear", "--voting", "0.7"),
        *("--voting_score", "quasi_sum", "--voting_beta", "0.5"),
    ) == Suppression("soft-linear", voting=Voting(0.7, "quasi_sum", 0.5))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--nms_sigma", "0.4"],
            "--nms_sigma is the width of --nms soft-gaussian, and there",
        ),
        (["--nms", "hard", "--nms_sigma", "0.4"], "sigma has no effect on the suppression 'hard'"),
        (["--voting_score", "avg"], "--voting_score says how boxes are scored after --voting"),
        (["--voting_beta", "2"], "--voting_beta says how boxes are scored after --voting"),
        (["--voting", "8"], "must lie above 0 and be at most 1, got 8.0; 0.8 is usual"),
        (["--voting", "0.8", "--voting_beta", "2"], "beta has no effect on the voted score 'id'"),
    ],
)
def test_what_does_not_go_together(words: list[str], message: str) -> None:
    with pytest.raises(ZigguratError, match=message):
        read(*words)


def test_results_have_been_predicted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--results", "found.json", "--nms", "soft-linear"]) != 0
    said = capsys.readouterr().err
    assert "--voting, --batch_size, --workers, --device and --precision are for a model" in said
