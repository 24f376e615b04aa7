"""Blocks that learn through the kernel have the gradients of the plain ones, and keep less."""

import copy
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import ziggurat
from ziggurat.backbones import topformer
from ziggurat.backbones.p2t import InvertedResidual
from ziggurat.backbones.pvt_v2 import ConvFeedForward
from ziggurat.fast import training, training_kernel
from ziggurat.fast.compiler import KernelUnavailableError
from ziggurat.fast.inference import Optimized, optimize_for_inference
from ziggurat.fast.inference_kernel import load_kernel
from ziggurat.fast.layers import FUNCTIONS
from ziggurat.fast.training import LeanBlock, optimize_for_training, use_training_kernel
from ziggurat.fast.training_kernel import load_training_kernel
from ziggurat.layers.checkpointing import run_block
from ziggurat.layers.feed_forward import FeedForward
from ziggurat.layers.pre_norm_block import PreNormBlock

TOLERANCE = 1e-5
MLPS: dict[str, Callable[[], nn.Module]] = {
    "p2t": lambda: InvertedResidual(20, 128),
    "pvt_v2": lambda: ConvFeedForward(20, 128, use_relu=False),
    "pvt_v2_li": lambda: ConvFeedForward(20, 128, use_relu=True),
    "pvt": lambda: FeedForward(20, 64),
}


@pytest.fixture(autouse=True, scope="module")
def compiled() -> None:
    """Skip where the kernel cannot be built; elsewhere it is built once and stays in the cache."""
    try:
        load_training_kernel()
    except KernelUnavailableError as error:
        pytest.skip(f"the kernel cannot be built here: {error}")


def build(kind: str, drop_path: float = 0.0) -> PreNormBlock:
    """Return a block whose attention passes on what it gets."""
    block = PreNormBlock(20, nn.Identity(), MLPS[kind](), drop_path)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    return block


def gradients(block: nn.Module, x: Tensor) -> list[Tensor]:
    """Return the output, and the gradients of the input and of the parameters."""
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    y = block(x)
    slopes = torch.linspace(-1, 1, y.numel()).view_as(y)
    return [y.detach(), *torch.autograd.grad(y, (x, *block.parameters()), slopes)]


def maps(*shape: int) -> Tensor:
    return torch.randn(shape).contiguous(memory_format=torch.channels_last)


def assert_close(ours: list[Tensor], plain: list[Tensor]) -> None:
    assert len(ours) == len(plain)
    for a, b in zip(ours, plain, strict=True):
        assert a.shape == b.shape
        assert float((a - b).norm() / b.norm()) < TOLERANCE


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (1, 5), (9, 13), (31, 30)])
@pytest.mark.parametrize("kind", MLPS)
def test_output_and_gradients_of_maps_of_any_size(kind: str, size: tuple[int, int]) -> None:
    block, x = build(kind), maps(3, 20, *size)
    plain = gradients(block, x)
    assert use_training_kernel(block) == 1
    assert_close(gradients(block, x), plain)
    assert_close(gradients(block, x.contiguous()), plain)  # in another order in memory


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", MLPS)
def test_mixed_precision_is_as_close_as_that_of_plain_layers(kind: str, dtype: torch.dtype) -> None:
    block, x = build(kind), maps(3, 20, 9, 13).to(dtype)
    lean = optimize_for_training(copy.deepcopy(block))
    exact = gradients(block, x.float())
    with torch.autocast("cpu", torch.bfloat16):
        plain, ours = gradients(block, x), gradients(lean, x)
    assert not torch.equal(ours[0], exact[0])
    names = ("y", "x", *dict(block.named_parameters()))
    for name, a, b, wanted in zip(names, ours, plain, exact, strict=True):
        assert a.dtype == b.dtype
        # Gradients of the norm are sums that nearly vanish: of both, most is rounding.
        allowed = 1.5 if "norm" in name else 1.2
        assert float((a - wanted).norm()) <= allowed * float((b - wanted).norm())


@pytest.mark.parametrize("kind", MLPS)
def test_a_batch_is_worked_on_in_bands(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_kernel, "BAND_BYTES", 2 * 6 * 7 * 128 * 4)
    block, x = build(kind), maps(5, 20, 6, 7)
    plain = gradients(block, x)
    optimize_for_training(block)
    assert_close(gradients(block, x), plain)


def test_gradients_do_not_depend_on_the_threads() -> None:
    block, x = optimize_for_training(build("p2t")), maps(3, 20, 17, 19)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = gradients(block, x)
        torch.set_num_threads(3)
        assert_close(gradients(block, x), expected)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("kind", MLPS)
def test_images_that_skip_the_branch_are_drawn_alike(kind: str) -> None:
    block, x = build(kind, drop_path=0.5), maps(8, 20, 5, 7)
    lean = optimize_for_training(copy.deepcopy(block))
    for seed in range(4):
        torch.manual_seed(seed)
        plain = gradients(block, x)
        torch.manual_seed(seed)
        assert_close(gradients(lean, x), plain)


