"""A run that is killed, whenever that is, and goes on ends like one that was never stopped."""

import csv
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ziggurat import zoo
from ziggurat.backbones.p2t import P2T
from ziggurat.cli.main import main

pytestmark = pytest.mark.slow

COMMON = [
    *("--data.batch_size=2", "--trainer.accelerator=cpu", "--trainer.accumulate=2"),
    *("--trainer.ema_decay=0.8", "--trainer.clip_norm=5", "--trainer.log_every_steps=2"),
    "--trainer.max_epochs=4",
]
DETECTOR = [
    *("--data.short_side=72", "--data.long_side=96", "--data.train_short_sides=[66,72]"),
    *("--schedule.milestones=[2]", "--schedule.warmup_steps=3"),
    *("--optimizer.lr=0.004", "--trainer.max_epochs=3"),
]
RUNS = {
    "classification": [
        *("p2t_tiny_300e_imagenet", "--data.root={image_folder}", "--data.image_size=72"),
        *("--data.resize=80", "--data.workers=0", "--model.drop_path_rate=0.2"),
        *("--schedule.warmup_epochs=1", "--trainer.val_every_epochs=1"),
    ],
    "detection": [
        *("retinanet_p2t_tiny_1x_coco", "--data.root={coco_folder}", *DETECTOR),
        *("--model.head_channels=16", "--model.head_depth=1", "--data.workers=0"),
        *("--trainer.val_every_steps=4",),
    ],
    "instance_segmentation": [
        *("mask_rcnn_p2t_tiny_1x_coco", "--data.root={coco_folder}", *DETECTOR),
        *("--model.head_channels=16", "--data.workers=1", "--data.copy_paste=0.5"),
        "--trainer.max_epochs=2",
    ],
    "semantic_segmentation": [
        *("segformer_pvt_v2_b0_from_scratch", "--model.backbone=p2t_tiny"),
        *("--data.root={label_folder}", "--model.head_channels=16", "--data.short_side=64"),
        *("--data.long_side=96", "--data.crop=[64,64]", "--data.workers=0"),
        *("--trainer.val_every_epochs=2",),
    ],
    "keypoint_detection": [
        *("keypoint_rcnn_p2t_tiny_from_scratch", "--data.root={coco_folder}"),
        *("--data.short_side=72", "--data.long_side=96", "--model.head_channels=16"),
        *("--model.train_regions=32", "--data.workers=0", "--trainer.val_every_epochs=1"),
        "--trainer.max_epochs=2",
    ],
    "overlapping_masks": [
        *("segformer_pvt_v2_b0_from_scratch", "--model.backbone=p2t_tiny"),
        *("--data.root={mask_folder}", "--model.head_channels=16", "--data.short_side=64"),
        *("--data.long_side=96", "--data.crop=[64,64]", "--data.workers=1"),
        *("--trainer.val_every_epochs=2", "--trainer.max_epochs=2"),
    ],
}
KILLS = {task: 5 for task in RUNS} | {"keypoint_detection": 2, "overlapping_masks": 2}
"""Of each kind of run: two are like another one, but for what they learn from."""
CLOCKS = ("train/images_per_second", "train/seconds")
"""Columns that no two runs have in common."""


