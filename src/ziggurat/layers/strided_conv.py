"""A convolution with a stride, on maps of any width."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class StridedConv(nn.Conv2d):
    """A convolution with an odd kernel, padded by half of it: sides are divided and rounded up.

    On a CPU the gradient of such weights in bfloat16 is uninitialised memory where the map is
    narrower than the stride (torch 2.15), as the coarsest levels of narrow images are. Columns of
    zeros at the right, behind the padding, change nothing else. Arguments are those of `Conv2d`.
    """

    def forward(self, input: Float[Tensor, "B in H W"]) -> Float[Tensor, "B out h w"]:
        """Return the map of the convolution."""
        missing = self.stride[1] - input.shape[3]
        is_trained = torch.is_grad_enabled() and input.device.type == "cpu"
        if is_trained and not torch.compiler.is_exporting() and missing > 0:
            input = F.pad(input, (0, missing))
        return super().forward(input)
