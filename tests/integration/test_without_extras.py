"""What does not train is imported where the packages of training are not installed."""

import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "src" / "ziggurat"
TRAINING = ("engine", "demo")


def test_core_imports_without_the_extras() -> None:
    paths = sorted(path.relative_to(SOURCE).with_suffix("") for path in SOURCE.rglob("*.py"))
    assert len(paths) > 100
    modules = [
        ".".join(("ziggurat", *path.parts)).removesuffix(".__init__")
        for path in paths
        if path.parts[0] not in TRAINING
    ]
    code = f"""
import importlib, sys
for name in ("lightning", "pytorch_lightning", "tensorboard"):
    sys.modules[name] = None
for module in {modules!r}:
    importlib.import_module(module)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
