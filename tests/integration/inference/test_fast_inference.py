"""The optimized copy of a model computes what the model computes, and nothing else changes."""

import copy
import pickle
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from ziggurat.backbones.gpvit import GPViT
from ziggurat.backbones.p2t import P2T, InvertedResidual
from ziggurat.backbones.pvt import PVT
from ziggurat.backbones.pvt_v2 import ConvFeedForward, PVTv2
from ziggurat.backbones.resnet import FrozenBatchNorm, Norm, ResNet
from ziggurat.backbones.topformer import TopFormer
from ziggurat.checkpoints.for_timm import save_for_timm
from ziggurat.checkpoints.native import load_weights, save_weights
from ziggurat.checkpoints.official import load_official
from ziggurat.errors import ZigguratError
from ziggurat.fast.compiler import KernelUnavailableError
from ziggurat.fast.inference import AnyModel, Optimized, optimize_for_inference
from ziggurat.fast.inference_kernel import PackedFeedForward, has_products, load_kernel
from ziggurat.fast.layers import FUNCTIONS, fold
from ziggurat.inference.predictor import Predictor
from ziggurat.layers.conv_norm import ConvNorm
from ziggurat.necks.fpt import FeaturePyramidTransformer
from ziggurat.pretrained import load_pretrained
from ziggurat.zoo import create_model

TOLERANCE = 2e-5

STAGES = ((8, 12, 16, 24), (1, 2, 2, 2), (2, 2, 2, 2), (1, 2, 1, 1))
ROWS = ((3, 1, 16, 1), (3, 4, 16, 2), (3, 3, 16, 1), (5, 3, 24, 2), (3, 3, 32, 2), (5, 3, 40, 2))


def resnet(norm: Norm) -> ResNet:
    return ResNet(
        (1, 2, 1, 1),
        1,
        32,  # the groups of a group norm
        stride_in_1x1=True,
        norm=norm,
        output_stride=32,
        num_frozen_stages=0,
        drop_path_rate=0.0,
        in_channels=3,
    )


FAMILIES: dict[str, Callable[[], nn.Module]] = {
    "p2t": lambda: P2T(*STAGES, 0.1, 3),
    "pvt": lambda: PVT(*STAGES, 0.1, 3, use_class_token=False),
    "pvt_v2": lambda: PVTv2(*STAGES, False, 0.1, 3),
    "pvt_v2_li": lambda: PVTv2(*STAGES, True, 0.1, 3),
    "gpvit": lambda: GPViT(24, 4, 2, (0, 4, 0), 1, (2,), 0.1, 3),
    "topformer": lambda: TopFormer(ROWS, (2, 3, 4, 5), 2, 16, 64, 0.1, 3),
    "resnet": lambda: resnet("batch"),
    "frozen resnet": lambda: resnet("frozen"),
}


def build(family: str) -> nn.Module:
    """Build a small backbone in eval mode whose norms and biases are not the initial ones."""
    model = FAMILIES[family]().eval()
    for name, entry in model.state_dict().items():
        if "norm" in name and entry.is_floating_point():
            entry.uniform_(0.5, 1.5)
        elif name.endswith("bias"):
            entry.normal_(std=0.1)
    return model


def without_kernel(model: AnyModel) -> AnyModel:
    """Optimize a model as any machine can."""
    return optimize_for_inference(model, use_kernel=False)


def replaced(model: nn.Module) -> list[Optimized]:
    return [module for module in model.modules() if isinstance(module, Optimized)]


