"""Runs in files: recipes, a user's own, and what is wrong in them in one sentence."""

from pathlib import Path

import pytest
import yaml

from ziggurat.cards import MODELS
from ziggurat.config import (
    ClassificationRun,
    DetectionRun,
    list_recipes,
    load_run,
    recipe_path,
    run_to_yaml,
)
from ziggurat.config.fields import describe_fields, field_names
from ziggurat.config.files import read_tree
from ziggurat.config.tree import RUNS
from ziggurat.errors import ZigguratError

DETECTION = "retinanet_p2t_tiny_1x_coco"
CLASSIFICATION = "p2t_tiny_300e_imagenet"
SEGMENTATION = "semantic_fpn_pvt_tiny_40k_ade20k"
ROOT = "--data.root=/data"


def message_of(source: str | Path, *overrides: str) -> str:
    with pytest.raises(ZigguratError) as caught:
        load_run(source, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def write(path: Path, change: dict[str, object]) -> Path:
    tree = yaml.safe_load(recipe_path(DETECTION).read_text())
    tree["data"]["root"] = "/data"
    tree.update(change)
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.mark.parametrize(
    ("more", "key"),
    [("trainer:\n  max_epochs: 3\n", "trainer"), ("  seed: 1\n  seed: 2\n", "seed")],
)
def test_a_key_that_stands_twice(tmp_path: Path, more: str, key: str) -> None:
    path = tmp_path / "run.yaml"
    lines = recipe_path(DETECTION).read_text().rstrip("\n").splitlines()
    kept = [line for line in lines if not line.startswith("  seed:")]
    assert any(line.startswith("trainer:") for line in lines)
    path.write_text("\n".join(kept) + "\n" + more)
    assert f"is no YAML: '{key}' stands twice" in message_of(path)


def test_a_recipe_trains_the_model_that_names_it() -> None:
    pairs = [(card, recipe) for card in MODELS.values() for recipe in card.recipes]
    assert pairs
    for card, recipe in pairs:
        assert recipe in list_recipes()
        run = load_run(recipe, [ROOT])
        assert run.model.name == card.name
        assert run.task == card.task


def test_recipes_state_the_published_runs() -> None:
    run = load_run(CLASSIFICATION, [ROOT])
    assert isinstance(run, ClassificationRun)
    assert (run.trainer.max_epochs, run.schedule.warmup_epochs, run.trainer.seed) == (300, 20, 123)
    assert run.optimizer.lr * 1024 / (run.optimizer.reference_batch or 0) == pytest.approx(1e-3)
    assert run.schedule.min_lr * 1024 / (run.optimizer.reference_batch or 0) == pytest.approx(1e-5)
    detection = load_run(DETECTION, [ROOT])
    assert isinstance(detection, DetectionRun)
    assert detection.optimizer.lr == detection.optimizer.weight_decay == 1e-4
    assert (detection.schedule.milestones, detection.schedule.warmup_steps) == ((8, 11), 500)
    assert (detection.data.short_side, detection.data.long_side) == (800, 1333)


def test_every_recipe_can_be_run_and_says_what_it_is_for() -> None:
    published = {recipe for card in MODELS.values() for recipe in card.recipes}
    for name in list_recipes():
        load_run(name, [ROOT])
        text = recipe_path(name).read_text()
        assert text.startswith("# ")
        assert name not in published or "published" in "".join(text.splitlines()[:2])
        tree = yaml.safe_load(text)
        names = {
            f"{section}.{key}" for section in tree if section != "task" for key in tree[section]
        }
        assert names <= set(field_names(tree["task"]))


@pytest.mark.parametrize("recipe", [CLASSIFICATION, DETECTION, SEGMENTATION])
def test_saved_run_reads_back_equal(recipe: str, tmp_path: Path) -> None:
    run = load_run(recipe, [ROOT, "--trainer.max_steps=7", "--trainer.clip_norm=0.5"])
    assert run.trainer.max_steps == 7
    (tmp_path / "run.yaml").write_text(run_to_yaml(run))
    assert load_run(tmp_path / "run.yaml") == run


def test_overrides_win_and_have_the_type_of_their_field() -> None:
    run = load_run(
        DETECTION,
        [
            "--data.root=3",
            "--optimizer.lr=2e-5",
            "--schedule.milestones=[3, 5]",
            "--data.train_short_sides=[400,480]",
            "--optimizer.reference_batch=null",
            "--optimizer.no_decay=[norms,biases]",
            "--model.reset_classes=false",
        ],
    )
    assert isinstance(run, DetectionRun)
    assert run.data.root == "3"
    assert run.optimizer.lr == 2e-5
    assert run.schedule.milestones == (3, 5)
    assert run.data.train_short_sides == (400, 480)
    assert run.optimizer.reference_batch is None
    assert run.optimizer.no_decay == ("norms", "biases")


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("--optimizer.lrr=1", ["optimizer.lrr", "Did you mean optimizer.lr?"]),
        ("--optimizr.lr=1", ["optimizr.lr", "Did you mean optimizer.lr?"]),
        ("--data.mixup=1", ["data.mixup", "classification"]),
        ("--optimizer.lr=fast", ["optimizer.lr", "float", "'fast'"]),
        ("--optimizer.lr=-1", ["optimizer.lr", "above 0", "-1"]),
        ("--model.num_classes=2.5", ["model.num_classes", "int or null", "2.5"]),
        (
            "--trainer.precision=16",
            ["trainer.precision", "'32' or 'tf32' or 'bf16' or 'fp16'", "'16'"],
        ),
        ("--schedule.milestones=8", ["schedule.milestones", "a list of any number of int", "8"]),
        ("--schedule.milestones=[8,8]", ["schedule.milestones", "rising"]),
        ("--schedule.kind=cosine", ["schedule.milestones", "step"]),
        ("--schedule.warmup_mode=precedes", ["schedule.warmup_mode", "null", "step"]),
        ("--optimizer.momentum=0.9", ["optimizer.momentum", "null where optimizer.kind is adamw"]),
        ("--optimizer.kind=sgd", ["optimizer.betas", "null where optimizer.kind is sgd"]),
        ("--optimizer.bias_lr_factor=0", ["optimizer.bias_lr_factor", "above 0", "0"]),
        ("--optimizer.betas=[0.9]", ["optimizer.betas", "a list of 2 of float", "[0.9]"]),
        ("--optimizer.betas=[0.9,1.0]", ["optimizer.betas", "below 1"]),
        ("--optimizer.no_decay=norms", ["optimizer.no_decay", "a list of any number of", "norms"]),
        ("--optimizer.no_decay=[norm]", ["optimizer.no_decay", "'vectors' or 'norms'", "norm"]),
        ("--optimizer.no_decay=[norms,norms]", ["optimizer.no_decay", "nothing twice"]),
        ("--optimizer.backbone_lr_factor=0", ["optimizer.backbone_lr_factor", "above 0", "0"]),
        ("--trainer.sync_batch_norm=2", ["trainer.sync_batch_norm", "bool", "2"]),
        ("--trainer.max_epochs=0", ["trainer.max_epochs", "at least 1"]),
        ("--trainer.ema_decay=1", ["trainer.ema_decay", "below 1"]),
        ("--data.long_side=100", ["data.long_side", "800", "100"]),
        ("--data.flip=2", ["data.flip", "between 0 and 1"]),
        ("--data.train_images=train", ["train_annotations", "together"]),
        ("--data.root=", ["data.root", "folder"]),
        ("--optimizer.layer_decay=1", ["optimizer.layer_decay", "below 1", "1"]),
        ("--model.freeze_stages=0", ["model.freeze_stages", "at least 1", "0"]),
        ("--model.train_regions=3", ["model.train_regions", "at least 4", "3"]),
        ("--trainer.compile=true", ["trainer.compile", "differ in size", "True"]),
        ("--trainer.checkpoint_activations=2", ["trainer.checkpoint_activations", "bool", "2"]),
        ("--distillation.teacher=p2t_base", ["distillation.teacher", "classification"]),
        ("--model.reset_classes=true", ["model.reset_classes", "weights"]),
        ("optimizer.lr=1", ["--section.field=value"]),
    ],
)
def test_bad_override_is_one_sentence(override: str, parts: list[str]) -> None:
    message = message_of(DETECTION, *([] if "data.root" in override else [ROOT]), override)
    assert all(part in message for part in parts), message


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("--data.image_size=300", ["data.image_size", "256", "300"]),
        ("--data.eval_image_size=257", ["data.eval_image_size", "256", "257"]),
        ("--data.eval_image_size=0", ["data.eval_image_size", "at least 1"]),
        ("--data.augmentation_repeats=0", ["data.augmentation_repeats", "at least 1", "0"]),
        ("--data.batch_size=5", ["data.batch_size", "even", "5"]),
        ("--data.color_jitter=0.4", ["data.color_jitter", "auto_augment"]),
        ("--data.crop_scale=[0.5,0.1]", ["data.crop_scale", "low <= high"]),
        ("--data.label_smoothing=1", ["data.label_smoothing", "below 1"]),
        ("--data.mixup=-1", ["data.mixup", "at least 0"]),
        ("--data.short_side=3", ["data.short_side", "detection"]),
        ("--schedule.min_lr=-1", ["schedule.min_lr", "at least 0"]),
        ("--schedule.gamma=0.1", ["schedule.gamma", "null", "cosine", "0.1"]),
        ("--schedule.warmup_epochs=0", ["schedule.warmup_start", "null", "0.001"]),
        ("--schedule.warmup_mode=follows", ["schedule.warmup_mode", "'replaces'", "'follows'"]),
        ("--schedule.follow_clock=true", ["schedule.follow_clock", "false", "update is epoch"]),
        ("--data.mix_probability=0", ["data.mix_probability", "above 0 and at most 1", "0"]),
        ("--schedule.update=epoch_start", ["schedule.update", "'epoch_end'", "'epoch_start'"]),
    ],
)
def test_bad_override_of_a_classification_run(override: str, parts: list[str]) -> None:
    message = message_of(CLASSIFICATION, ROOT, override)
    assert all(part in message for part in parts), message


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["kind=soft"], ["distillation.kind", "null where distillation.teacher is not given"]),
        (["alpha=0.5"], ["distillation.alpha", "null", "0.5"]),
        (["weights=x.pth"], ["distillation.weights", "null", "x.pth"]),
        (["teacher="], ["distillation.teacher", "timm:NAME", "''"]),
        (["teacher=t.safetensors", "weights=x.pth"], ["distillation.weights", "a file itself"]),
        (["teacher=p2t_base", "alpha=0"], ["distillation.alpha", "above 0 and at most 1", "0"]),
        (["teacher=p2t_base", "kind=firm"], ["distillation.kind", "'hard' or 'soft'", "firm"]),
        (["teacher=p2t_base", "temperature=2"], ["distillation.temperature", "soft", "2"]),
        (["teacher=p2t_base", "kind=soft", "temperature=0"], ["distillation.temperature", "0"]),
    ],
)
def test_bad_distillation(overrides: list[str], parts: list[str]) -> None:
    message = message_of(CLASSIFICATION, ROOT, *(f"--distillation.{word}" for word in overrides))
    assert all(part in message for part in parts), message