@pytest.mark.parametrize("name", ["p2t_tiny", "pvt_tiny", "pvt_v2_b0", "pvt_v2_b2_li", "gpvit_l1"])
def test_whole_models_learn_alike(name: str) -> None:
    model = ziggurat.create_backbone(name).train()
    lean = optimize_for_training(copy.deepcopy(model))
    blocks = [m for m in lean.modules() if isinstance(m, LeanBlock)]
    assert len(blocks) >= 8
    images = torch.randn(2, 3, 64, 64)
    slopes = [torch.randn_like(level) for level in model(images)]
    for part in (model, lean):
        torch.autograd.backward(part(images), slopes)
    plain = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    ours = {n: p.grad for n, p in lean.named_parameters() if p.grad is not None}
    assert ours.keys() == plain.keys()
    scale = max(float(grad.norm()) for grad in plain.values())
    for parameter, grad in plain.items():
        # Next to nothing, biases in front of norms for example, is rounding only.
        allowed = 1e-4 * float(grad.norm()) + 1e-6 * scale
        assert float((ours[parameter] - grad).norm()) <= allowed, parameter


def test_less_is_kept_for_the_backward_pass() -> None:
    block, x = build("p2t"), maps(2, 20, 16, 16)
    kept: list[int] = []

    def count(tensor: Tensor) -> Tensor:
        kept[-1] += tensor.numel() if tensor.shape[0] == 2 or len(tensor) == 2 * 16 * 16 else 0
        return tensor

    for part in (block, optimize_for_training(copy.deepcopy(block))):
        kept.append(0)
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            part.mix_channels(x)
    pixels = 2 * 16 * 16
    assert kept[1] == pixels * (20 + 128)  # the input and the hidden map, once
    assert kept[0] > 3.5 * kept[1]


def test_a_copy_has_its_own_weights_and_names_stay() -> None:
    block = optimize_for_training(build("pvt_v2"))
    assert list(block.state_dict()) == list(build("pvt_v2").state_dict())
    copied, x = copy.deepcopy(block), maps(1, 20, 4, 4)
    before = copied(x)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.zero_()
    assert torch.equal(copied(x), before)
    assert torch.equal(block(x), x)


def test_what_the_kernel_is_not_for_goes_the_plain_way() -> None:
    block = build("p2t")
    lean = optimize_for_training(copy.deepcopy(block))
    x = maps(1, 20, 6, 6)
    with torch.no_grad():
        assert torch.equal(lean(x), block(x))
    with torch.autocast("cpu", torch.float16):
        assert torch.equal(lean(x), block(x))
    assert torch.equal(lean.double()(x.double()), block.double()(x.double()))
    mixed = optimize_for_training(build("p2t"))
    mixed.mlp.bfloat16()
    plain = build("p2t")
    plain.mlp.bfloat16()
    plain.load_state_dict(mixed.state_dict())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(mixed(x), plain(x))


def test_nothing_is_kept_where_nothing_learns() -> None:
    block = optimize_for_training(build("p2t")).requires_grad_(False)
    x = maps(1, 20, 6, 6)
    assert block(x).grad_fn is None
    plain = build("p2t").requires_grad_(False)
    plain.load_state_dict(block.state_dict())
    assert torch.equal(block(x), plain(x))


def test_gradients_reach_the_input_through_frozen_weights() -> None:
    block, x = build("pvt_v2").requires_grad_(False), maps(2, 20, 6, 5).requires_grad_()
    lean = optimize_for_training(copy.deepcopy(block))
    plain, ours = (torch.autograd.grad(part(x).square().sum(), x) for part in (block, lean))
    assert_close(list(ours), list(plain))


def test_an_empty_batch_and_a_change_of_the_output() -> None:
    block = optimize_for_training(build("p2t"))
    assert block(maps(0, 20, 6, 6)).shape == (0, 20, 6, 6)
    x = maps(1, 20, 6, 6)
    assert torch.equal(block(x).mul_(2), 2 * block(x))


def test_a_branch_that_nobody_takes_has_gradients() -> None:
    block, x = optimize_for_training(build("p2t", drop_path=0.999)), maps(2, 20, 4, 4)
    y, of_x, *of_weights = gradients(block, x)
    assert torch.equal(y, x)
    assert of_x.any()
    assert len(of_weights) == len(list(block.parameters()))
    assert not any(gradient.any() for gradient in of_weights)


