"""Group norm (Wu and He, arXiv:1803.08494) for any number of channels."""

from math import gcd

from torch import nn

NUM_GROUPS = 32


def group_norm(channels: int, *, least: int = 8) -> nn.GroupNorm:
    """Build a group norm of 32 groups, or of fewer that have enough channels.

    A group of a single channel would leave nothing of the mean of a map, which is one number.

    Args:
        channels: Channels of the map.
        least: Channels that a group has at least.
    """
    return nn.GroupNorm(gcd(NUM_GROUPS, channels, max(1, channels // least)), channels)
