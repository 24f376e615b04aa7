"""Files of Paddle and Detectron: pickles of NumPy arrays, whatever wrote them."""

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ziggurat.checkpoints.read import read_checkpoint, select_weights
from ziggurat.checkpoints.safe_pickle import read_pickle
from ziggurat.errors import ZigguratError

ARRAYS: dict[str, Any] = {
    "conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "bn._mean": np.array([0.5, -1.0], dtype=np.float32),
    "steps": np.array(7, dtype=np.int64),
}


class PaddleTensor:
    """Is pickled as Paddle does it where tensors lie in other containers than a state dict."""

    def __init__(self, name: str, array: Any) -> None:
        self.pair = (name, array)

    def __reduce__(self) -> tuple[Any, tuple[Any]]:
        return tuple, (self.pair,)


def _same(got: dict[str, Tensor]) -> bool:
    return list(got) == list(ARRAYS) and all(
        np.array_equal(got[name].numpy(), ARRAYS[name]) for name in ARRAYS
    )


INTERNAL_NAMES = {"conv.weight": "conv2d_0.w_0", "bn._mean": "batch_norm_0.w_1"}
WRAPPINGS = {
    "without metadata": ARRAYS,
    "ordered": OrderedDict(ARRAYS),
    "with metadata": ARRAYS | {"StructuredToParameterName@@": INTERNAL_NAMES},
    "from a training run": {
        "model": {n: PaddleTensor(f"param_{n}", array) for n, array in ARRAYS.items()},
        "epoch": 300,
        "lr": 1e-3,
    },
    "blobs of Detectron": {"cfg": "MODEL:\n  TYPE: rcnn\n", "blobs": ARRAYS},
}


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_every_wrapping_and_protocol(tmp_path: Path, wrapping: str, protocol: int) -> None:
    path = tmp_path / "model.pdparams"
    path.write_bytes(pickle.dumps(WRAPPINGS[wrapping], protocol))
    got = read_checkpoint(path)
    assert _same(got)
    assert [value.dtype for value in got.values()] == [torch.float32, torch.float32, torch.int64]


@pytest.mark.parametrize("protocol", [2, 5])
def test_order_of_bytes_and_of_axes(tmp_path: Path, protocol: int) -> None:
    expected = np.arange(6, dtype=np.float32).reshape(2, 3)
    arrays = {
        "big endian": expected.astype(">f4"),
        "by columns": np.asfortranarray(expected),
        "backwards": expected[::-1].copy()[::-1],
        "empty": expected[:0],
        "half": expected.astype(np.float16),
    }
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(arrays, protocol))
    got = read_checkpoint(path)
    assert got.pop("empty").shape == (0, 3)
    for name, value in got.items():
        assert value.tolist() == expected.tolist(), name


def test_pickles_of_python_2(tmp_path: Path) -> None:
    # pickle.dumps({"blobs": {"w": numpy.array([1, -2], "f4")}}, 2), where all text is bytes.
    content = (
        b"\x80\x02}U\x05blobs}U\x01wcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
        b"K\x00\x85U\x01b\x87R(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"U\x08\x00\x00\x80\x3f\x00\x00\x00\xc0tbss."
    )
    (tmp_path / "R-50.pkl").write_bytes(content)
    assert read_checkpoint(tmp_path / "R-50.pkl")["w"].tolist() == [1.0, -2.0]


def test_arrays_that_paddle_cut_up(tmp_path: Path) -> None:
    whole = np.arange(12, dtype=np.float32).reshape(3, 4)
    content = {
        "a": np.ones(2, np.float32),
        "w@@.0": whole.reshape(-1)[:7],
        "w@@.1": whole.reshape(-1)[7:],
        "UnpackBigParamInfor@@": {"w": {"OriginShape": (3, 4), "slices": ["w@@.0", "w@@.1"]}},
    }
    path = tmp_path / "big.pdparams"
    path.write_bytes(pickle.dumps(content, 2))
    got = read_checkpoint(path)
    assert list(got) == ["a", "w"]
    assert got["w"].tolist() == whole.tolist()


@pytest.mark.parametrize(
    "pieces",
    [
        {"OriginShape": (3, 4), "slices": ["w@@.0", "w@@.2"]},
        {"OriginShape": (3, 5), "slices": ["w@@.0"]},
        {"OriginShape": "x", "slices": ["w@@.0"]},
        {"slices": ["w@@.0"]},
        {"OriginShape": (3, 4), "slices": []},
        {"OriginShape": (10**6, 10**6), "slices": ["w@@.0"]},
        ["w@@.0"],
        None,
    ],
)
def test_pieces_that_do_not_fit(pieces: object) -> None:
    content = {"w@@.0": np.ones(12, np.float32), "UnpackBigParamInfor@@": {"w": pieces}}
    with pytest.raises(ZigguratError, match="'w' of here is cut up and its pieces do not fit"):
        select_weights(content, "here")


@pytest.mark.parametrize(
    "array",
    [
        np.array([1 + 2j]),
        np.array(["a", "b"]),
        np.array([None, 1], dtype=object),
        np.zeros(2, dtype=[("x", "f4")]),
        np.array(["2020-01-01"], dtype="M8[D]"),
    ],
    ids=["complex", "text", "objects", "records", "dates"],
)
def test_arrays_of_other_things_than_numbers(tmp_path: Path, array: Any) -> None:
    (tmp_path / "a.pdparams").write_bytes(pickle.dumps({"w": array}, 4))
    with pytest.raises(ZigguratError, match=r"damaged .*an array of type"):
        read_checkpoint(tmp_path / "a.pdparams")
    with pytest.raises(ZigguratError, match=r"no plain weights: entry 'w' is a ndarray"):
        select_weights({"w": array}, "here")


def test_arrays_that_are_not_finite(tmp_path: Path) -> None:
    bad = {"w": np.array([1.0, np.nan], np.float32)}
    (tmp_path / "a.pdparams").write_bytes(pickle.dumps(bad, 4))
    with pytest.raises(ZigguratError, match="'w' of .*holds NaN"):
        read_checkpoint(tmp_path / "a.pdparams")


def test_tensors_in_a_pickle_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(pickle.dumps({"w": torch.ones(2)}))
    with pytest.raises(ZigguratError, match=r"refused.*torch\."):
        read_checkpoint(tmp_path / "a.pth")


def test_the_text_protocol_of_python_2(tmp_path: Path) -> None:
    path = tmp_path / "old.pkl"
    path.write_bytes(b"(dp0\nS'a'\nS'\xe4'\ns.")
    with pytest.raises(ZigguratError, match=r"old\.pkl is a pickle of Python 2 in the text proto"):
        read_pickle(path)
