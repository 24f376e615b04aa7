"""Whatever bytes a file holds, reading it ends with weights or with one clear sentence."""

import contextlib
import pickle
from io import BytesIO
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from ziggurat.checkpoints.read import read_checkpoint
from ziggurat.errors import ZigguratError

WEIGHTS = {"layer.weight": torch.arange(12.0).reshape(3, 4), "layer.bias": torch.ones(3)}


def _torch_file(use_zip: bool) -> bytes:
    buffer = BytesIO()
    content = {"state_dict": WEIGHTS}
    torch.save(content, buffer, _use_new_zipfile_serialization=use_zip)
    return buffer.getvalue()


FILES = {
    "zip.pth": _torch_file(True),
    "legacy.pth": _torch_file(False),
    "tensors.safetensors": save(WEIGHTS),
    "paddle.pdparams": pickle.dumps({n: v.numpy() for n, v in WEIGHTS.items()}, protocol=4),
    "blobs.pkl": pickle.dumps({"blobs": {n: v.numpy() for n, v in WEIGHTS.items()}}, protocol=2),
}
few = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize("name", FILES)
@few
@given(data=st.data())
def test_cut_anywhere(tmp_path: Path, name: str, data: st.DataObject) -> None:
    content = FILES[name]
    cut = data.draw(st.integers(0, len(content) - 1))
    (tmp_path / name).write_bytes(content[:cut])
    with pytest.raises(ZigguratError):
        read_checkpoint(tmp_path / name)


@pytest.mark.parametrize("name", FILES)
@few
@given(data=st.data())
def test_bytes_changed_anywhere(tmp_path: Path, name: str, data: st.DataObject) -> None:
    content = bytearray(FILES[name])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / name).write_bytes(content)
    with contextlib.suppress(ZigguratError):
        weights = read_checkpoint(tmp_path / name)
        assert all(bool(torch.isfinite(value.double()).all()) for value in weights.values())


@few
@given(content=st.binary(max_size=200), name=st.sampled_from(list(FILES)))
def test_any_bytes(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ZigguratError):
        read_checkpoint(tmp_path / name)
