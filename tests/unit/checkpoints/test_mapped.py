"""A mapped file costs memory only while it is read."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from ziggurat.checkpoints.mapped import keep, release_of
from ziggurat.checkpoints.read import read_stored

SAVERS: dict[str, Callable[[dict[str, Tensor], Path], None]] = {
    "zip": lambda weights, path: torch.save(weights, path),
    "safetensors": save_file,
}
needs_linux = pytest.mark.skipif(
    not Path("/proc/self/maps").exists(), reason="only Linux lists the mappings of a process"
)


def _mapped_bytes() -> int:
    found = re.search(r"RssFile:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


@needs_linux
@pytest.mark.parametrize("saver", SAVERS)
def test_what_is_released_leaves_the_memory_and_can_be_read_again(
    tmp_path: Path, saver: str
) -> None:
    path = tmp_path / "weights"
    size = 2**24
    weights = {"a": torch.arange(float(size // 4)), "b": torch.ones(3)}
    SAVERS[saver](weights, path)
    stored = read_stored(path)
    before = _mapped_bytes()
    total = stored.tensors["a"].double().sum()
    assert _mapped_bytes() - before > 0.9 * size
    stored.release(stored.tensors["a"])
    assert _mapped_bytes() - before < 0.1 * size
    assert torch.equal(stored.tensors["a"].double().sum(), total)
    assert torch.equal(stored.tensors["b"], weights["b"])


def test_memory_that_is_no_mapped_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    torch.save({"a": torch.ones(2**20)}, path)
    stored = read_stored(path)
    own = torch.ones(2**20)
    stored.release(own)
    assert own.sum() == 2**20


def test_a_file_that_is_not_mapped_has_nothing_to_release(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"x")
    assert release_of(tmp_path / "weights") is keep
    torch.save({"a": torch.ones(2)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert read_stored(tmp_path / "old.pth").release is keep


LOADING = """
import json, re, sys
import torch
from ziggurat import zoo
from ziggurat.checkpoints.official import load_official

def memory(kind):
    return int(re.search(kind + r":\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024

before = memory("VmRSS")
model = zoo.create_model("p2t_large")
load_official(model, sys.argv[1])
size = sum(value.nbytes for value in model.state_dict().values())
print(json.dumps({"peak": memory("VmHWM") - before, "size": size}))
"""

SAVING = """
import sys
import torch
from safetensors.torch import save_file
from ziggurat import zoo

def official(name):
    for stage in range(4):
        name = name.replace(f"backbone.stages.{stage}.blocks.", f"block{stage + 1}.")
        name = name.replace(f"backbone.stages.{stage}.pool_convs.", f"d_convs{stage + 1}.")
        name = name.replace(f"backbone.stages.{stage}.patch_embed.", f"patch_embed{stage + 1}.")
    name = name.replace("attn.pool_norm.", "attn.norm.").replace("head.fc.", "head.")
    return name.replace("attn.q.", "attn.q.0.").replace("attn.kv.", "attn.kv.0.")

weights = zoo.create_model("p2t_large").state_dict()
weights = {official(name): value for name, value in weights.items()}
save = torch.save if sys.argv[1].endswith(".pth") else save_file
save(weights, sys.argv[1])
"""


@pytest.mark.slow
@needs_linux
@pytest.mark.parametrize("name", ["official.pth", "official.safetensors"])
def test_loading_p2t_large_needs_little_more_than_its_size(tmp_path: Path, name: str) -> None:
    path = str(tmp_path / name)
    subprocess.run([sys.executable, "-c", SAVING, path], check=True)
    done = subprocess.run(
        [sys.executable, "-c", LOADING, path], check=True, capture_output=True, text=True
    )
    measured = json.loads(done.stdout)
    assert measured["size"] > 200e6
    assert measured["size"] < measured["peak"] < 1.2 * measured["size"]
