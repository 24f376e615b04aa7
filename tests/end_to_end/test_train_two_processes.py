"""`ziggurat train` under torchrun: processes on the CPU share one run."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ziggurat.checkpoints.native import load_weights
from ziggurat.cli.main import main

pytestmark = pytest.mark.slow

TINY = """
import os, signal, sys
from pathlib import Path
from ziggurat import zoo
from ziggurat.backbones.p2t import P2T
from ziggurat.cli.main import main
from ziggurat.engine import validation
from ziggurat.engine.module import TrainingModule

def build(*, drop_path_rate=0.0, in_channels=3):
    return P2T((16,) * 4, (1,) * 4, (2,) * 4, (1,) * 4, drop_path_rate, in_channels)

zoo.BACKBONES["p2t_tiny"] = zoo.TRUNKS["p2t_tiny"] = build
original = TrainingModule.training_step

def step(self, batch, batch_idx):
    once = Path(os.environ.get("DIES_ONCE", "/nowhere"))
    if self.global_step == 2 and self.global_rank == 1 and once.is_file():
        once.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    if self.global_step == 2 and self.global_rank == 1 and "POISON" in os.environ:
        batch.images[0, 0, 0, 0] = float("nan")
    return original(self, batch, batch_idx)

TrainingModule.training_step = step
batch_to = validation.batch_to

def move(batch, device):
    if os.environ.pop("STOPS_VALIDATION", None) and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGTERM)
    return batch_to(batch, device)

