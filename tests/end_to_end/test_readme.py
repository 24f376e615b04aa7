"""The README's four commands and its Python, word for word, on data like a user's."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch

import ziggurat
from ziggurat.cli.main import main

README = Path(__file__).resolve().parents[2] / "README.md"
# A run of seconds instead of days; the commands themselves stay as they are.
SMALL = [
    "--data.short_side=64",
    "--data.long_side=64",
    "--data.batch_size=4",
    "--data.workers=0",
    "--model.head_channels=8",
    "--model.head_depth=1",
    "--trainer.max_steps=2",
    "--trainer.accelerator=cpu",
]


@pytest.fixture
def trained(coco_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run the block "Your own data" in a folder that has my_data/ and photos/."""
    monkeypatch.chdir(tmp_path)
    shutil.move(coco_folder, tmp_path / "my_data")
    shutil.copytree(tmp_path / "my_data" / "val", tmp_path / "photos")
    text = README.read_text()
    block = re.search(r"## Your own data\n\n```\n(.*?)```", text, re.DOTALL)
    assert block is not None
    commands = [shlex.split(line.split("#")[0]) for line in block[1].splitlines()]
    assert [words[1] for words in commands] == ["data", "train", "evaluate", "predict"]
    for words in commands:
        extra = SMALL if words[1] == "train" else []
        assert main([*words[1:], *extra]) == 0, words
    return tmp_path


def test_the_four_commands_work(trained: Path) -> None:
    assert (trained / "contact_sheet.jpg").is_file()
    assert (trained / "runs/my/best.safetensors").is_file()
    assert (trained / "runs/my/evaluation/evaluation.json").is_file()
    assert len(list((trained / "predictions").glob("*.jpg"))) == 4
    assert (trained / "predictions/predictions.json").is_file()


def test_the_python_blocks_that_need_weights_work(trained: Path) -> None:
    shutil.copy(next((trained / "photos").iterdir()), trained / "photo.jpg")
    model = ziggurat.create_model("p2t_tiny")
    official = {_official_name(name): value.clone() for name, value in model.state_dict().items()}
    torch.save(official, trained / "p2t_tiny.pth")
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    needy = [code for code in blocks if "# needs:" in code]
    assert len(needy) == 2
    for code in needy:
        exec(compile(code, "README.md", "exec"), {"ziggurat": ziggurat})
    assert (trained / "out.jpg").is_file()


def _official_name(name: str) -> str:
    """Name of our classifier's entry in the authors' file."""
    name = name.removeprefix("backbone.").replace("head.fc.", "head.")
    name = re.sub(r"stages\.(\d)\.blocks", lambda m: f"block{int(m[1]) + 1}", name)
    name = re.sub(r"stages\.(\d)\.pool_convs", lambda m: f"d_convs{int(m[1]) + 1}", name)
    name = re.sub(r"stages\.(\d)\.patch_embed", lambda m: f"patch_embed{int(m[1]) + 1}", name)
    name = re.sub(r"attn\.(q|kv)\.", r"attn.\1.0.", name)
    return name.replace("pool_norm", "norm")
