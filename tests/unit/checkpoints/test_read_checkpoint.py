"""Official files in every wrapping are read; everything else is refused by name."""

import argparse
import json
import os
import pickle
import struct
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from ziggurat.checkpoints.read import read_checkpoint, read_stored, select_weights
from ziggurat.errors import ZigguratError

WEIGHTS = {"head.weight": torch.arange(6.0).reshape(2, 3), "head.bias": torch.tensor([0.5, -1.0])}


def _same(got: dict[str, Tensor]) -> bool:
    return list(got) == list(WEIGHTS) and all(torch.equal(got[n], WEIGHTS[n]) for n in WEIGHTS)


@pytest.mark.parametrize(
    "content",
    [
        WEIGHTS,
        OrderedDict(WEIGHTS),
        {f"module.{name}": value for name, value in WEIGHTS.items()},
        {"model": WEIGHTS, "epoch": 3, "args": argparse.Namespace(lr=0.1, data="x")},
        {"state_dict": WEIGHTS, "meta": {"CLASSES": ("a", "b"), "best": np.float64(0.5)}},
        {"model": {f"module.{name}": value for name, value in WEIGHTS.items()}},
        {"model": WEIGHTS, "model_ema": {name: value + 1 for name, value in WEIGHTS.items()}},
    ],
    ids=["plain", "ordered", "module", "model", "state_dict", "both", "ema beside"],
)
@pytest.mark.parametrize("use_zip", [True, False], ids=["zip", "legacy"])
def test_every_wrapping_of_torch_files(tmp_path: Path, content: object, use_zip: bool) -> None:
    path = tmp_path / "official.pth"
    torch.save(content, path, _use_new_zipfile_serialization=use_zip)
    assert _same(read_checkpoint(path))


@pytest.mark.parametrize("key", ["state_dict_ema", "model_ema", "ema_state_dict"])
def test_averaged_weights_are_taken_on_request_only(tmp_path: Path, key: str) -> None:
    path = tmp_path / "official.pth"
    averaged = {f"module.{name}": value for name, value in WEIGHTS.items()}
    torch.save({key: averaged, "model": {"w": torch.ones(1)}, "epoch": 3}, path)
    assert list(read_checkpoint(path)) == ["w"]
    assert _same(read_checkpoint(path, use_ema=True))
    torch.save({key: averaged}, path)
    with pytest.raises(ZigguratError, match=f"averaged weights only, under '{key}'.*use_ema"):
        read_checkpoint(path)
    assert _same(read_checkpoint(path, use_ema=True))
    torch.save({"model": WEIGHTS}, path)
    with pytest.raises(ZigguratError, match="has no averaged weights"):
        read_checkpoint(path, use_ema=True)


def test_averages_with_a_counter(tmp_path: Path) -> None:
    path = tmp_path / "official.pth"
    averaged = {f"module.{name}": value for name, value in WEIGHTS.items()}
    counted = {"n_averaged": torch.tensor(3)} | averaged
    torch.save({"model": {"w": torch.ones(1)}, "model_ema": counted}, path)
    assert _same(read_checkpoint(path, use_ema=True))


def test_mmengine_saves_the_average_in_front(tmp_path: Path) -> None:
    path = tmp_path / "official.pth"
    others = {f"module.{name}": value + 1 for name, value in WEIGHTS.items()}
    content = {"state_dict": WEIGHTS, "ema_state_dict": {"steps": torch.tensor(10)} | others}
    torch.save(content, path)
    for use_ema in (False, True):
        assert _same(read_checkpoint(path, use_ema=use_ema))
    assert not read_stored(path).has_unused_average


def test_numpy_objects_beside_the_weights(tmp_path: Path) -> None:
    meta = {"best": np.float32(0.5), "seen": np.int64(3), "palette": np.eye(3, dtype=np.uint8)}
    torch.save({"state_dict": WEIGHTS, "meta": meta}, tmp_path / "official.pth")
    assert _same(read_checkpoint(tmp_path / "official.pth"))


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.bin"])
def test_safetensors_by_name_or_content(tmp_path: Path, name: str) -> None:
    save_file(WEIGHTS, tmp_path / name)
    got = read_checkpoint(tmp_path / name)
    assert {n: v.tolist() for n, v in got.items()} == {n: v.tolist() for n, v in WEIGHTS.items()}


