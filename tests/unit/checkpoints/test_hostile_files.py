"""Small files that claim much, or hide what they ask for, cost nothing and say so.

Each is opened in this process: if one of them got what it claims, ten gigabytes would show.
"""

import io
import pickle
import resource
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ziggurat.checkpoints.read import read_checkpoint
from ziggurat.checkpoints.stored_arrays import encode, scalar
from ziggurat.errors import ZigguratError

TEN_GIGABYTES = 10 * 2**30


class Call:
    """A pickle that calls a function where it is opened carelessly."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


@pytest.fixture(autouse=True)
def little_memory() -> Iterator[None]:
    """Fail a test that makes this process grow by more than 300 MB.

    Yields:
        Nothing.
    """
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 300 * 1024, f"{grown // 1024} MB"


CLAIMS = {
    "tensor": Call(torch.FloatTensor, TEN_GIGABYTES // 4),
    "bytearray": Call(bytearray, TEN_GIGABYTES),
    "storage": Call(torch.UntypedStorage, TEN_GIGABYTES),
    "zeros": Call(np.zeros, (TEN_GIGABYTES,)),
    "void": Call(np.dtype, f"V{TEN_GIGABYTES % 2**31}"),
    "range": Call(list, range(TEN_GIGABYTES)),
}


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle"])
def test_calls_that_would_fill_the_memory(tmp_path: Path, kind: str, claim: str) -> None:
    path = tmp_path / "claims.pth"
    content = {"w": CLAIMS[claim]}
    if kind == "pickle":
        path.write_bytes(pickle.dumps(content, 4))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(ZigguratError, match=r"refused|damaged|no plain weights"):
        read_checkpoint(path)


def test_an_array_that_is_never_filled_is_empty(tmp_path: Path) -> None:
    content = {"w": Call(np.ndarray, (TEN_GIGABYTES,), np.dtype("i1"))}
    (tmp_path / "a.pdparams").write_bytes(pickle.dumps(content, 2))
    assert read_checkpoint(tmp_path / "a.pdparams")["w"].shape == (0,)


def _array_pickle(shape: tuple[int, ...], code: str, data: bytes) -> bytes:
    """The pickle of an array whose parts need not fit each other."""

    class Lie:
        def __reduce__(self) -> tuple[Any, ...]:
            parts: Any = np.zeros(1).__reduce__()
            return parts[0], parts[1], (1, shape, np.dtype(code), False, data)

    return pickle.dumps({"w": Lie()}, 2)


@pytest.mark.parametrize(
    ("shape", "code", "data"),
    [
        ((TEN_GIGABYTES,), "f4", b"\0" * 8),
        ((2**40, 2**40), "f4", b""),
        ((3,), "f4", b"\0" * 8),
        ((-2,), "f4", b"\0" * 8),
        ((-1, -2), "f4", b"\0" * 8),
        ((2,), "f4", b""),
    ],
)
def test_arrays_that_claim_another_size(
    tmp_path: Path, shape: tuple[int, ...], code: str, data: bytes
) -> None:
    (tmp_path / "a.pdparams").write_bytes(_array_pickle(shape, code, data))
    with pytest.raises(ZigguratError, match=r"damaged .*an array of shape .* bytes"):
        read_checkpoint(tmp_path / "a.pdparams")


def test_the_array_pickle_is_a_real_one(tmp_path: Path) -> None:
    (tmp_path / "a.pdparams").write_bytes(_array_pickle((2,), "f4", struct.pack("<2f", 1, -2)))
    assert read_checkpoint(tmp_path / "a.pdparams")["w"].tolist() == [1.0, -2.0]


def test_numbers_and_bytes_are_only_what_is_in_the_file() -> None:
    kind = _array_kind("<f8")
    assert scalar(kind, struct.pack("<d", 0.5)) == 0.5
    assert scalar(kind, struct.pack("<d", 0.5).decode("latin1")) == 0.5
    with pytest.raises(pickle.UnpicklingError, match="with 4 bytes"):
        scalar(kind, b"\0" * 4)
    assert encode("\xff", "latin1") == b"\xff"
    with pytest.raises(pickle.UnpicklingError, match="'rot13'"):
        encode("a", "rot13")


def _array_kind(code: str) -> Any:
    from ziggurat.checkpoints.stored_arrays import StoredType

    kind = StoredType(code[1:], False, True)
    kind.__setstate__((3, code[0], None, None, None, -1, -1, 0))
    return kind


@pytest.mark.parametrize("number", [2**26, 2**31 - 1, 2**32 - 1])
def test_a_memo_slot_far_out(tmp_path: Path, number: int) -> None:
    (tmp_path / "a.pkl").write_bytes(b"\x80\x02}r" + struct.pack("<I", number) + b".")
    with pytest.raises(ZigguratError, match=f"damaged .*memo slot {number}"):
        read_checkpoint(tmp_path / "a.pkl")


@pytest.mark.parametrize("length", [TEN_GIGABYTES, 2**62])
def test_bytes_that_are_not_there(tmp_path: Path, length: int) -> None:
    (tmp_path / "a.pkl").write_bytes(b"\x80\x04\x8e" + struct.pack("<Q", length) + b"ab.")
    with pytest.raises(ZigguratError, match="truncated or damaged"):
        read_checkpoint(tmp_path / "a.pkl")


@pytest.mark.parametrize("use_zip", [True, False], ids=["zip", "legacy"])
def test_a_storage_that_claims_ten_gigabytes(tmp_path: Path, use_zip: bool) -> None:
    path = tmp_path / "a.pth"
    torch.save({"w": torch.ones(65537)}, path, _use_new_zipfile_serialization=use_zip)
    # 65537 is in the pickle as four bytes, wherever a number of values is stated.
    claimed = path.read_bytes().replace(struct.pack("<i", 65537), struct.pack("<i", 2**31 - 1))
    path.write_bytes(claimed)
    with pytest.raises(ZigguratError, match=r"claims the shape|damaged"):
        read_checkpoint(path)


def _archive(entries: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_an_archive_whose_parts_claim_more_than_the_whole(tmp_path: Path) -> None:
    content = bytearray(_archive({"a/data.pkl": b"x" * 1000, "a/data/0": b"y" * 1000}))
    # The directory at the end of an archive states sizes: packed at 20, unpacked at 24.
    entry = content.rfind(b"PK\x01\x02")
    content[entry + 20 : entry + 28] = struct.pack("<II", 2**32 - 2, 2**32 - 2)
    (tmp_path / "bomb.pth").write_bytes(content)
    with pytest.raises(ZigguratError, match="claim 429496[0-9]* bytes and the whole file has"):
        read_checkpoint(tmp_path / "bomb.pth")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a/data.pkl", "b/data.pkl"], "it has 2 data.pkl"),
        (["a/data.pkl", "a/DATA.PKL"], "it has 2 data.pkl"),
        (["a/other.pkl"], "it has no data.pkl"),
        (["a/data.pkl", "a/constants.pkl"], "a program of TorchScript"),
    ],
)
def test_archives_with_other_parts(tmp_path: Path, names: list[str], message: str) -> None:
    (tmp_path / "a.pth").write_bytes(_archive({name: pickle.dumps({}, 2) for name in names}))
    with pytest.raises(ZigguratError, match=message):
        read_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize("name", ["items", "keys", "get", "__getitem__"])
def test_a_mapping_that_hides_its_methods(tmp_path: Path, name: str) -> None:
    class Hiding:
        def __reduce__(self) -> tuple[Any, ...]:
            return OrderedDict, (), {name: 3}, None, iter([("w", torch.ones(2))])

    torch.save({"state_dict": Hiding()}, tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth")["w"].tolist() == [1.0, 1.0]


def test_several_names_are_shown_at_once(tmp_path: Path) -> None:
    content = {"a": Call(eval, "1"), "b": Call(getattr, "c", "d")}
    (tmp_path / "a.pdparams").write_bytes(pickle.dumps(content, 2))
    with pytest.raises(ZigguratError, match=r"asks for __builtin__\.eval, __builtin__\.getattr"):
        read_checkpoint(tmp_path / "a.pdparams")


LENGTH = 2**14


def _repeated(what: str, count: int) -> bytes:
    """A pickle that makes something of 16 kB and has it copied again and again."""
    names = {
        "encode": b"c_codecs\nencode\n",
        "list": b"cbuiltins\ntuple\n",
        "settings": b"cargparse\nNamespace\n",
        "frombuffer": b"cnumpy.core.numeric\n_frombuffer\n",
        "state": b"cnumpy\nndarray\n",
    }
    kind = b"cnumpy\ndtype\nX\x02\x00\x00\x00f4\x85R"
    data = b"B" + struct.pack("<I", LENGTH) + bytes(LENGTH)
    shape = b"J" + struct.pack("<i", LENGTH // 4) + b"\x85"
    latin = b"X\x06\x00\x00\x00latin1"
    entries = b"".join(b"X\x04\x00\x00\x00%04x\x88" % i for i in range(LENGTH // 8))
    arguments = {
        "encode": b"X" + struct.pack("<I", LENGTH) + b"a" * LENGTH + latin + b"\x86",
        "list": b"](" + b"K\x00" * (LENGTH // 2) + b"e\x85",
        "settings": b"}(" + entries + b"u",
        "frombuffer": b"(" + data + kind + shape + b"X\x01\x00\x00\x00Ct",
        "state": b"(K\x01" + shape + kind + b"\x89" + data + b"t",
    }
    is_built = what in ("settings", "state")
    call = b"h\x00)Rh\x01b" if is_built else b"h\x00h\x01R"
    start = b"\x80\x04" + names[what] + b"q\x00" + arguments[what] + b"q\x01"
    return start + b"](" + call * count + b"e."


@pytest.mark.parametrize("kind", ["zip", "pickle"])
@pytest.mark.parametrize("what", ["encode", "list", "settings", "frombuffer", "state"])
def test_what_is_copied_many_times(tmp_path: Path, what: str, kind: str) -> None:
    program = _repeated(what, 1500)
    path = tmp_path / "a.pkl"
    path.write_bytes(_archive({"a/data.pkl": program}) if kind == "zip" else program)
    with pytest.raises(ZigguratError, match="refused .* is in its .* bytes again and again"):
        read_checkpoint(path)
    path.write_bytes(_repeated(what, 1))
    with pytest.raises(ZigguratError, match="no weights: .* got list"):
        read_checkpoint(path)


DOUBLED = b")q\x01" + b"h\x01h\x01\x86q\x01" * 30
"""A tuple of two, each of which is one of two, and so on: of a billion parts."""
HALF_DOUBLED = b")q\x01" + b"h\x01h\x01\x86q\x01" * 16
"""One of 100 000 parts."""


@pytest.mark.parametrize("kind", ["zip", "pickle"])
@pytest.mark.parametrize(
    "program",
    [
        DOUBLED + b"}h\x01K\x01s.",
        b"})" + b"\x85" * 200_000 + b"K\x01s.",
        HALF_DOUBLED + b"}" + b"h\x01K\x01s" * 100 + b".",
        HALF_DOUBLED + b"(h\x01\x910" * 100 + b"}.",
    ],
    ids=["doubled", "deep", "many", "sets"],
)
def test_keys_that_would_be_hashed_forever(tmp_path: Path, program: bytes, kind: str) -> None:
    program = b"\x80\x02" + program
    path = tmp_path / "a.pkl"
    path.write_bytes(_archive({"a/data.pkl": program}) if kind == "zip" else program)
    with pytest.raises(
        ZigguratError, match=r"refused .*(a tuple of \d+|more than 100|again and again)"
    ):
        read_checkpoint(path)


def test_names_that_are_no_text_are_not_shown(tmp_path: Path) -> None:
    program = b"\x80\x02)q\x01" + b"h\x01h\x01\x86q\x01" * 14 + b"}h\x01K\x01s."
    (tmp_path / "a.pkl").write_bytes(program)
    with pytest.raises(ZigguratError, match="name of an entry is a tuple, expected text"):
        read_checkpoint(tmp_path / "a.pkl")


def test_an_array_under_many_names_is_converted_once(tmp_path: Path) -> None:
    array = np.asfortranarray(np.ones((1024, 256), np.float32))
    content = dict.fromkeys((f"w{i}" for i in range(400)), array)
    (tmp_path / "a.pdparams").write_bytes(pickle.dumps(content, 4))
    assert len(read_checkpoint(tmp_path / "a.pdparams")) == 400


def test_a_piece_that_is_one_of_many_arrays(tmp_path: Path) -> None:
    piece = np.ones(2**18, np.float32)
    content: dict[str, Any] = {f"p{i}": piece for i in range(400)}
    cut = {f"w{i}": {"OriginShape": (2**18,), "slices": [f"p{i}"]} for i in range(400)}
    (tmp_path / "a.pdparams").write_bytes(pickle.dumps(content | {"UnpackBigParamInfor@@": cut}, 4))
    with pytest.raises(ZigguratError, match="'w1' of .*an array is two pieces"):
        read_checkpoint(tmp_path / "a.pdparams")


def test_programs_that_take_what_is_not_there(tmp_path: Path) -> None:
    for program in (b"\x80\x02\x85.", b"\x80\x02t.", b"\x80\x02h\x05.", b"\x80\x02K\x01(\x85."):
        (tmp_path / "a.pkl").write_bytes(program)
        with pytest.raises(ZigguratError, match="damaged"):
            read_checkpoint(tmp_path / "a.pkl")