def test_a_schedule_without_a_time_limit_follows_no_clock() -> None:
    words = (ROOT, "--schedule.update=step", "--schedule.follow_clock=true")
    message = message_of(CLASSIFICATION, *words)
    assert "schedule.follow_clock must be false where trainer.max_minutes is null" in message
    config = load_run(CLASSIFICATION, [*words, "--trainer.max_minutes=30"])
    assert config.schedule.follow_clock


def test_images_that_are_never_mixed_have_no_probability_of_it() -> None:
    words = ("--data.mixup=0", "--data.cutmix=0", "--data.mix_probability=0.5")
    assert "data.mix_probability must be 1 where" in message_of(CLASSIFICATION, ROOT, *words)


@pytest.mark.parametrize(
    ("recipe", "override", "epochs", "steps"),
    [
        (CLASSIFICATION, "trainer.val_every_steps=3", "val_every_epochs=1", "val_every_steps=3"),
        (DETECTION, "schedule.warmup_epochs=1", "warmup_epochs=1.0", "warmup_steps=0"),
        (DETECTION, "schedule.milestone_steps=[9]", "milestones=()", "milestone_steps=(9,)"),
        (DETECTION, "schedule.warmup_epochs=0", "warmup_epochs=0.0", "warmup_steps=500"),
    ],
)
def test_an_override_in_steps_takes_the_place_of_epochs(
    recipe: str, override: str, epochs: str, steps: str
) -> None:
    run = load_run(recipe, [ROOT, f"--{override}"])
    words = repr(run.trainer if override.startswith("trainer") else run.schedule)
    assert f"{epochs}," in words and f"{steps}," in words


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["trainer.val_every_steps=3", "trainer.val_every_epochs=2"], ["trainer.val_every_epochs"]),
        (["schedule.warmup_steps=3", "schedule.warmup_epochs=2"], ["schedule.warmup_steps"]),
        (
            ["schedule.kind=step"],
            ["schedule.min_lr must be 0", "schedule.milestones must be given"],
        ),
        (
            ["schedule.kind=poly", "schedule.gamma=0.5", "schedule.warmup_epochs=0"],
            ["schedule.gamma must be null", "schedule.warmup_start must be null"],
        ),
    ],
)
def test_all_fields_that_contradict_each_other_are_named(
    overrides: list[str], parts: list[str]
) -> None:
    message = message_of(CLASSIFICATION, ROOT, *(f"--{word}" for word in overrides))
    assert all(part in message for part in parts), message


