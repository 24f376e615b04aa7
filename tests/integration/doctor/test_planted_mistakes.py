"""Mistakes that users make, one planted in each test: the check that is for it names it."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from ziggurat import zoo
from ziggurat.checkpoints.native import save_weights
from ziggurat.doctor import balance, overfit, speed
from ziggurat.doctor.anchors import check_anchors
from ziggurat.doctor.balance import check_balance
from ziggurat.doctor.classes import check_classes
from ziggurat.doctor.clock import Clock
from ziggurat.doctor.colours import as_imagenet, check_colours
from ziggurat.doctor.duplicates import check_duplicates
from ziggurat.doctor.faults import check_faults
from ziggurat.doctor.findings import Finding
from ziggurat.doctor.learning_rate import check_learning_rate
from ziggurat.doctor.numbers import check_numbers
from ziggurat.doctor.overfit import check_overfit
from ziggurat.doctor.plain import image_paths
from ziggurat.doctor.sizes import check_sizes
from ziggurat.doctor.speed import check_speed
from ziggurat.doctor.subject import Subject
from ziggurat.doctor.weights import check_weights
from ziggurat.errors import ZigguratError
from ziggurat.preprocessing import CAFFE_PIXELS, IMAGENET_PIXELS, FitInside
from ziggurat.zoo import Model

Opened = Callable[..., Subject]
Check = Callable[[Subject, Clock], list[Finding]]


def found(check: Check, subject: Subject, *, seconds: float = 60.0) -> dict[str, Finding]:
    return {finding.check: finding for finding in check(subject, Clock(seconds))}


def classifier_file(path: Path, classes: tuple[str, ...], *, is_trained: bool) -> Path:
    model = zoo.create_model("p2t_tiny", num_classes=len(classes))
    model.classes = classes
    if is_trained:
        spoil(model)
    save_weights(model, path)
    return path


def spoil(model: Model) -> None:
    """Move every value a little, as training does."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))