def error(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.fixture(scope="module")
def compiled() -> None:
    """Skip where the kernel cannot be built; elsewhere it is built once and stays in the cache."""
    try:
        load_kernel()
    except KernelUnavailableError as error:
        pytest.skip(f"the kernel cannot be built here: {error}")


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", str(tmp_path / "no_such_compiler"))
    monkeypatch.setattr("ziggurat.fast.inference.load_kernel", load_kernel.__wrapped__)


@pytest.mark.parametrize("use_kernel", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_keeps_its_outputs(
    family: str, use_kernel: bool, request: pytest.FixtureRequest
) -> None:
    if use_kernel:
        request.getfixturevalue("compiled")
    model = build(family)
    optimized = optimize_for_inference(model, use_kernel=use_kernel)
    assert replaced(optimized)
    for size in ((2, 3, 64, 96), (1, 3, 80, 64)):
        images = torch.randn(size)
        with torch.inference_mode():
            maps, expected = optimized(images), model(images)
        for ours, plain in zip(maps, expected, strict=True):
            assert 0 <= error(ours, plain) < TOLERANCE
            assert ours.shape == plain.shape


@pytest.mark.parametrize("use_kernel", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_under_autocast_every_family_stays_as_near_to_float32(
    family: str, use_kernel: bool, request: pytest.FixtureRequest
) -> None:
    if use_kernel:
        request.getfixturevalue("compiled")
    model = build(family)
    optimized = optimize_for_inference(model, autocast=torch.bfloat16, use_kernel=use_kernel)
    images = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        exact = model(images)
        assert all(torch.equal(a, b) for a, b in zip(optimized(images), exact, strict=True))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            plain, fast = model(images), optimized(images)
    for ours, rounded, expected in zip(fast, plain, exact, strict=True):
        assert not torch.equal(ours, expected)
        assert error(ours, expected) < 1.5 * error(rounded, expected) + 1e-3


def test_linear_layers_hold_converted_weights_and_can_be_looked_into() -> None:
    layer = nn.Linear(8, 4, bias=False)
    part = optimize_for_inference(nn.Sequential(layer).eval(), autocast=torch.bfloat16)[0]
    assert isinstance(part, Optimized)
    assert torch.equal(part.weight, layer.weight)
    assert part.bias is None
    x = torch.randn(3, 8)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert part(x).dtype == torch.bfloat16
        assert error(part(x), layer(x)) < 1e-2
    with torch.inference_mode():
        assert torch.equal(part(x), layer(x))


def test_other_precisions_are_refused() -> None:
    with pytest.raises(ZigguratError, match=r"autocast to torch.float16; choose torch.bfloat16"):
        optimize_for_inference(build("p2t"), autocast=torch.float16)


def test_norms_are_folded_in_the_precision_of_the_weights() -> None:
    model = build("topformer").double()
    optimized = optimize_for_inference(model)
    part = replaced(optimized)[0]
    images = torch.randn(1, 3, 64, 96, dtype=torch.float64)
    with torch.inference_mode():
        assert part.fast(images).dtype == torch.float64
        for a, b in zip(optimized(images), model(images), strict=True):
            assert 0 < error(a, b) < 1e-12


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.usefixtures("compiled")
def test_every_replaced_part_computes_what_its_plain_part_computes(family: str) -> None:
    optimized = optimize_for_inference(build(family))
    inputs: dict[Optimized, Tensor] = {}

    def keep(part: nn.Module, arguments: tuple[Tensor]) -> None:
        assert isinstance(part, Optimized)
        inputs[part] = arguments[0]

    for part in replaced(optimized):
        part.register_forward_pre_hook(keep)
    with torch.inference_mode():
        optimized(torch.randn(1, 3, 64, 96))
        assert len(inputs) == len(replaced(optimized))
        for part, x in inputs.items():
            assert error(part.fast(x), part.plain(x)) < 1e-5


def test_group_norms_are_not_folded() -> None:
    model = build("resnet")
    grouped = resnet("group").eval()
    assert not replaced(without_kernel(grouped))
    assert len(replaced(without_kernel(model))) == 6  # the stem and five blocks


def test_entries_stay_and_load_into_the_plain_model() -> None:
    model = build("topformer")
    optimized = without_kernel(model)
    entries = optimized.state_dict()
    assert list(entries) == list(model.state_dict())
    assert all(torch.equal(value, entries[name]) for name, value in model.state_dict().items())
    FAMILIES["topformer"]().load_state_dict(entries)


def test_the_model_itself_stays_as_it_is() -> None:
    model = build("p2t")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimized = without_kernel(model)
    with torch.no_grad():
        next(model.parameters()).fill_(7.0)
    assert not replaced(model)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert torch.equal(next(optimized.parameters()), next(iter(before.values())))


def test_weights_of_the_copy_are_saved_and_predict(classifier_file: Path, tmp_path: Path) -> None:
    optimized = without_kernel(load_weights(classifier_file))
    save_weights(optimized, tmp_path / "again.safetensors")
    image = torch.rand(3, 80, 90)
    plain = Predictor(load_weights(tmp_path / "again.safetensors"), device="cpu")(image)
    fast = Predictor(optimized, device="cpu")(image)
    assert [name for name, _ in fast.top()] == [name for name, _ in plain.top()]
    for (_, a), (_, b) in zip(fast.top(), plain.top(), strict=True):
        assert a == pytest.approx(b, rel=1e-4)


def test_a_detector_finds_the_same(detector_file: Path) -> None:
    model = load_weights(detector_file)
    image = torch.rand(3, 80, 120)
    plain = Predictor(model, device="cpu")(image).to_dict()["objects"]
    fast = Predictor(without_kernel(model), device="cpu")(image).to_dict()["objects"]
    assert plain
    assert len(fast) == len(plain)
    for a, b in zip(fast, plain, strict=True):
        assert a["score"] == pytest.approx(b["score"], rel=1e-4)
        assert a["box"] == pytest.approx(b["box"], rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 1), (2, 5, 70), (3, 33, 40), (1, 16, 16)])
@pytest.mark.usefixtures("compiled")
def test_kernel_computes_maps_of_any_size(shape: tuple[int, int, int]) -> None:
    batch, height, width = shape
    for block in (InvertedResidual(20, 50), ConvFeedForward(20, 50, use_relu=True)):
        for parameter in block.parameters():
            nn.init.normal_(parameter, std=0.3)
        part = optimize_for_inference(nn.Sequential(block).eval())[0]
        assert isinstance(part, Optimized)
        assert isinstance(part.fast, PackedFeedForward)
        x = torch.randn(batch, 20, height, width)
        with torch.inference_mode():
            assert error(part(x), block(x.contiguous(memory_format=torch.channels_last))) < 1e-5


@pytest.mark.skipif(
    not has_products(torch.bfloat16), reason="this processor does not multiply bfloat16"
)
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 1), (2, 5, 70), (3, 33, 40), (1, 16, 16)])
@pytest.mark.usefixtures("compiled")
def test_kernel_rounds_no_more_than_layer_by_layer(shape: tuple[int, int, int]) -> None:
    batch, height, width = shape
    for block in (InvertedResidual(20, 50), ConvFeedForward(20, 50, use_relu=True)):
        for parameter in block.parameters():
            nn.init.normal_(parameter, std=0.3)
        plain = nn.Sequential(block).eval()
        part, other = (
            optimize_for_inference(plain, autocast=torch.bfloat16, use_kernel=use_kernel)[0]
            for use_kernel in (True, False)
        )
        assert isinstance(part, Optimized)
        assert isinstance(part.fast, PackedFeedForward)
        x = torch.randn(batch, 20, height, width)
        with torch.inference_mode():
            exact = block(x.contiguous(memory_format=torch.channels_last))
            with torch.autocast("cpu", torch.bfloat16):
                found, rounded = part(x), other(x)
        assert found.dtype == torch.bfloat16
        assert 0 < error(found, exact) < 1.2 * error(rounded, exact)