def test_integers_and_half_precision_are_kept(tmp_path: Path) -> None:
    content = {"bn.num_batches_tracked": torch.tensor(7), "w": torch.ones(2, dtype=torch.bfloat16)}
    torch.save(content, tmp_path / "a.pth")
    got = read_checkpoint(tmp_path / "a.pth")
    assert [value.dtype for value in got.values()] == [torch.int64, torch.bfloat16]


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_what_compiling_puts_before_names_is_stripped(prefix: str) -> None:
    assert list(select_weights({f"{prefix}a.b": torch.ones(1)}, "here")) == ["a.b"]


def test_module_is_stripped_only_from_all_names() -> None:
    content = {"module.a": torch.ones(1), "b": torch.ones(1)}
    assert list(select_weights(content, "x")) == ["module.a", "b"]


class _Command:
    """A pickle that runs a shell command wherever it is opened carelessly."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


def _save_raw(content: object, path: Path, protocol: int) -> None:
    path.write_bytes(pickle.dumps(content, protocol=protocol))


SAVERS = {
    "zip": lambda content, path: torch.save(content, path),
    "legacy": lambda content, path: torch.save(content, path, _use_new_zipfile_serialization=False),
    "protocol 0": lambda content, path: _save_raw(content, path, 0),
    "protocol 2": lambda content, path: _save_raw(content, path, 2),
    "protocol 4": lambda content, path: _save_raw(content, path, 4),
    "protocol 5": lambda content, path: _save_raw(content, path, 5),
}


@pytest.mark.parametrize("saver", SAVERS)
@pytest.mark.parametrize("beside_weights", [True, False])
def test_a_pickle_that_runs_code_is_refused(
    tmp_path: Path, saver: str, beside_weights: bool
) -> None:
    path, marker = tmp_path / "evil.pth", tmp_path / "it_ran"
    content: object = _Command(marker)
    if beside_weights:
        content = {"state_dict": WEIGHTS, "meta": content}
    SAVERS[saver](content, path)
    with pytest.raises(ZigguratError, match=r"refused and nothing in it was run.*posix\.system"):
        read_checkpoint(path)
    assert not marker.exists()
    # The file is a real one: opened carelessly, it does run.
    if saver.startswith("protocol"):
        pickle.loads(path.read_bytes())
        assert marker.exists()


def test_a_whole_pickled_module_is_refused_by_name(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pth")
    with pytest.raises(ZigguratError, match=r"refused.*Linear.*state dict"):
        read_checkpoint(tmp_path / "module.pth")


@pytest.mark.parametrize("call", [eval, torch.hub.load, getattr])
def test_other_calls_are_refused_too(tmp_path: Path, call: Callable[..., object]) -> None:
    class Call:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return call, ("1",)

    torch.save({"a": Call()}, tmp_path / "evil.pth")
    with pytest.raises(ZigguratError, match=f"refused.*{call.__name__}"):
        read_checkpoint(tmp_path / "evil.pth")


def test_missing_folder_and_empty(tmp_path: Path) -> None:
    with pytest.raises(ZigguratError, match=r"no file .*nowhere\.pth"):
        read_checkpoint(tmp_path / "nowhere.pth")
    with pytest.raises(ZigguratError, match="is a folder"):
        read_checkpoint(tmp_path)
    (tmp_path / "empty.pth").touch()
    with pytest.raises(ZigguratError, match=r"empty\.pth is empty"):
        read_checkpoint(tmp_path / "empty.pth")


def test_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret.pth"
    path.write_bytes(b"x")

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", denied)
    with pytest.raises(ZigguratError, match="cannot read .*Permission denied"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "content",
    [
        b"epoch,loss\n1,0.5\n",
        b"<!DOCTYPE html><html>404</html>",
        b"version https://git-lfs.github.com/spec/v1\n",
        b"\x89PNG\r\n\x1a\n" + bytes(50),
        bytes(100),
        b"x",
    ],
)
def test_what_is_no_checkpoint_is_shown(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(ZigguratError, match="is not a checkpoint") as caught:
        read_checkpoint(tmp_path / "a.pth")
    assert repr(content[:10])[2:-1] in str(caught.value)


@pytest.mark.parametrize("keep", [0.3, 0.9, 0.999])
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_truncated(tmp_path: Path, kind: str, keep: float) -> None:
    path = tmp_path / ("a.safetensors" if kind == "safetensors" else "a.pth")
    weights = {"w": torch.randn(1000)}
    if kind == "safetensors":
        save_file(weights, path)
    else:
        SAVERS[kind](weights, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(ZigguratError, match="truncated"):
        read_checkpoint(path)


def test_archives_that_torch_did_not_write(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "photos.pth", "w") as archive:
        archive.writestr("photo.txt", "hello")
    with pytest.raises(ZigguratError, match=r"no data\.pkl"):
        read_checkpoint(tmp_path / "photos.pth")
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", bytes(10_000_000))
    with pytest.raises(ZigguratError, match="compressed archive"):
        read_checkpoint(tmp_path / "bomb.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e5m2])
def test_values_that_are_not_finite(tmp_path: Path, value: float, dtype: torch.dtype) -> None:
    bad = torch.tensor([1.0, value, 2.0]).to(dtype)
    torch.save({"good": torch.ones(3), "layer.bad": bad}, tmp_path / "a.pth")
    with pytest.raises(ZigguratError, match=r"'layer\.bad' of .*a\.pth holds NaN or infinite"):
        read_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.ones(2, dtype=torch.complex64),
        lambda: torch.ones(2, device="meta"),
        lambda: torch.eye(3).to_sparse(),
        lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
    ],
    ids=["complex", "meta", "sparse", "quantized"],
)
def test_tensors_that_are_no_plain_numbers(make: Callable[[], Tensor]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch is giving up quantized tensors; old files hold some
        value = make()
    with pytest.raises(ZigguratError, match="'w' of here is no plain tensor"):
        select_weights({"w": value}, "here")


def test_a_tensor_that_claims_more_than_the_file_holds(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1).expand(10**12)}, tmp_path / "huge.pth")
    with pytest.raises(ZigguratError, match=r"claims the shape \(1000000000000,\)"):
        read_checkpoint(tmp_path / "huge.pth")


@pytest.mark.parametrize(
    ("shape", "end"),
    [([10**12], 4 * 10**12), ([2**40, 2**40], 8), ([3], 8), ([2], 2**63), ([-2], 8)],
)
def test_safetensors_that_claim_more_than_they_hold(
    tmp_path: Path, shape: list[int], end: int
) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}})
    content = struct.pack("<Q", len(header)) + header.encode() + bytes(8)
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(ZigguratError, match="truncated, damaged"):
        read_checkpoint(tmp_path / "a.safetensors")


@pytest.mark.parametrize("content", [struct.pack("<Q", 2**60) + b"{}", b"\x01", b"text, no header"])
def test_safetensors_without_a_header(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(ZigguratError, match="truncated, damaged"):
        read_checkpoint(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "got list"),
        ({}, "got an empty mapping"),
        (3.5, "got float"),
        ({"state_dict": {}}, "got an empty mapping"),
        ({"epoch": 3, "loss": 0.1}, "'epoch' is a int"),
        ({"w": torch.ones(1), "names": ["a"]}, "'names' is a list"),
        ({3: torch.ones(1)}, "the name of an entry is a int, expected text"),
    ],
)
def test_files_without_weights(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(ZigguratError, match=message):
        read_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_protocols_of_pickles(protocol: int, is_zip: bool, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(
        {"a": torch.ones(3)},
        path,
        pickle_protocol=protocol,
        _use_new_zipfile_serialization=is_zip,
    )
    if protocol <= 3:
        assert read_checkpoint(path)["a"].tolist() == [1, 1, 1]
        return
    with pytest.raises(ZigguratError, match=rf"was written with pickle protocol {protocol}, which"):
        read_checkpoint(path)
