"""`ziggurat train` under torchrun: two processes on the CPU share one run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def run_in_two_processes(recipe: str, output: Path, *words: str) -> str:
    """Run two steps under torchrun and return what was said."""
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"),
        *("-m", "ziggurat", "train", recipe, "--output", str(output)),
        *("--data.workers=0", "--trainer.accelerator=cpu", "--trainer.max_steps=2", *words),
    ]
    # Both processes run on this machine's few cores.
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_two_processes_count_every_image_once(tmp_path: Path, image_folder: Path) -> None:
    # Five images, which two processes cannot share equally.
    shutil.copy(image_folder / "val/red/0.png", image_folder / "val/red/9.png")
    output = tmp_path / "run"
    said = run_in_two_processes(
        "p2t_tiny_from_scratch",
        output,
        *(f"--data.root={image_folder}", "--data.image_size=72", "--data.resize=80"),
        *("--data.batch_size=2", "--data.eval_batch_size=2"),
    )
    record = json.loads((output / "metrics.json").read_text())
    assert record["last"]["step"] == 2
    assert record["last"]["num_images"] == 5
    assert (output / "best.safetensors").is_file()
    # One of the two speaks, and the two share the twelve images: three steps of four an epoch.
    assert said.count("validation at step 2:") == 1
    assert "step 2/2" in said


@pytest.mark.slow
def test_two_processes_train_a_detector_that_leaves_a_map_unused(
    tmp_path: Path, coco_folder: Path
) -> None:
    output = tmp_path / "run"
    said = run_in_two_processes(
        "retinanet_pvt_v2_b0_from_scratch",
        output,
        *(f"--data.root={coco_folder}", "--data.short_side=72", "--data.long_side=96"),
        *("--data.batch_size=2", "--model.head_channels=16", "--model.head_depth=1"),
    )
    record = json.loads((output / "metrics.json").read_text())
    assert (record["last"]["step"], record["last"]["num_images"]) == (2, 4)
    assert "step 2/2" in said
