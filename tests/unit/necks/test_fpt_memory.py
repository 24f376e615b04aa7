"""The Feature Pyramid Transformer takes the memory that it says, measured in its own process."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).resolve().parents[3] / "benchmarks" / "fpt_memory.py"
PAPER = ("--formulas", "paper")
WINDOW = ("--window", "5")


@pytest.mark.slow  # fresh processes import PyTorch
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    "options",
    [
        ("--learns",),
        ("--learns", *PAPER),
        ("--learns", *WINDOW),
        ("--learns", *PAPER, *WINDOW),
        ("--learns", "--checkpointing", "--batch", "4"),
        (),
        (*WINDOW,),
        (*PAPER, *WINDOW),
    ],
    ids=" ".join,
)
def test_a_pass_takes_what_is_predicted(options: tuple[str, ...]) -> None:
    peak, predicted = measured("--size", "200x336", *options)
    assert peak < predicted < peak + 0.35  # of which 0.25 are buffers


@pytest.mark.slow  # half a minute to some minutes each
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("formulas", ["official", "paper"])
@pytest.mark.parametrize(("options", "gigabytes"), [((), 1.5), (("--learns",), 6.0)], ids=str)
def test_a_whole_image_takes_little(
    formulas: str, options: tuple[str, ...], gigabytes: float
) -> None:
    peak, predicted = measured("--size", "800x1344", "--formulas", formulas, *options)
    assert peak < predicted
    assert peak * 2**30 < gigabytes * 1e9


def measured(*options: str) -> tuple[float, float]:
    """Return peak and prediction of a pass, in GiB."""
    command = [sys.executable, str(BENCHMARK), *options]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"([\d.]+) GiB, predicted ([\d.]+)", said)
    assert found is not None, said
    peak, predicted = map(float, found.groups())
    return peak, predicted
