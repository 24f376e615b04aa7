"""What is wrong with an output is said before the work."""

from pathlib import Path

import pytest

from ziggurat.cli import evaluate
from ziggurat.cli.main import main
from ziggurat.cli.outputs import folder_for, free_name, make_place
from ziggurat.errors import ZigguratError


def test_a_folder_goes_again_where_nothing_came_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    with pytest.raises(RuntimeError), folder_for(folder):
        assert folder.is_dir()
        raise RuntimeError
    assert not folder.exists()
    with pytest.raises(RuntimeError), folder_for(folder):
        (folder / "result").touch()
        raise RuntimeError
    assert (folder / "result").exists()
    (folder / "result").unlink()
    with pytest.raises(RuntimeError), folder_for(folder):
        raise RuntimeError
    assert folder.is_dir()  # which was there before


def test_places_of_files(tmp_path: Path) -> None:
    make_place(tmp_path / "new" / "page.html")
    assert (tmp_path / "new").is_dir()
    with pytest.raises(ZigguratError, match="new is a folder; name a file in it"):
        make_place(tmp_path / "new")
    with pytest.raises(ZigguratError, match="cannot be made: .*; choose another one"):
        make_place(Path("/proc/nowhere/page.html"))


def test_free_names(tmp_path: Path) -> None:
    for name in ("a.jpg", "a_2.jpg", "a_3.jpg"):
        assert free_name(tmp_path / "a.jpg") == tmp_path / name
        (tmp_path / name).touch()


def test_evaluate_tries_its_output_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(evaluate, "evaluate", fail)
    file = tmp_path / "file"
    file.touch()
    assert main(["evaluate", "run", "-o", str(file)]) == 1
    assert "file cannot be made: File exists; choose another one" in capsys.readouterr().err
