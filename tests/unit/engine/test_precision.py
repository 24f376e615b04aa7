"""Which numbers a run computes with, where there are such, and what a GPU would be faster with."""

from pathlib import Path

import pytest
import torch

from ziggurat.config import TrainerConfig, load_run
from ziggurat.engine.precision import faster_precision, products_in
from ziggurat.engine.processes import check_device
from ziggurat.engine.train import train
from ziggurat.errors import ZigguratError


def set_gpu(patch: pytest.MonkeyPatch, *, has_tf32: bool, has_bf16: bool) -> None:
    patch.setattr(torch.cuda, "is_tf32_supported", lambda: has_tf32)
    patch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16)


@pytest.mark.parametrize(("precision", "kind"), [("32", "highest"), ("tf32", "high")])
def test_products_of_a_block(precision: str, kind: str) -> None:
    with products_in(precision):
        assert torch.get_float32_matmul_precision() == kind
    assert torch.get_float32_matmul_precision() == "highest"


class _AskedError(Exception):
    pass


def test_a_run_asks_for_its_products_and_leaves_others_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def ask(_: object) -> None:
        asked.append(torch.get_float32_matmul_precision())
        raise _AskedError

    monkeypatch.setattr("ziggurat.engine.train.keep_memory", ask)
    words = ["--data.root=/data", "--trainer.precision=tf32"]
    with pytest.raises(_AskedError):
        train(load_run("p2t_tiny_from_scratch", words), tmp_path / "run")
    assert asked == ["high"]
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize(
    ("device", "has_tf32", "is_refused"),
    [("cuda", True, False), ("cuda", False, True), ("cpu", True, True), ("mps", True, True)],
)
def test_tf32_is_refused_where_there_is_none(
    device: str, has_tf32: bool, is_refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_gpu(monkeypatch, has_tf32=has_tf32, has_bf16=True)
    config = TrainerConfig(precision="tf32")
    if not is_refused:
        check_device(config, device, 1)
        return
    with pytest.raises(ZigguratError, match="must be 32 where there is no GPU .*, got 'tf32'"):
        check_device(config, device, 1)


@pytest.mark.parametrize("accelerator", ["cpu", "mps"])
def test_tf32_is_refused_before_a_device_is_looked_for(accelerator: str) -> None:
    words = [
        "--data.root=/data",
        "--trainer.precision=tf32",
        f"--trainer.accelerator={accelerator}",
    ]
    with pytest.raises(
        ZigguratError, match=f"32 or bf16 where trainer.accelerator is {accelerator}"
    ):
        load_run("p2t_tiny_from_scratch", words)


@pytest.mark.parametrize(
    ("precision", "device", "has_tf32", "part"),
    [
        ("32", "cuda", True, "trainer.precision tf32 does so faster on this GPU"),
        ("32", "cuda", False, None),
        ("tf32", "cuda", True, None),
        ("bf16", "cuda", False, "has no bf16 and only imitates it; trainer.precision fp16 or 32"),
        ("bf16", "cuda", True, None),
        ("32", "cpu", True, None),
        ("bf16", "mps", False, None),
    ],
)
def test_what_a_gpu_would_be_faster_with(
    precision: str,
    device: str,
    has_tf32: bool,
    part: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_gpu(monkeypatch, has_tf32=has_tf32, has_bf16=has_tf32)  # the same GPUs have both
    said = faster_precision(precision, device)
    assert said is None if part is None else said is not None and part in said