@pytest.mark.parametrize(
    ("flags", "has_pairs"),
    [("fpu avx512_bf16", True), ("avx512_bf16 amx_bf16", False), ("avx2", False), (None, False)],
)
def test_processors_whose_bfloat16_the_kernel_is_for(
    flags: str | None, has_pairs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ziggurat.fast.inference_kernel.processor_entry", lambda _: flags)
    assert has_products(torch.bfloat16) is has_pairs
    assert has_products(torch.float32)


def test_a_block_of_an_odd_number_of_channels_goes_layer_by_layer() -> None:
    model = nn.Sequential(InvertedResidual(7, 16)).eval()
    part = optimize_for_inference(model, autocast=torch.bfloat16)[0]
    assert isinstance(part, Optimized)
    assert not isinstance(part.fast, PackedFeedForward)


@pytest.mark.usefixtures("compiled")
def test_kernel_cuts_large_maps_into_tiles_for_several_threads() -> None:
    block = InvertedResidual(64, 128)
    part = optimize_for_inference(nn.Sequential(block).eval())[0]
    x = torch.randn(1, 64, 61, 53).contiguous(memory_format=torch.channels_last)
    threads = torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            with torch.inference_mode():
                assert error(part(x), block(x)) < 1e-5
    finally:
        torch.set_num_threads(threads)


@pytest.mark.usefixtures("compiled")
def test_kernel_passes_values_that_are_no_numbers() -> None:
    part = optimize_for_inference(nn.Sequential(InvertedResidual(8, 16)).eval())[0]
    x = torch.randn(1, 8, 6, 6)
    x[0, 0, 0, 0] = torch.nan
    with torch.inference_mode():
        y = part(x)
    assert y[..., :2, :2].isnan().all()
    assert y[..., 2:, 2:].isfinite().all()


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_one_warning_says_so_and_outputs_stay() -> None:
    model = build("p2t")
    with pytest.warns(UserWarning, match="no_such_compiler") as caught:
        optimized = optimize_for_inference(model)
    assert len(caught) == 1
    assert "computes the same" in str(caught[0].message)
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert error(optimized(images)[-1], model(images)[-1]) < TOLERANCE


@pytest.mark.usefixtures("no_compiler")
def test_nothing_is_compiled_or_said_where_the_kernel_is_not_wanted() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimize_for_inference(build("p2t"), use_kernel=False)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'cannot compile' >&2; exit 1", "cannot compile"),
        ("for last; do :; done; [ $last = /dev/null ] || echo no > $last", "cannot be loaded"),
    ],
    ids=["fails", "builds no library"],
)
def test_a_broken_compiler_is_named(
    script: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = tmp_path / "cxx"
    compiler.write_text(f"#!/bin/sh\n{script}\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("ZIGGURAT_CACHE", str(tmp_path / "cache"))
    with pytest.raises(KernelUnavailableError, match=reason):
        load_kernel.__wrapped__()


@pytest.mark.usefixtures("compiled")
def test_a_folder_that_others_may_write_to_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "kernels"
    folder.mkdir()
    folder.chmod(0o777)
    monkeypatch.setenv("ZIGGURAT_CACHE", str(tmp_path))
    with pytest.raises(KernelUnavailableError, match=re.escape(str(folder))):
        load_kernel.__wrapped__()


@pytest.mark.usefixtures("compiled")
def test_a_kernel_that_computes_something_else_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(FUNCTIONS, "hardswish", torch.relu)
    with pytest.raises(KernelUnavailableError, match="something else"):
        load_kernel.__wrapped__()


def test_gradients_autocast_and_other_precisions_take_the_plain_way() -> None:
    block = InvertedResidual(8, 16)
    part = without_kernel(nn.Sequential(block).eval())[0]
    x = torch.randn(1, 8, 6, 6).contiguous(memory_format=torch.channels_last)
    images = x.clone().requires_grad_()
    part(images).sum().backward()
    assert images.grad is not None
    assert images.grad.any()
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(part(x), block(x))
    with torch.inference_mode():
        assert torch.equal(part.double()(x.double()), block.double()(x.double()))


def test_export_traces_the_plain_part() -> None:
    model = nn.Sequential(ConvNorm(8, 8, 3), InvertedResidual(8, 16)).eval()
    optimized = without_kernel(model)
    x = torch.randn(1, 8, 6, 6)
    with torch.no_grad():
        program = torch.export.export(optimized, (x,))
        called = {str(node.target) for node in program.graph.nodes}
        assert not any("mkldnn" in name for name in called)
        assert error(program.module()(x), model(x)) < TOLERANCE


def test_training_mode_is_refused() -> None:
    model = build("p2t")
    optimized = without_kernel(model)
    with pytest.raises(ZigguratError, match=re.escape("call model.eval() first")):
        without_kernel(model.train())
    with pytest.raises(ZigguratError, match="cannot be trained"):
        optimized.train()
    assert not any(parameter.requires_grad for parameter in optimized.parameters())
    optimized.eval()


def test_loading_into_the_copy_and_optimizing_it_again_are_refused() -> None:
    model = build("p2t")
    optimized = without_kernel(model)
    with pytest.raises(ZigguratError, match="load them into the plain model"):
        optimized.load_state_dict(model.state_dict())
    with pytest.raises(ZigguratError, match="already optimized"):
        without_kernel(optimized)


def test_files_are_not_loaded_into_the_copy(tmp_path: Path) -> None:
    first, second = (create_model("pvt_v2_b0", num_classes=3).eval() for _ in range(2))
    save_weights(second, tmp_path / "ours.safetensors")
    save_for_timm(second, tmp_path / "timm.safetensors")
    optimized = without_kernel(first)
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        expected = optimized(images)
        with pytest.raises(ZigguratError, match="load them into the plain model"):
            load_pretrained(optimized, tmp_path / "ours.safetensors")
        with pytest.raises(ZigguratError, match="load them into the plain model"):
            load_official(optimized, tmp_path / "timm.safetensors")
        assert torch.equal(optimized(images), expected)


def test_a_model_without_anything_to_replace_is_copied() -> None:
    classifier = create_model("p2t_mini", num_classes=3).eval()
    assert len(replaced(without_kernel(classifier))) == 5  # one in each block
    linear = nn.Linear(3, 2).eval()
    copy = without_kernel(linear)
    assert copy is not linear
    assert torch.equal(copy.weight, linear.weight)


def test_norms_are_folded_on_a_device_without_float64(on_mps: Callable[[Tensor], Tensor]) -> None:
    layer = ConvNorm(3, 4, 3, norm=FrozenBatchNorm)
    for name, buffer in list(layer.norm.named_buffers()):
        setattr(layer.norm, name, torch.rand_like(buffer) + 0.5)
    plain = fold(layer)
    layer.conv.weight = nn.Parameter(on_mps(layer.conv.weight.detach()))
    for name, buffer in list(layer.norm.named_buffers()):
        setattr(layer.norm, name, on_mps(buffer))
    there = fold(layer)
    assert plain is not None and there is not None
    assert there.weight.device.type == there.bias.device.type == "mps"
    assert torch.equal(there.weight, plain.weight)
    assert torch.equal(there.bias, plain.bias)


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
@pytest.mark.parametrize("num_images", [1, 2])
def test_a_transformer_of_pyramids_is_optimized(
    norm: Literal["batch", "group"], autocast: torch.dtype | None, num_images: int
) -> None:
    neck = FeaturePyramidTransformer((16, 32), (8, 16), 32, inner_norm=norm).eval()
    optimized = optimize_for_inference(neck, autocast=autocast)
    maps = [torch.randn(num_images, 16, 12, 12), torch.randn(num_images, 32, 6, 6)]
    with (
        torch.inference_mode(),
        torch.autocast("cpu", torch.bfloat16, enabled=autocast is not None),
    ):
        for plain, fast in zip(neck(maps), optimized(maps), strict=True):
            distance = (fast.float() - plain.float()).norm() / plain.float().norm()
            assert distance < (TOLERANCE if autocast is None else 2e-2)


@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_copy_of_an_optimized_model_is_one(family: str, autocast: torch.dtype | None) -> None:
    optimized = optimize_for_inference(FAMILIES[family]().eval(), autocast=autocast)
    images = torch.randn(1, 3, 64, 64)
    enabled = autocast is not None
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
        expected = optimized(images)
        for copied in (copy.deepcopy(optimized), pickle.loads(pickle.dumps(optimized))):
            torch.testing.assert_close(copied(images), expected, rtol=0, atol=0)