def test_a_block_that_is_computed_again_drops_the_same_images() -> None:
    block, x = optimize_for_training(build("pvt", drop_path=0.5)), maps(8, 20, 5, 5)
    torch.manual_seed(1)
    expected = gradients(block, x)
    torch.manual_seed(1)
    x.requires_grad_()
    y = run_block(block, x, use_checkpointing=True)
    slopes = torch.linspace(-1, 1, y.numel()).view_as(y)
    again = torch.autograd.grad(y, (x, *block.parameters()), slopes)
    assert all(torch.equal(a, b) for a, b in zip(expected, (y, *again), strict=True))


@pytest.mark.usefixtures("unchecked")
def test_graphs_are_traced_through_the_plain_way() -> None:
    block, x = build("pvt_v2"), maps(1, 20, 6, 6)
    lean = optimize_for_training(copy.deepcopy(block))
    compiled = torch.compile(lean, backend="eager", fullgraph=True)
    assert torch.equal(compiled(x), block(x))
    assert torch.equal(torch.export.export(lean, (x,)).module()(x), block(x))


def test_a_model_that_has_learned_is_optimized_for_inference() -> None:
    block, x = build("p2t"), maps(1, 20, 6, 6)
    fast = optimize_for_inference(optimize_for_training(copy.deepcopy(block)).eval())
    assert isinstance(fast.mlp, Optimized)
    for gradients_too in (False, True):
        with torch.set_grad_enabled(gradients_too):
            error = (fast(x) - block(x)).norm() / block(x).norm()
            assert float(error.detach()) < TOLERANCE


def test_blocks_that_it_does_not_fit_stay() -> None:
    for mlp in (InvertedResidual(20, 100), FeedForward(20, 24)):  # no whole chunks of channels
        assert use_training_kernel(PreNormBlock(20, nn.Identity(), mlp, 0.0)) == 0
    assert use_training_kernel(PreNormBlock(20, nn.Identity(), nn.Identity(), 0.0)) == 0
    with_norms = topformer.InvertedResidual(20, (3, 4, 20, 1))
    assert use_training_kernel(PreNormBlock(20, nn.Identity(), with_norms, 0.0)) == 0
    without_bias = build("pvt")
    assert isinstance(without_bias.mlp, FeedForward)
    without_bias.mlp.fc2.bias = None  # type: ignore[assignment]
    assert use_training_kernel(without_bias) == 0
    assert use_training_kernel(topformer.topformer_tiny()) == 0  # batch norms in between


def test_functional_gradients_go_the_plain_way() -> None:
    plain = build("pvt_v2")
    lean = copy.deepcopy(plain)
    assert use_training_kernel(lean) == 1
    x = maps(2, 20, 5, 6)

    def loss(block: nn.Module, weights: dict[str, Tensor]) -> Tensor:
        y: Tensor = torch.func.functional_call(block, weights, (x,))
        return y.square().sum()

    found, expected = (
        torch.func.grad(partial(loss, block))(dict(block.named_parameters()))
        for block in (lean, plain)
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_usual_precision_and_mode_do_not_reach_the_test_of_the_kernel(dtype: torch.dtype) -> None:
    torch.set_default_dtype(dtype)
    try:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            load_training_kernel.__wrapped__()
            load_kernel.__wrapped__()
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_model_from_a_machine_with_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = build("pvt_v2")
    lean = copy.deepcopy(plain)
    assert use_training_kernel(lean) == 1

    def fail() -> None:
        raise KernelUnavailableError("no compiler")

    monkeypatch.setattr(training, "load_training_kernel", fail)
    training._kernel_or_none.cache_clear()
    x = maps(2, 20, 5, 6)
    with pytest.warns(UserWarning, match="trains without the kernel: no compiler"):
        first = lean(x)
    assert torch.equal(lean(x), first)  # the warning comes once
    assert torch.equal(plain(x), first)
    training._kernel_or_none.cache_clear()


def test_second_derivatives_are_refused() -> None:
    block, x = optimize_for_training(build("p2t")), maps(1, 20, 3, 3).requires_grad_()
    (grad,) = torch.autograd.grad(block(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_values_that_are_no_numbers_stay_visible() -> None:
    block, x = optimize_for_training(build("pvt_v2")), maps(1, 20, 6, 6)
    x[0, 0, 0, 0] = torch.nan
    y, of_x, *_ = gradients(block, x)
    assert y[..., :2, :2].isnan().all()
    assert y[..., 2:, 2:].isfinite().all()
    assert of_x.isnan().any()


def test_a_kernel_that_computes_something_else_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(FUNCTIONS, "hardswish", torch.relu)
    with pytest.raises(KernelUnavailableError, match="something else"):
        load_training_kernel.__wrapped__()


def test_without_a_compiler_a_warning_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", str(tmp_path / "no_such_compiler"))
    monkeypatch.setattr(
        "ziggurat.fast.training.load_training_kernel", load_training_kernel.__wrapped__
    )
    block = build("p2t")
    with pytest.warns(UserWarning, match=re.escape("no_such_compiler")):
        assert optimize_for_training(block) is block
    assert type(block) is PreNormBlock