def change_images(folder: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    for path in folder.rglob("*.jpg"):
        Image.fromarray(change(np.asarray(Image.open(path)))).save(path.with_suffix(".png"))
        path.unlink()


def test_published_recipe_without_weights(opened: Opened) -> None:
    words = ("--model.head_channels=16", "--data.workers=1")
    subject = opened("segmentation", *words, recipe="semantic_fpn_p2t_tiny_80k_ade20k")
    finding = found(check_weights, subject)["pretrained weights"]
    assert finding.verdict == "error"
    assert "starts from ImageNet weights" in finding.evidence
    assert "give p2t_tiny.pth as model.backbone_weights" in finding.fix


def test_weights_that_were_never_trained(opened: Opened, tmp_path: Path) -> None:
    file = classifier_file(tmp_path / "fresh.safetensors", ("a", "b"), is_trained=False)
    subject = opened("segmentation", f"--model.backbone_weights={file}")
    finding = found(check_weights, subject)["pretrained weights"]
    assert finding.verdict == "error"
    assert "was never trained" in finding.evidence


def test_trained_weights_are_well(opened: Opened, tmp_path: Path) -> None:
    file = classifier_file(tmp_path / "trained.safetensors", ("a", "b"), is_trained=True)
    subject = opened("segmentation", f"--model.backbone_weights={file}")
    finding = found(check_weights, subject)["pretrained weights"]
    assert finding.verdict == "ok"
    num_entries = len(subject.model.backbone.state_dict())
    assert f"backbone {num_entries} of {num_entries}" in finding.evidence
    assert "head 0 of" in finding.evidence
    assert "features differ" in finding.evidence


def test_classes_in_another_order_than_the_weights(opened: Opened, tmp_path: Path) -> None:
    classes = opened("classification").data.classes
    file = classifier_file(tmp_path / "w.safetensors", classes[::-1], is_trained=True)
    message = f"another order: class 0 is {classes[-1]!r} there and {classes[0]!r} here"
    with pytest.raises(ZigguratError, match=message):  # as training says
        opened("classification", f"--model.weights={file}")
    reset = opened("classification", f"--model.weights={file}", "--model.reset_classes=true")
    assert found(check_classes, reset)["classes"].verdict == "ok"


def test_other_classes_than_those_of_the_weights(opened: Opened, tmp_path: Path) -> None:
    classes = ("cat", *opened("classification").data.classes[1:])
    file = classifier_file(tmp_path / "w.safetensors", classes, is_trained=True)
    finding = found(check_classes, opened("classification", f"--model.weights={file}"))["classes"]
    assert finding.verdict == "warning"
    assert "the weights have also cat" in finding.evidence


def test_more_classes_in_the_model_than_in_the_data(opened: Opened) -> None:
    finding = found(check_classes, opened("detection", "--model.num_classes=80"))["classes"]
    assert finding.verdict == "warning"
    assert "74 can never be learned" in finding.evidence


def test_images_saved_as_zero_to_one(opened: Opened, scenes: Path) -> None:
    change_images(scenes / "classification", lambda pixels: pixels // 128)
    finding = found(check_colours, opened("classification"))["normalised input"]
    assert finding.verdict == "error"
    assert "all but empty" in finding.evidence


def test_images_that_are_much_too_dark(opened: Opened, scenes: Path) -> None:
    change_images(scenes / "classification", lambda pixels: pixels // 8)
    assert found(check_colours, opened("classification"))["normalised input"].verdict == "warning"


def test_red_and_blue_exchanged(opened: Opened, scenes: Path, tmp_path: Path) -> None:
    """A model that tells red scenes from blue ones notices."""
    for split in ("train", "val"):
        shutil.rmtree(scenes / "classification" / split)
        for label, colour in enumerate(((220, 60, 60), (60, 60, 220))):
            folder = scenes / "classification" / split / f"class_{label}"
            folder.mkdir(parents=True)
            for number in range(5):
                Image.new("RGB", (96, 96), colour).save(folder / f"{number}.png")
    subject = opened("classification")
    model = subject.model
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    images, labels = (
        torch.stack([subject.data.val[i].image for i in range(10)]),  # type: ignore[union-attr]
        torch.arange(10) // 5,
    )
    for _ in range(12):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    file = tmp_path / "colours.safetensors"
    save_weights(model, file)
    right = found(check_colours, opened("classification", f"--model.weights={file}"))
    assert right["channel order"].verdict == "ok"
    for path in (scenes / "classification").rglob("*.png"):
        Image.fromarray(np.asarray(Image.open(path))[..., ::-1].copy()).save(path)
    wrong = found(check_colours, opened("classification", f"--model.weights={file}"))
    assert wrong["channel order"].verdict == "error"
    assert "BGR" in wrong["channel order"].fix


def test_a_loss_that_is_no_number_says_nothing_of_colours(opened: Opened, tmp_path: Path) -> None:
    model = opened("classification").model
    for parameter in model.parameters():
        nn.init.constant_(parameter, 1e30)  # NaN itself would be refused
    save_weights(model, tmp_path / "huge.safetensors")
    subject = opened("classification", f"--model.weights={tmp_path / 'huge.safetensors'}")
    finding = found(check_colours, subject)["channel order"]
    assert finding.verdict == "error"
    assert "is nan" in finding.evidence
    assert "BGR" not in finding.fix


def test_weights_of_another_normalisation(opened: Opened, tmp_path: Path) -> None:
    subject = opened("classification")
    half = (0.5, 0.5, 0.5)
    model = subject.model
    model.preprocessing = dataclasses.replace(model.preprocessing, mean=half, std=half)
    save_weights(model, tmp_path / "w.safetensors")
    with pytest.raises(ZigguratError, match=r"was trained on RGB with mean \(0.5, 0.5, 0.5\)"):
        opened("classification", f"--model.weights={tmp_path / 'w.safetensors'}")


@pytest.mark.parametrize(
    ("words", "verdict"),
    [
        (("--optimizer.lr=1e-2",), "error"),  # ten times the recipe's
        (("--optimizer.reference_batch=null",), "warning"),  # a quarter of the batch, unscaled
        (("--optimizer.lr=1.2e-3",), "ok"),
        (("--trainer.accumulate=3",), "ok"),  # scaled with it
    ],
)
def test_learning_rate(opened: Opened, words: tuple[str, ...], verdict: str) -> None:
    finding = found(check_learning_rate, opened("classification", *words))["learning rate"]
    assert finding.verdict == verdict
    assert (verdict == "ok") == (not finding.fix)


@pytest.mark.parametrize(
    ("lr", "verdict"),
    [
        (1.5e-5, "ok"),  # 5e-4 at 512 images, nearly in proportion
        (2.5e-4, "ok"),  # 1e-3 at 32 images, as the recipe for small data sets has it
        (2e-3, "warning"),
        (0.1, "error"),  # no published run learns with it
    ],
)
def test_learning_rate_far_from_the_batch_of_the_recipe(
    opened: Opened, lr: float, verdict: str
) -> None:
    """A run of one's own with 8 images is not held to what 1024 want, scaled in proportion."""
    words = ("--optimizer.reference_batch=null", f"--optimizer.lr={lr}")
    subject = dataclasses.replace(opened("classification", *words), recipe="p2t_tiny_300e_imagenet")
    finding = found(check_learning_rate, subject)["learning rate"]
    assert finding.verdict == verdict
    assert "p2t_tiny_300e_imagenet has 7.8e-06 to 0.0005 for as many" in finding.evidence


def test_learning_rate_counts_accumulation(opened: Opened) -> None:
    subject = opened("classification", "--trainer.accumulate=3")
    evidence = found(check_learning_rate, subject)["learning rate"].evidence
    assert "at 24 images a step (1 x 8 x 3" in evidence
    assert evidence.startswith("0.00075 ")  # 1e-3 at 32 images


def test_learning_rate_of_parts_of_ones_own(opened: Opened) -> None:
    words = ("--model.name=semantic_fpn", "--model.backbone=p2t_tiny", "--optimizer.lr=0.1")
    subject = dataclasses.replace(opened("segmentation", *words), recipe=None)
    assert found(check_learning_rate, subject)["learning rate"].verdict == "error"


def test_milestones_after_the_end(opened: Opened) -> None:
    words = ("--schedule.kind=step", "--schedule.milestones=[8,11]", "--schedule.min_lr=0")
    subject = opened("detection", *words, "--trainer.max_epochs=4")
    finding = found(check_learning_rate, subject)["schedule"]
    assert finding.verdict == "warning"
    assert "the run ends at" in finding.evidence


def test_boxes_that_no_anchor_fits(opened: Opened) -> None:
    subject = opened("detection", "--data.short_side=32", "--data.long_side=40")
    finding = found(check_anchors, subject)["anchors"]
    assert finding.verdict == "error"
    assert "data.short_side" in finding.fix
    side = int(finding.fix.split("data.short_side ")[1].split()[0])
    better = opened("detection", f"--data.short_side={side}", "--data.long_side=400")
    assert found(check_anchors, better)["anchors"].verdict == "ok"


def test_crop_larger_than_the_images(opened: Opened) -> None:
    subject = opened("segmentation", "--data.crop=[512,512]")
    finding = found(check_sizes, subject)["padding"]
    assert finding.verdict == "warning"
    assert "data.crop to about 128 x 128" in finding.fix


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("detection", ("--data.short_side=800", "--data.long_side=1333")),
        ("segmentation", ("--data.short_side=512",)),
        ("classification", ("--data.image_size=448", "--data.resize=448")),
    ],
)
def test_images_enlarged_several_times(opened: Opened, task: str, words: tuple[str, ...]) -> None:
    finding = found(check_sizes, opened(task, *words))["image sizes"]
    assert finding.verdict == "warning"
    assert "enlarged" in finding.evidence


def test_batch_of_unequal_shapes(opened: Opened, scenes: Path) -> None:
    """Every third image is a strip, beside which the others are mostly padding."""
    root = scenes / "detection"
    file = root / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    for image in content["images"][::3]:
        image["width"] = 1600
    file.write_text(json.dumps(content))
    finding = found(
        check_sizes, opened("detection", "--data.long_side=1600", "--data.batch_size=4")
    )["padding"]
    assert finding.verdict == "warning"
    assert "is padding in the mean" in finding.evidence


def test_batch_that_does_not_fit_into_memory(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "available_bytes", lambda device: 5_000_000)
    subject = opened("classification", "--data.batch_size=16")
    finding = found(check_speed, subject)["memory"]
    assert finding.verdict == "error"
    batch = int(finding.fix.split("data.batch_size ")[1].split()[0])
    assert 1 <= batch < 16
    assert f"trainer.accumulate {16 // batch}, which keeps the images of a step" in finding.fix


@pytest.mark.parametrize(
    ("mixup", "fits", "fix"),
    [
        (0.0, 11, "set data.batch_size 6 and trainer.accumulate 4, which keeps the images"),
        (0.0, 5, "set data.batch_size 4 and trainer.accumulate 6,"),
        (0.0, 1, "set data.batch_size 1 and trainer.accumulate 24,"),
        (0.0, 0, "use smaller images or a smaller model; no smaller data.batch_size fits"),
        (0.8, 4, "set data.batch_size 4 and trainer.accumulate 6,"),
        (0.8, 3, "set data.batch_size 2 and trainer.accumulate 12,"),  # images are mixed in pairs
        (0.8, 1, "use smaller images or a smaller model; no smaller data.batch_size fits"),
    ],
)
def test_advice_for_too_little_memory_can_be_followed(
    mixup: float, fits: int, fix: str, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image takes 200 bytes, and 80% of what is free may be used."""
    words = ["--data.batch_size=12", "--trainer.accumulate=2", "--trainer.ema_decay=null"]
    words += [f"--data.mixup={mixup}", "--data.cutmix=0", "--data.mix_probability=1"]
    subject = opened("classification", *words)
    free = round((fits * 200 + 100) / speed.TIGHT)
    monkeypatch.setattr(speed, "OPTIMIZER_COPIES", {"adamw": -1})  # no memory for weights
    monkeypatch.setattr(speed, "available_bytes", lambda device: free)
    assert speed._memory(subject, 2400.0, "measured").fix.startswith(fix)


def test_reading_slower_than_computing(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = opened("classification", "--data.workers=1")
    monkeypatch.setattr(speed, "_reading", lambda subject, clock: 2.0)
    finding = found(check_speed, subject)["loading"]
    assert finding.verdict == "warning"
    assert "a step waits for images for " in finding.evidence


@pytest.mark.parametrize(
    ("workers", "read", "verdict", "share"),
    [
        (0, 0.01, "ok", "9%"),  # of 100 + 10 ms
        (0, 0.04, "warning", "29%"),
        (1, 0.1, "ok", "0%"),
        (1, 0.15, "warning", "33%"),
    ],
)
def test_share_of_a_step_that_waits_for_images(
    workers: int,
    read: float,
    verdict: str,
    share: str,
    opened: Opened,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An image is computed in 100 ms."""
    subject = opened("classification", f"--data.workers={workers}", "--data.batch_size=2")
    step = speed._Measured(images=2, height=64, width=64, seconds=0.2, bytes=1)
    monkeypatch.setattr(speed, "_compute", lambda subject, clock: (step, 1.0))
    monkeypatch.setattr(speed, "_reading", lambda subject, clock: read)
    finding = found(check_speed, subject)["loading"]
    assert finding.verdict == verdict
    assert finding.evidence.endswith(f"a step waits for images for {share} of its time")
    assert (verdict == "ok") == (not finding.fix)


def test_images_that_contradict_each_other(
    opened: Opened, scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same picture in every class: it cannot be learned, and is named by its files."""
    one = next((scenes / "classification" / "train").rglob("*.jpg")).read_bytes()
    for path in (scenes / "classification" / "train").rglob("*.jpg"):
        path.write_bytes(one)
    subject = opened("classification")
    monkeypatch.setattr(overfit, "LEAST_STEPS", 15)
    assert found(check_overfit, subject)["ten images by heart"].verdict == "error"
    assert found(check_duplicates, subject)["contradictions"].verdict == "error"


def test_overflow_names_the_module(opened: Opened) -> None:
    subject = opened("segmentation")
    with torch.no_grad():
        subject.model.get_parameter("backbone.stages.1.blocks.0.mlp.fc1.weight").fill_(1e38)
    finding = found(check_numbers, subject)["finite numbers"]
    assert finding.verdict == "error"
    assert "backbone.stages.1.blocks.0.mlp" in finding.evidence


def test_overflow_in_the_precision_of_the_run(opened: Opened) -> None:
    subject = opened("classification")
    trainer = dataclasses.replace(subject.config.trainer, precision="fp16")
    subject = dataclasses.replace(
        subject, config=dataclasses.replace(subject.config, trainer=trainer)
    )
    with torch.no_grad():
        subject.model.get_parameter("head.fc.weight").fill_(1e4)
        subject.model.get_parameter("head.fc.bias").fill_(6e4)
    finding = found(check_numbers, subject)["finite numbers"]
    assert finding.verdict == "error"
    assert "in precision fp16" in finding.evidence
    assert "trainer.precision 32" in finding.fix


def test_validation_images_in_the_training_split(opened: Opened, scenes: Path) -> None:
    root = scenes / "classification"
    photo = next((root / "val").rglob("*.jpg"))
    shutil.copy(photo, root / "train" / photo.parent.name / "copy.jpg")
    finding = found(check_duplicates, opened("classification"))["duplicates"]
    assert finding.verdict == "error"
    assert "copy.jpg" in finding.evidence


def test_an_image_that_is_listed_twice(opened: Opened, scenes: Path) -> None:
    """In both splits, and in training with two labels: the same path, not a copy."""
    root = scenes / "classification"
    for split in ("train", "val"):
        folders = enumerate(sorted((root / split).iterdir()))
        lines = [f"{path} {label}\n" for label, folder in folders for path in folder.iterdir()]
        (root / f"{split}_list.txt").write_text("".join(lines))
    assert found(check_duplicates, opened("classification"))["duplicates"].verdict == "ok"
    leak, _, label = lines[0].rpartition(" ")
    with (root / "train_list.txt").open("a") as file:
        file.write(f"{lines[0]}{leak} {1 - min(int(label), 1)}\n")
    findings = found(check_duplicates, opened("classification"))
    assert findings["duplicates"].verdict == "error"
    assert findings["duplicates"].evidence.endswith(f"split too, as {leak}, which is listed twice")
    wrong = findings["contradictions"]
    assert wrong.evidence == f"1 image in two classes, as {leak}, which is listed twice"


def test_class_that_only_validation_has(opened: Opened, scenes: Path) -> None:
    file = scenes / "detection" / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    gone = content["categories"][0]
    content["annotations"] = [
        entry for entry in content["annotations"] if entry["category_id"] != gone["id"]
    ]
    file.write_text(json.dumps(content))
    finding = found(check_balance, opened("detection"))["class balance"]
    assert finding.verdict == "error"
    assert gone["name"] in finding.evidence


def test_class_that_nobody_has(opened: Opened, scenes: Path) -> None:
    for split in ("train", "val"):
        file = scenes / "detection" / "annotations" / f"instances_{split}.json"
        content = json.loads(file.read_text())
        content["categories"].append({"id": 99, "name": "unicorn"})
        file.write_text(json.dumps(content))
    finding = found(check_balance, opened("detection"))["class balance"]
    assert finding.verdict == "warning"
    assert "unicorn" in finding.evidence


def test_images_whose_annotations_are_missing(opened: Opened, scenes: Path) -> None:
    file = scenes / "detection" / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    kept = {image["id"] for image in content["images"][::2]}
    content["annotations"] = [e for e in content["annotations"] if e["image_id"] in kept]
    file.write_text(json.dumps(content))
    finding = found(check_balance, opened("detection"))["empty images"]
    assert finding.verdict == "warning"
    assert "12 of 24" in finding.evidence


def test_rare_class(opened: Opened) -> None:
    subject = opened("classification")
    labels = np.repeat([0, 1, 2, 3, 4, 5], [500, 500, 500, 500, 500, 3])
    subject.data.train.storage.labels = torch.from_numpy(labels)  # type: ignore[union-attr]
    finding = found(check_balance, subject)["class balance"]
    assert finding.verdict == "warning"
    assert subject.data.classes[5] in finding.evidence


def test_labels_that_all_stand_for_unlabelled(opened: Opened, scenes: Path) -> None:
    for path in (scenes / "segmentation" / "annotations").rglob("*.png"):
        Image.fromarray(np.zeros_like(np.asarray(Image.open(path)))).save(path)
    finding = found(check_balance, opened("segmentation"))["labelled pixels"]
    assert finding.verdict == "error"
    assert "100%" in finding.evidence


def test_label_files_with_unknown_values(opened: Opened, scenes: Path) -> None:
    path = next((scenes / "segmentation" / "annotations" / "training").glob("*.png"))
    Image.fromarray(np.full_like(np.asarray(Image.open(path)), 77)).save(path)
    finding = found(check_balance, opened("segmentation"))["label files"]
    assert finding.verdict == "error"
    assert path.name in finding.evidence


@pytest.mark.parametrize("task", ["classification", "detection", "segmentation"])
def test_damaged_file(opened: Opened, scenes: Path, task: str) -> None:
    photo = next((scenes / task).rglob("*.jpg"))
    photo.write_bytes(photo.read_bytes()[:500])
    finding = found(check_faults, opened(task))["data files"]
    assert finding.verdict == "error"
    assert photo.name in finding.evidence
    assert f"ziggurat data check {scenes / task}" in finding.fix


def test_a_damaged_file_of_annotations_that_are_named(opened: Opened, scenes: Path) -> None:
    words = [
        f"--data.{split}_{what}={place}"
        for split in ("train", "val")
        for what, place in (
            ("annotations", f"annotations/instances_{split}.json"),
            ("images", split),
        )
    ]
    photo = next((scenes / "detection" / "val").rglob("*.jpg"))
    subject = opened("detection", *words)
    photo.write_bytes(photo.read_bytes()[:500])
    finding = found(check_faults, subject)["data files"]
    assert finding.verdict == "error"
    assert photo.name in finding.evidence
    assert "ziggurat data check --data.annotations" in finding.fix


def test_an_image_beyond_pillows_limit_is_passed_over(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = opened("classification")
    whole = found(check_sizes, subject)["image sizes"]
    paths = image_paths(subject.data.train)
    assert paths is not None
    path = paths[0]
    Image.new("1", (300, 300)).save(path, "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40_000)
    assert found(check_sizes, subject)["image sizes"].verdict == whole.verdict


def test_no_image_can_be_decoded(opened: Opened, scenes: Path) -> None:
    subject = opened("classification")
    for path in (scenes / "classification").rglob("*.jpg"):
        path.write_bytes(b"no image")
    with pytest.raises(ZigguratError, match="24 training images cannot be decoded"):
        check_colours(subject, Clock(60.0))
    assert check_sizes(subject, Clock(60.0)) == []


def test_no_label_file_can_be_read(opened: Opened, scenes: Path) -> None:
    for path in (scenes / "segmentation" / "annotations").rglob("*.png"):
        path.write_bytes(b"no image")
    assert set(found(check_balance, opened("segmentation"))) == {"label files"}


def test_a_class_is_not_missing_where_a_part_was_read(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OneFile(Clock):
        """Runs out when it is asked a second time."""

        times = 0

        @property
        def left(self) -> float:
            self.times += 1
            return 0.0 if self.times > 2 else 60.0

        def part(self, share: float) -> "OneFile":
            return OneFile(share)

    monkeypatch.setattr(balance, "LEAST_READ", 1)
    findings = {f.check: f for f in check_balance(opened("segmentation"), OneFile(60.0))}
    assert findings["class balance"].verdict == "not run"
    assert "after 1 label file" in findings["class balance"].evidence


def test_pixels_of_caffe_are_held_against_the_same_limits() -> None:
    photo = torch.rand(3, 50)
    values = [
        (photo - torch.tensor(pixels.mean)[:, None]) / torch.tensor(pixels.std)[:, None]
        for pixels in (IMAGENET_PIXELS, CAFFE_PIXELS)
    ]
    caffe = dataclasses.replace(FitInside(), **dataclasses.asdict(CAFFE_PIXELS))
    torch.testing.assert_close(as_imagenet(values[1].flip(0), caffe), values[0])
    torch.testing.assert_close(as_imagenet(values[0], FitInside()), values[0])