def test_missing_field_is_named() -> None:
    assert "data.root is missing" in message_of(DETECTION)


def test_unknown_recipe_has_the_nearest_names() -> None:
    message = message_of("retinanet_p2t_tny_1x_coco")
    assert f"the nearest are {DETECTION}, retinanet_" in message
    assert message.endswith("`ziggurat list --recipes` prints all")
    for name in ("retinanet_p2t_tny_1x_coco", "nothing"):
        assert len(message_of(name)) < 300


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"optimiser": {}}, ["'optimiser'", "Did you mean optimizer?"]),
        ({"model": {"nam": "p2t_tiny"}}, ["model.nam", "Did you mean model.name?"]),
        ({"model": {}}, ["model.name is missing"]),
        ({"model": None}, ["'model'", "None"]),
        ({"optimizer": {"lr": "x"}}, ["optimizer.lr", "float", "'x'"]),
        ({"optimizer": {"lr": None}}, ["optimizer.lr is missing"]),
        ({"task": "detetion"}, ["task: detection", "'detetion'"]),
        ({"task": ["detection"]}, ["task: detection", "['detection']"]),
        ({"task": {"detection": 1}}, ["task: detection", "{'detection': 1}"]),
        ({"optimizer": {"lr": 1e-4, "name": "adamw"}}, ["optimizer.name"]),
    ],
)
def test_bad_file_is_one_sentence(
    change: dict[str, object], parts: list[str], tmp_path: Path
) -> None:
    message = message_of(write(tmp_path / "my.yaml", change))
    assert all(part in message for part in parts), message


