"""Initial values that several families share."""

from torch import nn


def init_linear_and_norm(module: nn.Module) -> None:
    """Draw linear weights from a normal distribution of 0.02; biases 0, norms 1 and 0.

    The normal distribution is cut at -2 and 2 (absolute values, as the official codes call it).
    Convolutions keep PyTorch's own initial values, with which PVT v1 and P2T were trained.
    """
    for child in module.modules():
        if isinstance(child, nn.Linear):
            nn.init.trunc_normal_(child.weight, std=0.02, a=-2.0, b=2.0)
            if child.bias is not None:
                nn.init.zeros_(child.bias)
        elif isinstance(child, nn.LayerNorm):
            nn.init.ones_(child.weight)
            nn.init.zeros_(child.bias)


def init_convolutions(module: nn.Module) -> None:
    """Draw convolutions from a normal distribution of variance 2 / fan out; biases 0.

    He et al., arXiv:1502.01852, in the outgoing direction: torchvision's networks began so, and so
    do the convolutions with a norm in the heads of OpenMMLab. In a grouped convolution the fan out
    counts all groups.

    Args:
        module: What holds the convolutions.
    """
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            nn.init.kaiming_normal_(child.weight, mode="fan_out", nonlinearity="relu")
            if child.bias is not None:
                nn.init.zeros_(child.bias)


def init_caffe2(module: nn.Module) -> None:
    """Draw weights as Detectron does: convolutions by fan out, linear layers by fan in; biases 0.

    Convolutions are normal with variance 2 / fan out (Caffe2's MSRA fill), linear weights uniform
    with variance 1 / fan in (its Xavier fill, which does not count what goes out).
    """
    for child in module.modules():
        if isinstance(child, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(child.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(child, nn.Linear):
            nn.init.kaiming_uniform_(child.weight, a=1)
        else:
            continue
        if child.bias is not None:
            nn.init.zeros_(child.bias)
