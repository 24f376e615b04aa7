"""A mixture of softmaxes for a few queries at a time, with its gradient.

The maps of a chunk live in buffers that are made once. Memory that is allocated and freed for each
chunk, as autograd would, leaves the heap in holes too small for the next chunk: 4 GB of them on the
finest map of an 800 x 1344 image. So the gradient is written out here, and computes each chunk's
maps again.

Shapes: B images, N queries, M keys, C channels, V of values, P parts, D = C / P.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


class _Maps:
    """Maps of one chunk of queries after the other, by part, in one buffer."""

    def __init__(
        self,
        q: Tensor,
        k: Tensor,
        prior: Tensor,
        key_bias: Tensor | None,
        scale: float,
        dropout: float,
        rows: int,
        seed: int,
    ) -> None:
        self.q, self.prior, self.scale, self.dropout = q, prior, scale, dropout
        parts = prior.shape[1]
        self.keys = [part.mT for part in k.chunk(parts, dim=2)]
        self.biases = [None] * parts if key_bias is None else list(key_bias.unsqueeze(2).unbind(1))
        self.rows = rows
        self.generator = torch.Generator(q.device)
        self.generator.manual_seed(seed)
        self.of_parts = q.new_empty(parts, len(q) * rows * k.shape[1])
        self.mixed = q.new_empty(len(q) * rows * k.shape[1])
        self.num_keys = k.shape[1]

    def chunks(self) -> Iterator[slice]:
        """Go through the queries.

        Yields:
            A range of them.
        """
        for start in range(0, self.q.shape[1], self.rows):
            yield slice(start, min(start + self.rows, self.q.shape[1]))

    def view(self, buffer: Tensor, chunk: slice) -> Tensor:
        """Return the part of a buffer that a chunk needs, as (B, rows, M)."""
        shape = (len(self.q), chunk.stop - chunk.start, self.num_keys)
        return buffer[: shape[0] * shape[1] * shape[2]].view(shape)

    def softmaxes(self, chunk: slice) -> list[Tensor]:
        """Fill the buffer with the map of each part."""
        maps = []
        q_parts = (self.q[:, chunk] * self.scale).chunk(len(self.keys), dim=2)
        for q, keys, bias, buffer in zip(
            q_parts, self.keys, self.biases, self.of_parts, strict=True
        ):
            scores = self.view(buffer, chunk)
            if bias is None:
                torch.bmm(q, keys, out=scores)
            else:
                torch.baddbmm(bias, q, keys, out=scores)
            maps.append(torch.softmax(scores, dim=2, out=scores))
        return maps

    def keep(self, maps: list[Tensor]) -> list[Tensor | None]:
        """Draw which entries stay, as factors 0 or 1 / (1 - dropout); None for all of them."""
        if not self.dropout:
            return [None] * len(maps)
        return [
            torch.empty_like(x)
            .bernoulli_(1 - self.dropout, generator=self.generator)
            .div_(1 - self.dropout)
            for x in maps
        ]

    def mix(self, chunk: slice, maps: list[Tensor], kept: list[Tensor | None]) -> Tensor:
        """Return the sum of the maps, weighted by the prior."""
        mixed = self.view(self.mixed, chunk)
        for part, (x, keep) in enumerate(zip(maps, kept, strict=True)):
            weight = self.prior[:, part, None, None]
            factor = weight if keep is None else keep * weight
            if part == 0:
                torch.mul(x, factor, out=mixed)
            else:
                mixed.addcmul_(x, factor.expand_as(x))
        return mixed


class ChunkedAttention(Function):
    """sum_p prior_p softmax(scale q_p k_p + key_bias_p) v, `rows` queries at a time."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch makes it
        q: Tensor,
        k: Tensor,
        v: Tensor,
        prior: Tensor,
        key_bias: Tensor | None,
        scale: float,
        dropout: float,
        rows: int,
    ) -> Tensor:
        """Return what each query read, (B, N, V)."""
        seed = int(torch.randint(2**31, ())) if dropout else 0
        ctx.options = scale, dropout, rows, seed
        ctx.save_for_backward(q, k, v, prior, key_bias)
        maps = _Maps(q, k, prior, key_bias, *ctx.options)
        out = v.new_empty(*q.shape[:2], v.shape[2])
        for chunk in maps.chunks():
            softmaxes = maps.softmaxes(chunk)
            out[:, chunk] = maps.mix(chunk, softmaxes, maps.keep(softmaxes)) @ v
        return out

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,  # noqa: ANN401 - torch makes it
        grad: Tensor,
    ) -> tuple[Tensor | None, ...]:
        """Return the gradients of queries, keys, values, prior and bias of the keys."""
        q, k, v, prior, key_bias = ctx.saved_tensors
        scale = ctx.options[0]
        maps = _Maps(q, k, prior, key_bias, *ctx.options)
        parts = prior.shape[1]
        grad_q, grad_k = torch.empty_like(q), torch.zeros_like(k)
        grad_v, grad_prior = torch.zeros_like(v), torch.zeros_like(prior)
        grad_bias = None if key_bias is None else torch.zeros_like(key_bias)
        upstream = torch.empty_like(maps.mixed)
        width = q.shape[2] // parts
        for chunk in maps.chunks():
            softmaxes = maps.softmaxes(chunk)
            kept = maps.keep(softmaxes)
            given = grad[:, chunk]
            grad_v += maps.mix(chunk, softmaxes, kept).mT @ given
            grad_mixed = torch.bmm(given, v.mT, out=maps.view(upstream, chunk))
            for part, (x, keep) in enumerate(zip(softmaxes, kept, strict=True)):
                channels = slice(part * width, (part + 1) * width)
                # Of the mixed map's buffer nothing is needed any more.
                grad_x = maps.view(maps.mixed, chunk)
                if keep is None:
                    torch.mul(grad_mixed, x, out=grad_x)
                else:
                    torch.mul(grad_mixed, keep, out=grad_x).mul_(x)
                by_row = grad_x.sum(dim=2, keepdim=True)
                grad_prior[:, part] += by_row.sum(dim=(1, 2))
                # d softmax: x (g - sum x g), where x g stands in the buffer already.
                grad_scores = grad_x.addcmul_(x, by_row, value=-1).mul_(prior[:, part, None, None])
                if grad_bias is not None:
                    grad_bias[:, part] += grad_scores.sum(dim=1)
                grad_q[:, chunk, channels] = (grad_scores @ k[..., channels]).mul_(scale)
                grad_k[..., channels] += (grad_scores.mT @ q[:, chunk, channels]).mul_(scale)
        return grad_q, grad_k, grad_v, grad_prior, grad_bias, None, None, None
