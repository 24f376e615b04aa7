"""The Feature Pyramid Transformer gives what the published code, and the paper's formulas, give.

One case is left out: `fpt_history_ffdbf3d_group_norm` is the network of an early commit, with
another self-transformer and another rendering. What ours does not have of the self-transformer's
options is put together around it here: the projections of `ffn` and `dffn`, and the concatenation
of `concat`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ziggurat
from ziggurat.checkpoints.fpt import GROUNDING, RENDERING, SELF
from ziggurat.checkpoints.names import NameMap
from ziggurat.layers.grounding_transformer import EuclideanGrounding, GroundingTransformer
from ziggurat.layers.local_attention import LocalAttention, LocalAttentionStem
from ziggurat.layers.rendering_transformer import PlainRendering, RenderingTransformer
from ziggurat.layers.self_transformer import PartPrior, SelfTransformer
from ziggurat.necks.fpt import FeaturePyramidTransformer
from ziggurat.ops.mixture_attention import attention_maps, mixture_attention

TOLERANCE = 1e-4
"""Of the largest difference, in standard deviations of the output."""
PAPER_GROUNDING: tuple[tuple[str, str], ...] = (
    (r"([qkv]\..+)", r"\1"),
    (r"mos\.weight", "prior.weight"),
)
LOCAL: tuple[tuple[str, str], ...] = (
    (r"query_conv\.weight", "q.weight"),
    (r"key_conv\.weight", "k.weight"),
    (r"value_conv\.weight", "v.weight"),
    (r"(?:rel_h|emb_a)", "rows"),
    (r"(?:rel_w|emb_b)", "columns"),
    (r"emb_mix", "mix"),
)
PAPER_RENDERING: tuple[tuple[str, str], ...] = (
    (r"refine_q\.(.+)", r"coarse.\1"),
    (r"down_v\.(.+)", r"fine.\1"),
    (r"refine_out\.(.+)", r"refine.\1"),
)


def inputs(case: Any) -> list[Tensor]:
    """Input number k is drawn with the seed k."""
    return [
        torch.from_numpy(np.random.RandomState(k).standard_normal(shape).astype(np.float32))
        for k, shape in enumerate(case.facts["input_shape"].values())
    ]


def load(module: nn.Module, case: Any, renames: tuple[tuple[str, str], ...]) -> None:
    """Give a part of the pyramid its official weights; what the code never uses stays out."""
    names = NameMap(renames)
    own = {names.own_name(name): value for name, value in case.weights().items()}
    own.pop(None, None)
    if "compare.weight" in own:  # a 1x1 convolution there, a matrix here
        own["compare.weight"] = own["compare.weight"].flatten(1)
    module.load_state_dict(own)  # type: ignore[arg-type]
    module.eval()


def deviation(case: Any, output: str, ours: Tensor) -> float:
    facts = case.facts["outputs"][output]
    assert list(ours.shape) == facts["shape"]
    mine = ours.detach().reshape(-1)[:: facts["stride"]].double().numpy()
    return float(np.abs(mine - case.values[output].reshape(-1)).max() / facts["std"])


@pytest.mark.parametrize("norm", ["none", "group", "batch"])
def test_the_whole_pyramid(norm: Any, golden: Callable[[str], Any]) -> None:
    case = golden(
        "fpt/fpt_a_" + {"group": "group_norm", "batch": "batch_norm"}.get(norm, norm) + "_repaired"
    )
    neck = FeaturePyramidTransformer(
        (256, 512, 1024, 2048), (4, 8, 16, 32), norm=norm, inner_norm="batch"
    ).eval()
    report = ziggurat.load_official(neck, case.weights())
    assert len(report.matched) + len(report.ignored) == len(case.facts["entries"])
    assert not report.absent
    unused = sum(parameter.numel() for parameter in neck.parameters()) + 6 * 196_608
    assert unused == case.facts["params"]
    inner: dict[str, Tensor] = {}
    for i, level in enumerate((2, 3, 4, 5)):
        for name, module in (
            (f"lateral_p{level}", neck.laterals[i]),
            (f"st_p{level}", neck.selfs[str(i)]),
            *(
                (f"gt_p{level}_p{coarse}", neck.grounds[f"{i}_{coarse - 2}"])
                for coarse in range(level + 1, 6)
            ),
            *(
                (f"rt_p{level}_p{fine}", neck.renders[f"{i}_{fine - 2}"])
                for fine in range(2, level)
            ),
        ):
            module.register_forward_hook(
                lambda _module, _inputs, output, name=name: inner.update({name: output})
            )
    with torch.inference_mode():
        maps = neck(inputs(case))
    ours = inner | {f"p{level}": x for level, x in enumerate(maps, 2)}
    for output in case.facts["outputs"]:
        assert deviation(case, output, ours[output]) < TOLERANCE, output


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_mixture_of_softmaxes(parts: int, golden: Callable[[str], Any]) -> None:
    case = golden(f"fpt/mos_mix{parts}")
    q, k, v = (x.mT for x in inputs(case))
    prior = PartPrior(64, parts)
    if parts > 1:
        prior.load_state_dict(case.weights())
    weights = prior(q)
    if parts > 1:
        assert deviation(case, "pi", weights[..., None]) < TOLERANCE
    assert deviation(case, "attn", attention_maps(q, k, weights, scale=1 / 8)) < TOLERANCE
    out = mixture_attention(q, k, v, weights, scale=1 / 8)
    assert deviation(case, "output", out) < TOLERANCE


SELF_CASES: dict[str, dict[str, Any]] = {
    "mix1": {"parts": 1},
    "mix2": {},
    "mix4": {"parts": 4},
    "mix2_peaky": {},
    "mix2_odd_repaired": {},
    "nopool": {"pools": False},
    "heads2": {"num_heads": 2},
    "concat": {},
    "ffn": {},
    "dffn": {},
}


@pytest.mark.parametrize("name", SELF_CASES)
def test_self_transformer(name: str, golden: Callable[[str], Any]) -> None:
    case = golden(f"fpt/selftrans_{name}")
    x = inputs(case)[0] * (4 if name == "mix2_peaky" else 1)
    module = SelfTransformer(x.shape[1], nn.BatchNorm2d, **SELF_CASES[name])
    if name in ("ffn", "dffn"):  # another projection, which the pyramid does not have
        dilation = 4 if name == "dffn" else 1
        module.qk = nn.Sequential(  # type: ignore[assignment]
            nn.Conv2d(64, 64, 3, padding=dilation, dilation=dilation, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.Conv2d(64, 64, 1),
        )
    load(module, case, SELF)
    with torch.inference_mode():
        out = module(x)
    assert deviation(case, "branch", out - x) < TOLERANCE
    if name == "concat":  # the branch and the map side by side instead of their sum
        out = torch.cat((out - x, x), dim=1)
    assert deviation(case, "out", out) < TOLERANCE


@pytest.mark.parametrize(
    "name", ["dot", "dot_nobn", "dot_256_odd", "embedded", "gaussian", "concatenate"]
)
def test_grounding_transformer(name: str, golden: Callable[[str], Any]) -> None:
    case = golden(f"fpt/groundtrans_{name}")
    fine, coarse = (x * (0.1 if name == "gaussian" else 1) for x in inputs(case))
    similarity: Any = name.split("_")[0]
    norm = None if name == "dot_nobn" else nn.BatchNorm2d
    module = GroundingTransformer(fine.shape[1], norm, similarity=similarity)
    renames = (
        *GROUNDING,
        (r"W_z\.(weight|bias)", r"proj.\1"),
        (r"W_f\.0\.(.+)", r"compare.\1"),
    )
    load(module, case, renames)
    with torch.inference_mode():
        assert deviation(case, "out", module(fine, coarse)) < TOLERANCE


@pytest.mark.parametrize(
    ("name", "ratio"),
    [("", 2), ("_ratio4_repaired", 4), ("_ratio8_repaired", 8), ("_upsample", 2)],
)
def test_rendering_transformer(name: str, ratio: int, golden: Callable[[str], Any]) -> None:
    case = golden(f"fpt/rendertrans{name}")
    coarse, fine = inputs(case)
    module = RenderingTransformer(coarse.shape[1], ratio, nn.BatchNorm2d)
    load(module, case, (*RENDERING, (r"bn_upsample\.(.+)", r"fine.norm.\1")))
    with torch.inference_mode():
        assert deviation(case, "out", module(coarse, fine)) < TOLERANCE


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gt_eud_mos4", {}),
        ("gt_eud_softmax", {"parts": 1}),
        ("lgt_eud_s5", {"window": 5}),
    ],
)
def test_grounding_of_the_paper(
    name: str, options: dict[str, int], golden: Callable[[str], Any]
) -> None:
    case = golden(f"fpt/paper_{name}")
    fine, coarse = inputs(case)
    module = EuclideanGrounding(64, **options)
    load(module, case, PAPER_GROUNDING)
    with torch.inference_mode():
        assert deviation(case, "out", module(fine, coarse)) < TOLERANCE


def test_rendering_of_the_paper(golden: Callable[[str], Any]) -> None:
    case = golden("fpt/paper_rt")
    coarse, fine = inputs(case)
    module = PlainRendering(64, 2)
    load(module, case, PAPER_RENDERING)
    with torch.inference_mode():
        assert deviation(case, "out", module(coarse, fine)) < TOLERANCE


def test_locality_constrained_attention(golden: Callable[[str], Any]) -> None:
    case = golden("fpt/lgt")
    own = local_weights(case)
    own["rows"], own["columns"] = own["rows"].view(32, 7), own["columns"].view(32, 7)
    check_local_attention(LocalAttention(128, 64, 7), own, case)


def test_locality_constrained_stem(golden: Callable[[str], Any]) -> None:
    case = golden("fpt/lgt_stem")
    own = local_weights(case)
    own["v.weight"] = torch.cat([own.pop(f"value_conv.{i}.weight") for i in range(4)])
    module = LocalAttentionStem(128, 64, 7, num_maps=4, place_channels=8)
    check_local_attention(module, own, case)


def local_weights(case: Any) -> dict[str, Tensor]:
    names = NameMap(LOCAL)
    return {names.own_name(name) or name: value for name, value in case.weights().items()}


def check_local_attention(module: nn.Module, own: dict[str, Tensor], case: Any) -> None:
    module.load_state_dict(own)
    with torch.inference_mode():
        assert deviation(case, "out", module(*inputs(case))) < TOLERANCE