validation.batch_to = move
sys.exit(main())
"""
"""Runs the command line with a P2T of 16 channels, and what the environment asks for."""

CLASSIFIER = [
    *("p2t_tiny_300e_imagenet", "--data.image_size=72", "--data.resize=80"),
    # Not AdamW: it takes gradients that are nothing but rounding for as good as any others.
    *("--optimizer.kind=sgd", "--optimizer.betas=null", "--optimizer.lr=10"),
    *("--data.auto_augment=null", "--schedule.warmup_epochs=1", "--trainer.ema_decay=null"),
    *("--data.eval_batch_size=2", "--model.drop_path_rate=0", "--data.mixup=0"),
    # Repeated images come in another order for two processes.
    *("--data.cutmix=0", "--data.augmentation_repeats=1", "--trainer.precision=32"),
]
DETECTOR = [
    *("retinanet_p2t_tiny_1x_coco", "--data.short_side=72", "--data.long_side=96"),
    *("--optimizer.kind=sgd", "--optimizer.betas=null", "--optimizer.lr=0.005"),
    *("--model.head_channels=16", "--schedule.warmup_steps=2"),
    *("--schedule.milestones=[50]", "--data.eval_batch_size=1", "--model.drop_path_rate=0"),
]


def run(
    processes: int,
    output: Path,
    *words: str,
    launcher: tuple[str, ...] = (),
    environment: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Train under torchrun, or without it in one process."""
    script = output.parent / "tiny.py"
    script.write_text(TINY)
    torchrun = [
        *("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)),
        *launcher,
    ]
    command = [
        *(sys.executable, *(torchrun if processes > 1 else []), str(script), "train", *words),
        *("--output", str(output), "--data.workers=0", "--trainer.accelerator=cpu"),
        "--trainer.log_every_steps=1",
    ]
    # All processes run on this machine's few cores.
    # Begun again, they must not find the addresses of those before.
    alone = {"OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    variables = os.environ | alone | (environment or {})
    return subprocess.run(
        command, capture_output=True, text=True, timeout=900, env=variables, check=False
    )


@pytest.fixture
def two_hosts() -> Iterator[list[list[str]]]:
    """Two network namespaces with a cable between them.

    Yields:
        What to write before a command that one of them is to run.
    """
    names = [f"ziggurat{os.getpid()}h{number}" for number in range(2)]

    def ip(*words: str) -> bool:
        return not subprocess.run(["ip", *words], capture_output=True, check=False).returncode

    if not shutil.which("ip") or not all(ip("netns", "add", name) for name in names):
        pytest.skip("only root can make network namespaces")
    try:
        cable = ("type", "veth", "peer", "name", "eth0", "netns", names[1])
        assert ip("link", "add", "eth0", "netns", names[0], *cable)
        for number, name in enumerate(names):
            inside = ("netns", "exec", name, "ip")
            assert ip(*inside, "addr", "add", f"10.77.0.{number + 1}/24", "dev", "eth0")
            assert ip(*inside, "link", "set", "eth0", "up")
            assert ip(*inside, "link", "set", "lo", "up")
        yield [["ip", "netns", "exec", name] for name in names]
    finally:
        for name in names:
            ip("netns", "del", name)


def losses_of(output: Path) -> list[float]:
    with (output / "metrics.csv").open(newline="") as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]


ATSS = [
    *(word for word in DETECTOR if "head_channels" not in word),
    *("--model.name=atss", "--model.backbone=p2t_tiny", "--model.head_channels=64"),
]
"""A detector that counts its objects over all processes, as officially; RetinaNet does not."""


@pytest.mark.parametrize(("words", "folder"), [(CLASSIFIER, "image_folder"), (ATSS, "coco_folder")])
def test_two_processes_learn_what_one_does_with_the_same_batch(
    words: list[str], folder: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    root = request.getfixturevalue(folder)
    common = [*words, f"--data.root={root}", "--trainer.max_epochs=20", "--trainer.max_steps=20"]
    common += ["--trainer.val_every_epochs=50"]
    one, two = tmp_path / "one", tmp_path / "two"
    for processes, batch, output in ((1, 4, one), (2, 2, two)):
        done = run(processes, output, *common, f"--data.batch_size={batch}")
        assert done.returncode == 0, done.stderr[-2000:]
    expected, got = losses_of(one), losses_of(two)
    assert len(expected) == 20
    assert max(abs(a - b) for a, b in zip(expected, got, strict=True)) < 1e-5
    assert (
        json.loads((one / "metrics.json").read_text())["last"]["metrics"]
        == json.loads((two / "metrics.json").read_text())["last"]["metrics"]
    )


ADAMW = [
    *(word for word in CLASSIFIER if not word.startswith(("--optimizer.", "--trainer.precision"))),
    *("--optimizer.lr=0.05", "--trainer.precision=bf16"),
]
SEGMENTER = [
    *("segformer_pvt_v2_b0_from_scratch", "--model.backbone=p2t_tiny", "--model.head_channels=16"),
    *("--data.short_side=64", "--data.long_side=96", "--data.crop=[64,64]"),
    *("--optimizer.kind=sgd", "--optimizer.betas=null", "--optimizer.lr=0.01"),
]


@pytest.mark.parametrize(
    ("words", "folder", "loss_tolerance", "weight_tolerance"),
    [
        (CLASSIFIER, "image_folder", 1e-5, 1e-4),
        # AdamW moves by a step what has no gradient but rounding, and no part in the loss.
        (ADAMW, "image_folder", 1e-2, 1e-2),
        (SEGMENTER, "label_folder", 1e-4, 1e-3),
    ],
    ids=["classifier", "bf16", "segmenter"],
)
def test_a_sharded_run_learns_the_same_and_goes_on(
    words: list[str],
    folder: str,
    loss_tolerance: float,
    weight_tolerance: float,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    root = request.getfixturevalue(folder)
    words = [*words, f"--data.root={root}", "--data.batch_size=2"]
    words += ["--trainer.max_epochs=3", "--trainer.clip_norm=1"]
    shared, whole, parts = tmp_path / "shared", tmp_path / "whole", tmp_path / "parts"
    for output, strategy in ((shared, "ddp"), (whole, "fsdp")):
        done = run(2, output, *words, f"--trainer.strategy={strategy}")
        assert done.returncode == 0, done.stderr[-2000:]
    pairs = zip(losses_of(shared), losses_of(whole), strict=True)
    assert max(abs(a - b) for a, b in pairs) < loss_tolerance
    # The weight file is whole, and predicts without other processes.
    expected = load_weights(whole / "last.safetensors").state_dict()
    for name, value in load_weights(shared / "last.safetensors").state_dict().items():
        assert torch.allclose(value, expected[name], atol=weight_tolerance), name
    # One process dies, both begin again, and go on from the checkpoint.
    once = tmp_path / "once"
    once.touch()
    words += ["--trainer.strategy=fsdp", "--trainer.save_every_minutes=1e-6", "--resume", "auto"]
    dies = {"DIES_ONCE": str(once)}
    done = run(2, parts, *words, launcher=("--max-restarts=1",), environment=dies)
    assert done.returncode == 0 and not once.exists(), done.stderr[-2000:]
    got = load_weights(parts / "last.safetensors").state_dict()
    assert all(torch.equal(value, got[name]) for name, value in expected.items())
    assert losses_of(parts) == losses_of(whole)


def test_without_torchrun_the_run_starts_its_processes_itself(
    tmp_path: Path, image_folder: Path
) -> None:
    words = [*CLASSIFIER, f"--data.root={image_folder}", "--trainer.max_epochs=2"]
    words += ["--data.batch_size=2", "--trainer.save_every_minutes=1e-6", "--resume", "auto"]
    expected, whole, parts = (tmp_path / name for name in ("expected", "whole", "parts"))
    assert run(2, expected, *words).returncode == 0
    words.append("--trainer.devices=2")
    done = run(1, whole, *words)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("p2t_tiny: ") == 1  # one of them speaks
    assert losses_of(whole) == losses_of(expected)
    # One of them dies: the other one stops as well, and the same command goes on.
    once = tmp_path / "once"
    once.touch()
    done = run(1, parts, *words, environment={"DIES_ONCE": str(once)})
    assert done.returncode != 0 and not once.exists()
    saved = torch.load(parts / "checkpoints/last.ckpt", weights_only=True)["global_step"]
    assert saved == 2
    done = run(1, parts, *words)
    assert done.returncode == 0, done.stderr[-2000:]
    assert losses_of(parts) == losses_of(whole)


def test_more_processes_than_images_count_each_once(tmp_path: Path, image_folder: Path) -> None:
    # Two images for three processes, the second of which has an epoch of validation for itself.
    for name in ("red", "blue"):
        (image_folder / "val" / name / "1.png").unlink()
    words = [*CLASSIFIER, f"--data.root={image_folder}", "--trainer.max_steps=2"]
    done = run(3, tmp_path / "run", *words, "--data.batch_size=2")
    assert done.returncode == 0, done.stderr[-2000:]
    record = json.loads((tmp_path / "run/metrics.json").read_text())
    assert record["last"]["num_images"] == 2
    # One of them speaks.
    assert done.stdout.count("validation at step 2:") == 1


def test_an_odd_number_of_images_is_counted_once(tmp_path: Path, image_folder: Path) -> None:
    shutil.copy(image_folder / "val/red/0.png", image_folder / "val/red/9.png")
    words = [*CLASSIFIER, f"--data.root={image_folder}", "--trainer.max_steps=2"]
    done = run(2, tmp_path / "run", *words, "--data.batch_size=2")
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads((tmp_path / "run/metrics.json").read_text())["last"]["num_images"] == 5


@pytest.mark.parametrize("mean", ["null", "0.5"])
def test_the_weights_that_are_saved_are_those_that_were_validated(
    mean: str, tmp_path: Path, label_folder: Path
) -> None:
    # Batch norms of each process have seen other images, and no SyncBN makes them one.
    words = ["topformer_seg_tiny_from_scratch", f"--data.root={label_folder}"]
    words += ["--data.crop=[64,64]", "--data.short_side=64", "--data.long_side=96"]
    words += ["--data.batch_size=2", "--trainer.max_steps=2", f"--trainer.ema_decay={mean}"]
    done = run(2, tmp_path / "run", *words)
    assert done.returncode == 0, done.stderr[-2000:]
    last = json.loads((tmp_path / "run/metrics.json").read_text())["last"]
    weights, output = str(tmp_path / "run/last.safetensors"), str(tmp_path / "evaluation")
    words = ["--data.root", str(label_folder), "-o", output, "--batch_size=1"]
    assert main(["evaluate", weights, *words]) == 0
    again = json.loads((tmp_path / "evaluation/evaluation.json").read_text())["metrics"]
    assert again["mIoU"] == pytest.approx(last["metrics"]["mIoU"], abs=1e-6)
    assert again["aAcc"] == pytest.approx(last["metrics"]["aAcc"], abs=1e-6)


@pytest.mark.parametrize("recipe", ["retinanet_p2t_tiny_1x_coco", "mask_rcnn_p2t_tiny_1x_coco"])
def test_a_process_without_an_object_of_a_class(
    recipe: str, tmp_path: Path, coco_folder: Path
) -> None:
    # One image for each process: what one of them sees has always some class missing.
    path = coco_folder / "annotations/instances_train.json"
    content = json.loads(path.read_text())
    for annotation in content["annotations"][:6]:
        annotation["bbox"][2:] = [0, 32]  # no target: an image without objects
    path.write_text(json.dumps(content))
    words = [*DETECTOR[1:], f"--data.root={coco_folder}", "--trainer.max_steps=3"]
    depth = ["--model.head_depth=1"] if recipe.startswith("retinanet") else []
    done = run(2, tmp_path / "run", recipe, *words, *depth, "--data.batch_size=1")
    assert done.returncode == 0, done.stderr[-2000:]
    record = json.loads((tmp_path / "run/metrics.json").read_text())
    assert (record["last"]["step"], record["last"]["num_images"]) == (3, 4)


def test_a_process_that_dies_is_started_again_and_the_run_goes_on(
    tmp_path: Path, image_folder: Path
) -> None:
    words = [*CLASSIFIER, f"--data.root={image_folder}", "--trainer.max_epochs=2"]
    words += ["--data.batch_size=2", "--trainer.save_every_minutes=1e-6", "--resume", "auto"]
    whole, output, once = tmp_path / "whole", tmp_path / "run", tmp_path / "once"
    assert run(2, whole, *words).returncode == 0
    once.touch()
    dies = {"DIES_ONCE": str(once)}
    done = run(2, output, *words, environment=dies)
    assert done.returncode != 0 and "SIGKILL" in done.stderr
    saved = torch.load(output / "checkpoints/last.ckpt", weights_only=True)["global_step"]
    assert saved == 2
    once.touch()
    shutil.rmtree(output)
    done = run(2, output, *words, launcher=("--max-restarts=1",), environment=dies)
    assert done.returncode == 0, done.stderr[-2000:]
    assert not once.exists()
    assert done.stdout.count("p2t_tiny: ") == 2  # it began twice
    expected = load_weights(whole / "last.safetensors").state_dict()
    got = load_weights(output / "last.safetensors").state_dict()
    assert all(torch.equal(value, got[name]) for name, value in expected.items())


def test_a_loss_that_is_no_number_in_one_process_stops_both(
    tmp_path: Path, image_folder: Path
) -> None:
    words = [*CLASSIFIER, f"--data.root={image_folder}", "--data.batch_size=2"]
    done = run(2, tmp_path / "run", *words, environment={"POISON": "1"})
    assert done.returncode != 0
    assert "at step 2 in another process, which says for which images" in done.stderr
    assert "at step 2: classification = nan for images" in done.stderr
    assert "the images themselves are not finite" in done.stderr
    assert (tmp_path / "run/bad_batch_step_2_process_1.safetensors").is_file()


def test_a_signal_to_one_process_during_a_validation_stops_both(
    tmp_path: Path, image_folder: Path
) -> None:
    words = [*CLASSIFIER, f"--data.root={image_folder}", "--data.batch_size=2"]
    words += ["--trainer.max_epochs=2", "--trainer.val_every_epochs=1", "--data.eval_batch_size=1"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run(2, whole, *words).returncode == 0
    done = run(2, parts, *words, environment={"STOPS_VALIDATION": "1"})
    assert done.returncode != 0
    assert "last.ckpt is of step 3, `ziggurat train" in done.stderr
    saved = torch.load(parts / "checkpoints/last.ckpt", weights_only=True)["global_step"]
    assert saved == 3
    assert not (parts / "metrics.json").exists()
    done = run(2, parts, *words, "--resume")
    assert done.returncode == 0, done.stderr[-2000:]
    assert (parts / "metrics.json").read_text() == (whole / "metrics.json").read_text()


def test_two_hosts_share_a_run(
    tmp_path: Path, image_folder: Path, two_hosts: list[list[str]]
) -> None:
    words = [*CLASSIFIER, f"--data.root={image_folder}", "--data.batch_size=2"]
    assert run(2, tmp_path / "here", *words, "--trainer.max_epochs=2").returncode == 0
    words += ["--trainer.max_epochs=2", "--data.workers=0", "--trainer.accelerator=cpu"]
    hosts = [
        subprocess.Popen(
            [
                *(*prefix, sys.executable, "-m", "torch.distributed.run", "--nnodes", "2"),
                *("--node_rank", str(number), "--nproc_per_node", "1"),
                *("--master_addr", "10.77.0.1", "--master_port", "29500"),
                *(str(tmp_path / "tiny.py"), "train", *words, "--trainer.log_every_steps=1"),
                *("--output", str(tmp_path / "hosts")),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "eth0"},
        )
        for number, prefix in enumerate(two_hosts)
    ]
    for host in hosts:
        _, errors = host.communicate(timeout=900)
        assert host.returncode == 0, errors[-2000:]
    assert losses_of(tmp_path / "hosts") == losses_of(tmp_path / "here")
