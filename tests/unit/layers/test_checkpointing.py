"""Blocks that are run again for their gradients."""

import torch
from torch import nn

from ziggurat.layers.checkpointing import run_block


def test_gradients_may_be_asked_for_twice() -> None:
    block = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU())
    images = torch.randn(2, 3, 5, 5)
    statistics, gradients = [], []
    for again in (False, True):
        norm = nn.BatchNorm2d(4)
        block[1] = norm
        block.zero_grad()
        y = run_block(block, images, use_checkpointing=again).square().sum()
        y.backward(retain_graph=True)
        y.backward()
        statistics.append([value.clone() for value in norm.buffers()])
        gradients.append([value.grad for value in block.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1])
    torch.testing.assert_close(statistics[0], statistics[1])
