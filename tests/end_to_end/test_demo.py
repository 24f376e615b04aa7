"""The demo in small: all its parts, in the time of a test."""

from pathlib import Path

import pytest

from ziggurat import demo
from ziggurat.cli.main import main
from ziggurat.errors import ZigguratError


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "NUM_IMAGES", 24)
    monkeypatch.setattr(demo, "VAL_FRACTION", 0.25)
    monkeypatch.setattr(demo, "IMAGE_SIDE", 64)


@pytest.mark.usefixtures("small")
def test_the_demo_ends_with_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "demo"
    assert main(["demo", "--output", str(output), "--minutes", "0.1"]) == 0
    page = (output / "report.html").read_text()
    assert page.count("<img") >= 2 * 6  # truth and prediction of every held-back image
    assert "AP50" in page
    assert "ziggurat train retinanet_p2t_tiny_from_scratch --data.root my_data/" in page
    assert 'src="http' not in page
    said = capsys.readouterr().out
    assert "left" in said  # progress with the time left
    assert "on held-back images" in said
    assert (output / "run" / "best.safetensors").is_file()


def test_the_demo_replaces_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep = tmp_path / "keep.txt"
    keep.write_text("mine")
    assert main(["demo", "--output", str(tmp_path)]) == 1
    assert "holds something already" in capsys.readouterr().err
    assert keep.read_text() == "mine"


def test_a_second_demo_gets_a_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("demo", "demo_2"):
        (tmp_path / name).mkdir()
    outputs: list[Path] = []

    def run_demo(output: Path, **options: object) -> None:
        outputs.append(output)
        raise ZigguratError("enough")

    monkeypatch.setattr(demo, "run_demo", run_demo)
    assert main(["demo"]) == 1
    assert outputs == [Path("demo_3")]


@pytest.mark.parametrize("minutes", ["0", "nan", "inf"])
def test_the_demo_needs_time(
    minutes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--output", str(tmp_path / "new"), "--minutes", minutes]) == 1
    assert "--minutes must be a number above 0" in capsys.readouterr().err
