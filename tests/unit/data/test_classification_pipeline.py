"""Classification pipelines: sizes, values, every augmentation policy, mixup and cutmix."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.auto_augment import AugmentOp, AugMixAugment, AutoAugment, RandAugment
from torch import Tensor

from ziggurat.data.classification import (
    ImageTransform,
    MixupCutmix,
    eval_transform,
    train_transform,
)
from ziggurat.data.randomness import seeded
from ziggurat.errors import ZigguratError
from ziggurat.preprocessing import CenterCrop
from ziggurat.types import Batch, ImageInfo


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def make_train(
    auto_augment: str | None = None,
    color_jitter: float = 0.0,
    random_erasing: float = 0.0,
    scale: tuple[float, float] = (0.08, 1.0),
    flip: float = 0.0,
) -> ImageTransform:
    return train_transform(
        32,
        auto_augment=auto_augment,
        color_jitter=color_jitter,
        random_erasing=random_erasing,
        scale=scale,
        flip=flip,
        preprocessing=CenterCrop(),
    )


@pytest.mark.parametrize("size", [(256, 256), (300, 200), (20, 1000), (1, 1), (640, 480)])
def test_any_image_becomes_the_square(size: tuple[int, int]) -> None:
    assert eval_transform(CenterCrop(40, 32))(noise(*size)).shape == (3, 32, 32)
    with seeded(0):
        assert make_train("rand-m9-mstd0.5-inc1", random_erasing=0.25)(noise(*size)).shape == (
            3,
            32,
            32,
        )


def test_evaluation_cuts_the_middle_of_the_resized_image() -> None:
    image = noise(90, 60)
    preprocessing = CenterCrop(40, 32)
    resized = image.resize((60, 40), Image.Resampling.BICUBIC).crop((14, 4, 46, 36))
    levels = torch.from_numpy(np.asarray(resized).copy()).permute(2, 0, 1) / 255
    mean, std = (torch.tensor(v)[:, None, None] for v in (preprocessing.mean, preprocessing.std))
    assert torch.allclose(eval_transform(preprocessing)(image), (levels - mean) / std, atol=1e-6)


def test_training_without_augmentation_keeps_the_whole_image() -> None:
    image = noise(32, 32)
    plain = eval_transform(CenterCrop(32, 32))(image)
    with seeded(0):
        assert torch.allclose(make_train(scale=(1.0, 1.0))(image), plain, atol=1e-6)
        flipped = make_train(scale=(1.0, 1.0), flip=1.0)(image)
    assert torch.allclose(flipped.flip(2), plain, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"color_jitter": 0.4},
        {"random_erasing": 1.0},
        {"auto_augment": "rand-m9-mstd0.5-inc1"},
        {"scale": (0.1, 0.2)},
    ],
)
def test_every_option_changes_the_image_and_repeats_with_the_seed(
    options: dict[str, object],
) -> None:
    image = noise(64, 64)

    def draw(transform: ImageTransform, seed: int) -> Tensor:
        with seeded(seed):
            return transform(image)

    changing = make_train(**{"scale": (1.0, 1.0), **options})  # type: ignore[arg-type]
    plain = draw(make_train(scale=(1.0, 1.0)), 0)
    drawn = [draw(changing, seed) for seed in range(4)]
    assert any(not torch.equal(image, plain) for image in drawn)
    assert not torch.equal(drawn[0], drawn[1]) or not torch.equal(drawn[1], drawn[2])
    assert all(torch.equal(image, draw(changing, seed)) for seed, image in enumerate(drawn))


@pytest.mark.parametrize(
    "policy", ["rand-m9-mstd0.5-inc1", "rand-m10-inc1", "original", "v0", "3a", "augmix-m5-w2-d1"]
)
def test_every_operation_of_every_policy_runs(policy: str) -> None:
    transform = make_train(policy)
    image = noise(24, 24)
    operations = list(operations_of(transform))
    assert operations
    for operation in operations:
        operation.prob = 1.0
        with seeded(0):
            assert operation(image).size == (24, 24)
    with seeded(0):
        assert transform(image).isfinite().all()


def operations_of(transform: ImageTransform) -> Iterator[AugmentOp]:
    for step in transform.transforms:  # type: ignore[attr-defined]
        if isinstance(step, RandAugment | AugMixAugment):
            yield from step.ops
        elif isinstance(step, AutoAugment):
            for policy in step.policy:
                yield from policy


def test_posterize_may_keep_no_bits() -> None:
    # Pillow 13 refuses what timm's increasing policy asks for at magnitude 10.
    transform = make_train("rand-m10-inc1")
    policies = [step for step in transform.transforms if isinstance(step, RandAugment)]  # type: ignore[attr-defined]
    [posterize] = [op for op in policies[0].ops if op.name == "PosterizeIncreasing"]
    apply: Callable[..., Image.Image] = posterize.aug_fn
    image = noise(8, 8)
    assert np.asarray(apply(image, 0, fillcolor=None, resample=None)).max() == 0
    four = np.asarray(apply(image, 4, fillcolor=None, resample=None))
    assert (four == np.asarray(image) & 0xF0).all()
    assert apply(image, 8, fillcolor=None, resample=None) is image


@pytest.mark.parametrize("policy", ["rand-q9", "autoaug", "rand-m9-zzz1", "augmix-q1"])
def test_an_unknown_policy(policy: str) -> None:
    with pytest.raises(ZigguratError, match=f"auto_augment '{policy}' is no policy"):
        make_train(policy)


def test_jitter_beside_a_policy_would_be_ignored() -> None:
    with pytest.raises(ZigguratError, match="color_jitter 0.4 has no effect beside auto_augment"):
        make_train("rand-m9-mstd0.5-inc1", color_jitter=0.4)


def test_a_crop_outside_the_resized_image() -> None:
    with pytest.raises(ZigguratError, match="crop 224 and resize 200"):
        eval_transform(CenterCrop(resize=200, crop=224))


def labelled(count: int = 4, size: int = 16) -> Batch:
    levels = torch.arange(count).float()[:, None, None, None]
    images = levels.expand(count, 3, size, size).contiguous(memory_format=torch.channels_last)
    infos = [ImageInfo(i, f"{i}.jpg", (size, size)) for i in range(count)]
    return Batch(images, [(size, size)] * count, torch.arange(count) % 3, infos)


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.8, 0.0), (0.0, 1.0), (0.8, 1.0)])
def test_images_and_labels_are_mixed_alike(mixup: float, cutmix: float) -> None:
    mix = MixupCutmix(mixup=mixup, cutmix=cutmix, num_classes=3, label_smoothing=0.0, seed=0)
    for step in range(20):
        batch = labelled()
        mixed = mix(batch, step)
        assert isinstance(mixed.targets, Tensor)
        # Image 0 (all zeros, class 0) meets image 3 (all threes, class 0); 1 meets 2.
        share = mixed.images[1].mean() - 1
        expected = torch.tensor([0.0, 1 - share, share])
        assert torch.allclose(mixed.targets[1], expected, atol=1e-4)
        assert torch.allclose(mixed.targets.sum(1), torch.ones(4))
        assert mixed.images.is_contiguous(memory_format=torch.channels_last)


def test_both_kinds_are_drawn() -> None:
    mix = MixupCutmix(mixup=0.8, cutmix=1.0, num_classes=3, label_smoothing=0.0, seed=0)
    is_cut = [len(mix(labelled(), step).images[0].unique()) == 2 for step in range(20)]
    assert 3 < sum(is_cut) < 17


def test_some_batches_are_left_as_they_are() -> None:
    mix = MixupCutmix(
        mixup=0.8, cutmix=1.0, probability=0.5, num_classes=3, label_smoothing=0.0, seed=0
    )
    batch = labelled()
    labels = torch.eye(3)[torch.arange(4) % 3]
    mixed = [mix(batch, step) for step in range(40)]
    plain = [one for one in mixed if torch.equal(one.images, batch.images)]
    assert 10 < len(plain) < 30
    for one in plain:
        assert isinstance(one.targets, Tensor)
        torch.testing.assert_close(one.targets, labels)


def test_mixing_depends_on_seed_and_step_only_and_leaves_the_batch() -> None:
    batch = labelled()
    before = batch.images.clone()
    numpy_state = np.random.get_state(legacy=False)["state"]["key"].tobytes()
    mix = MixupCutmix(mixup=0.8, cutmix=1.0, num_classes=3, label_smoothing=0.1, seed=5)
    first = [mix(batch, step).images for step in range(6)]
    again = [mix(batch, step).images for step in reversed(range(6))][::-1]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], first[1])
    assert torch.equal(batch.images, before)
    assert np.random.get_state(legacy=False)["state"]["key"].tobytes() == numpy_state


def test_smoothing() -> None:
    mix = MixupCutmix(mixup=0.8, cutmix=0.0, num_classes=10, label_smoothing=0.1, seed=0)
    targets = mix(labelled(), 0).targets
    assert isinstance(targets, Tensor)
    assert targets.min() == pytest.approx(0.01)
    assert torch.allclose(targets.sum(1), torch.ones(4))


def test_bad_mixing() -> None:
    with pytest.raises(ValueError, match="one > 0"):
        MixupCutmix(mixup=0.0, cutmix=0.0, num_classes=3, label_smoothing=0.0, seed=0)
    mix = MixupCutmix(mixup=0.8, cutmix=0.0, num_classes=3, label_smoothing=0.0, seed=0)
    with pytest.raises(ZigguratError, match="a batch of 3; choose an even batch size"):
        mix(labelled(3), 0)
    with pytest.raises(TypeError, match=r"need labels \(B,\)"):
        mix(Batch(torch.zeros(2, 3, 4, 4), [(4, 4)] * 2, None, []), 0)
