"""The names that `import ziggurat` promises are there, whole, and cost nothing before their use."""

import subprocess
import sys
from types import ModuleType

import pytest

import ziggurat
from ziggurat.errors import ZigguratError


def test_every_public_name_is_what_it_says() -> None:
    assert ziggurat.__all__ == list(ziggurat._HOMES)
    for name in ziggurat.__all__:
        assert getattr(ziggurat, name).__name__ == name
    assert set(ziggurat.__all__) <= set(dir(ziggurat))
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        _ = ziggurat.trian


def test_importing_ziggurat_is_cheap() -> None:
    code = (
        "import sys, ziggurat\n"
        "heavy = {'torch', 'timm', 'lightning', 'numpy', 'PIL', 'matplotlib', 'yaml'}\n"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_training_names_the_extra_that_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> ModuleType:
        raise ModuleNotFoundError(f"No module named 'lightning', for {name}", name="lightning")

    monkeypatch.setattr(ziggurat, "import_module", fail)
    with pytest.raises(ZigguratError, match=r"training needs lightning, .* 'ziggurat\[train\]'"):
        _ = ziggurat.train
    with pytest.raises(ModuleNotFoundError):
        _ = ziggurat.load