@pytest.mark.parametrize("field", ["weights", "backbone_weights"])
def test_a_file_says_true_for_the_published_weights(field: str, tmp_path: Path) -> None:
    name = "retinanet_p2t_tiny"
    path = write(tmp_path / "my.yaml", {"model": {"name": name, field: True}})
    assert getattr(load_run(path).model, field) == "true"
    assert "default: true)" in describe_fields("detection", read_tree(path))
    write(path, {"model": {"name": name, field: False}})
    expected = f"model.{field} must be a file, a name, true, or null to start anew, got 'false'"
    assert message_of(path) == expected
    assert message_of(DETECTION, ROOT, f"--model.{field}=false") == expected


@pytest.mark.parametrize("content", [b"a: [", b"\xff\xfe\x00", b"- 1", b""])
def test_file_that_is_no_run(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_bytes(content)
    assert str(path) in message_of(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    assert "No such file" in message_of(tmp_path / "my.yaml")
    assert str(tmp_path) in message_of(tmp_path)


@pytest.mark.parametrize("task", RUNS)
def test_help_describes_every_field(task: str) -> None:
    text = describe_fields(task, {})
    for name in field_names(task):
        assert f"--{name}" in text
    assert "CONFIG" not in text
    # What stands below a field in the source stands beside it in the help.
    assert "Learning rate at the reference batch." in text


def test_help_shows_the_values_of_a_recipe() -> None:
    text = " ".join(describe_fields("detection", read_tree(DETECTION)).split())
    assert "default: retinanet_p2t_tiny" in text
    assert "Optimizer steps" in text
