"""Registration waits for timm, happens once, and cannot break timm.

A stand-in for timm and one for what registers make it quick; both are the real ones in
tests/end_to_end/test_timm_users.py.
"""

import subprocess
import sys
from pathlib import Path

import pytest

START = """
import importlib.util, sys, types, warnings
warnings.simplefilter("error")
sys.path.insert(0, {folder!r})
calls = []
stand_in = types.ModuleType("ziggurat.timm_bridge.ziggurat_models")
stand_in.register = lambda: calls.append(sys.modules["timm"].answer)
sys.modules[stand_in.__name__] = stand_in
"""


def run(code: str, folder: Path, timm: str = "answer = 42") -> None:
    package = folder / "timm"
    package.mkdir()
    (package / "__init__.py").write_text(timm)
    program = START.format(folder=str(folder)) + code
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_ziggurat_first(tmp_path: Path) -> None:
    run(
        """
import ziggurat
assert calls == [] and "timm" not in sys.modules and "torch" not in sys.modules
import timm
assert calls == [42]
""",
        tmp_path,
    )


def test_timm_first(tmp_path: Path) -> None:
    run("import timm\nimport ziggurat\nassert calls == [42]", tmp_path)


def test_looking_for_timm_does_not_use_the_hook_up(tmp_path: Path) -> None:
    run(
        """
import ziggurat
assert importlib.util.find_spec("timm") is not None
assert calls == []
import timm
assert calls == [42]
""",
        tmp_path,
    )


def test_timm_keeps_its_own_loader(tmp_path: Path) -> None:
    run(
        """
import ziggurat, timm
kind = type(timm.__loader__).__name__
assert kind == "SourceFileLoader" == type(timm.__spec__.loader).__name__
assert timm.__loader__.get_source("timm") == "answer = 42"
""",
        tmp_path,
    )


def test_a_second_installation_adds_no_second_finder(tmp_path: Path) -> None:
    run(
        """
import ziggurat
from ziggurat.timm_bridge.hook import FinderOfTimm, install
install()
assert sum(isinstance(finder, FinderOfTimm) for finder in sys.meta_path) == 1
""",
        tmp_path,
    )


def test_timm_that_is_imported_again_is_filled_again(tmp_path: Path) -> None:
    run(
        """
import ziggurat, timm
del sys.modules["timm"]
import timm
assert calls == [42, 42]
""",
        tmp_path,
    )


def test_timm_works_where_our_models_cannot_be_registered(tmp_path: Path) -> None:
    run(
        """
import ziggurat
def fail():
    raise ImportError("no such function")
stand_in.register = fail
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import timm
assert timm.answer == 42
assert "no such function" in str(caught[0].message), caught
assert "timm works" in str(caught[0].message)
""",
        tmp_path,
    )


@pytest.mark.parametrize("first", ["ziggurat", "timm"])
def test_an_error_in_timm_itself_is_passed_on(first: str, tmp_path: Path) -> None:
    run(
        f"""
try:
    import {first}, timm
except RuntimeError as error:
    assert str(error) == "broken"
else:
    raise AssertionError
assert calls == []
""",
        tmp_path,
        timm="raise RuntimeError('broken')",
    )


def test_ziggurat_works_without_timm(tmp_path: Path) -> None:
    run(
        """
import ziggurat
sys.meta_path = [f for f in sys.meta_path if type(f).__name__ == "FinderOfTimm"]
try:
    import timm
except ModuleNotFoundError:
    pass
else:
    raise AssertionError
""",
        tmp_path,
    )