def train(
    words: list[str],
    kill_after: float | None,
    kill_in_save: int | None,
    duration: Path,
    log: Path,
) -> None:
    """Run `ziggurat train` with a tiny backbone in a process of its own.

    Args:
        words: Of the command line.
        kill_after: Seconds from the first step to SIGKILL, or None.
        kill_in_save: Number of the checkpoint that is half written at SIGKILL, or None.
        duration: Takes the seconds from the first step to the end.
        log: Takes what is said.
    """
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)

    def build(*, drop_path_rate: float = 0.0, in_channels: int = 3) -> P2T:
        sixteen, one, two = (16,) * 4, (1,) * 4, (2,) * 4
        return P2T(sixteen, one, two, one, drop_path_rate, in_channels)

    zoo.BACKBONES["p2t_tiny"] = zoo.TRUNKS["p2t_tiny"] = build
    from ziggurat.engine.module import TrainingModule

    starts: list[float] = []
    original = TrainingModule.training_step

    def step(self: TrainingModule, *args: Any) -> torch.Tensor:
        if not starts:
            starts.append(time.monotonic())
            if kill_after is not None:
                threading.Timer(kill_after, os.kill, (os.getpid(), signal.SIGKILL)).start()
        return original(self, *args)

    TrainingModule.training_step = step  # type: ignore[assignment,method-assign]
    saves = [0]
    save_whole = torch.save

    def save(content: object, file: Any) -> None:
        save_whole(content, file)
        saves[0] += 1
        if saves[0] == kill_in_save:
            file.truncate(file.tell() // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    torch.save = save  # type: ignore[assignment]
    code = main(["train", *words])
    duration.write_text(str(time.monotonic() - starts[0] if starts else 0.0))
    # Not sys.exit: a timer that has not fired must not keep the process.
    sys.stdout.flush()
    os._exit(code)


@pytest.fixture(scope="module")
def processes() -> Any:
    """Processes that begin with everything imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ziggurat.engine.train", "ziggurat.cli.train"])
    return context


Start = Callable[..., int]


@pytest.fixture
def start(processes: Any, tmp_path: Path) -> Start:
    """Run a training in another process and return its exit code."""

    def run(
        words: list[str], kill_after: float | None = None, kill_in_save: int | None = None
    ) -> int:
        arguments = (words, kill_after, kill_in_save, tmp_path / "duration", tmp_path / "log")
        process = processes.Process(target=train, args=arguments)
        process.start()
        process.join()
        code: int = process.exitcode
        return code

    return run


@pytest.mark.parametrize("task", RUNS)
def test_killed_at_random_moments(
    task: str,
    start: Start,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    capfd: pytest.CaptureFixture[str],
) -> None:
    words = command_of(task, request)
    whole = tmp_path / "whole"
    assert start([*words, f"--output={whole}"]) == 0
    seconds = float((tmp_path / "duration").read_text())
    draw = random.Random(task)
    lines: list[str] = []
    while len(lines) < KILLS[task]:
        killed = tmp_path / f"killed_{len(lines)}"
        often = draw.choice([1e-6, 1e-2])  # after every step, or now and then
        parts = [*words, f"--output={killed}", f"--trainer.save_every_minutes={often}"]
        delay = draw.uniform(0.0, seconds)
        if start(parts, delay) == 0:  # it was faster this time, and there was nothing to kill
            shutil.rmtree(killed)
            continue
        assert start([*parts, "--resume", "auto"]) == 0, (tmp_path / "log").read_text()
        said = (tmp_path / "log").read_text()
        assert_same_run(whole, killed)
        lines.append(f"{task}: killed {delay:.2f} s after the first step, {how_it_began(said)}")
    with capfd.disabled():
        print("", *lines, sep="\n")


@pytest.mark.parametrize("task", RUNS)
def test_killed_while_a_checkpoint_is_written(
    task: str, start: Start, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    words = [*command_of(task, request), "--trainer.save_every_minutes=1e-6"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start([*words, f"--output={whole}"]) == 0
    assert start([*words, f"--output={killed}"], kill_in_save=4) == -signal.SIGKILL
    assert list((killed / "checkpoints").glob(".new.ckpt.*.tmp"))
    assert start([*words, f"--output={killed}", "--resume"]) == 0
    assert not list((killed / "checkpoints").glob(".*"))
    assert_same_run(whole, killed)


@pytest.mark.parametrize("task", ["classification", "detection"])
def test_a_disk_that_is_full(
    task: str, start: Start, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    words = [*command_of(task, request), "--trainer.save_every_minutes=1e-6"]
    whole, disk = tmp_path / "whole", tmp_path / "disk"
    assert start([*words, f"--output={whole}"]) == 0
    # Room for one checkpoint with all that is beside it, and not for a second.
    checkpoint = (whole / "checkpoints/last.ckpt").stat().st_size
    everything = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file())
    room = (everything - checkpoint) // 1024
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={room}k", "none", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a file system of a given size")
    try:
        assert start([*words, f"--output={disk / 'run'}"]) == 1
        subprocess.run(["mount", "-o", "remount,size=1g", str(disk)], check=True)
        assert start([*words, f"--output={disk / 'run'}", "--resume"]) == 0
        assert_same_run(whole, disk / "run")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def command_of(task: str, request: pytest.FixtureRequest) -> list[str]:
    recipe, *words = RUNS[task]
    folder = {
        "classification": "image_folder",
        "semantic_segmentation": "label_folder",
        "overlapping_masks": "mask_folder",
    }.get(task, "coco_folder")
    root = request.getfixturevalue(folder)
    return [recipe, *COMMON, *(word.format_map({folder: root}) for word in words)]


def how_it_began(said: str) -> str:
    steps = [line for line in said.splitlines() if "  step " in line]
    return f"then first said {steps[0].split('  loss')[0]!r}" if steps else "then only validated"


def assert_same_run(whole: Path, parts: Path) -> None:
    """Hold everything that two runs left against each other, bit for bit."""
    for name in ("last.safetensors", "best.safetensors"):
        assert (whole / name).read_bytes() == (parts / name).read_bytes(), name
    assert json.loads((whole / "metrics.json").read_text()) == json.loads(
        (parts / "metrics.json").read_text()
    )
    assert rows_of(whole) == rows_of(parts)
    contents = [
        torch.load(folder / "checkpoints/last.ckpt", weights_only=True) for folder in (whole, parts)
    ]
    for content in contents:
        del content["callbacks"]["Progress"]["seconds"]
    assert_equal(contents[0], contents[1], "last.ckpt")


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [
            {name: value for name, value in row.items() if name not in CLOCKS}
            for row in csv.DictReader(file)
        ]


def assert_equal(first: Any, second: Any, name: str) -> None:
    assert type(first) is type(second), name
    if isinstance(first, dict):
        assert first.keys() == second.keys(), name
        for key in first:
            assert_equal(first[key], second[key], f"{name}/{key}")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), name
        for number, (one, other) in enumerate(zip(first, second, strict=True)):
            assert_equal(one, other, f"{name}/{number}")
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second), name
    else:
        assert first == second, name
