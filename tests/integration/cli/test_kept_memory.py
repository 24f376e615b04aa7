"""Commands that predict on the CPU keep the memory that they free."""

import pytest
import torch

from ziggurat.cli import memory
from ziggurat.cli.main import main
from ziggurat.cli.memory import keep_memory


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note what the C library would be told."""
    told: list[str] = []
    monkeypatch.setattr(memory, "keep_freed_memory", lambda: told.append("keep"))
    monkeypatch.setattr(memory, "has_glibc", lambda: True)
    return told


@pytest.mark.parametrize(("device", "times"), [("cpu", 1), ("cuda", 0)])
def test_memory_is_kept_on_the_cpu(
    device: str, times: int, kept: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "choose_device", torch.device)
    keep_memory(device)
    assert len(kept) == times
    monkeypatch.setattr(memory, "has_glibc", lambda: False)
    keep_memory(device)
    assert len(kept) == times


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "{weights}", "{image}"],
        ["evaluate", "{weights}", "--data.root={folder}"],
    ],
)
def test_commands_keep_it(
    words: list[str], kept: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("data")
    (folder / "photo.jpg").write_bytes(b"")
    weights = folder / "weights.safetensors"
    weights.write_bytes(b"no weights")
    known = {"weights": weights, "image": folder / "photo.jpg", "folder": folder}
    filled = [word.format(**known) for word in words]
    assert main([*filled, "--device=cpu", f"--output={folder / 'out'}"]) == 1
    assert kept == ["keep"]
