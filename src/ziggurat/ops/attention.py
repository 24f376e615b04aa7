"""Attention for maps whose keys were made few, as a pyramid transformer's are.

PyTorch's fused attention does not write the B x heads x N x M weights to memory, which pays where
there are many keys. On a CPU in bfloat16 its backward pass takes several times as long as the
products that it consists of. So where keys are few, the weights are kept, in float32 as the fused
way computes them: 4 M bytes for each query and head, beside 2 D of the query.

Shapes: B images, N queries, M keys, D channels of a head.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ziggurat.ops.precision import without_autocast
from ziggurat.ops.tensors import is_transformed

FEW_KEYS = 128
"""Keys up to which the weights may be kept."""


def attend(
    q: Float[Tensor, "B heads N D"],
    k: Float[Tensor, "B heads M D"],
    v: Float[Tensor, "B heads M D"],
    scale: float | None = None,
) -> Float[Tensor, "B heads N D"]:
    """Return softmax(scale q k') v, computed in the way that suits the device.

    Args:
        q: Queries.
        k: Keys.
        v: Values.
        scale: Factor of the scores, 1 / sqrt(D) by default.
    """
    if not _pays_in_parts(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, scale=scale)
    mixed: Tensor = _KeptWeights.apply(q, k, v, q.shape[3] ** -0.5 if scale is None else scale)
    return mixed


def _pays_in_parts(q: Tensor, k: Tensor, v: Tensor) -> bool:
    return (
        not torch.compiler.is_compiling()
        and not is_transformed()
        and all(x.dtype == torch.bfloat16 and x.device.type == "cpu" for x in (q, k, v))
        and torch.is_grad_enabled()
        and (q.requires_grad or k.requires_grad or v.requires_grad)
        and k.shape[2] <= FEW_KEYS
    )


class _KeptWeights(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:  # noqa: ANN401
        with without_autocast(q.device):
            weights = ((q.float() * scale) @ k.float().mT).softmax(dim=3)
        ctx.save_for_backward(q, k, v, weights)
        ctx.scale = scale
        return weights.to(v.dtype) @ v

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:  # noqa: ANN401
        q, k, v, weights = ctx.saved_tensors
        for_v = weights.to(grad.dtype).mT @ grad
        slope = (grad @ v.mT).float()
        # d softmax: each weight times its slope less the mean slope under the weights.
        slope -= (slope * weights).sum(dim=3, keepdim=True)
        slope = slope.mul_(weights).mul_(ctx.scale).to(grad.dtype)
        return slope @ k, slope.mT @ q, for_v, None
