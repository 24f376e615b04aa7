"""What a run makes smaller is the sum of all named losses."""

import torch

from ziggurat.losses.total import total_loss


def test_losses_are_added_up_and_each_has_its_gradient() -> None:
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    total = total_loss({"first": 3 * x[0], "second": x[1] ** 2})
    assert total.item() == 7.0
    total.backward()
    assert x.grad is not None and x.grad.tolist() == [3.0, 4.0]
