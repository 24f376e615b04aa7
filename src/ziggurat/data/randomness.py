"""Randomness that is a function of a key, so that a run repeats whatever its workers do."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.random import mtrand

_spare: list[np.random.MT19937] = []
"""Engines that nobody uses now; one for each `seeded` that is inside another."""


@contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Seed Python, NumPy and torch (CPU) from `key` inside, and leave no trace outside.

    Args:
        key: Non-negative integers: a seed and what is drawn for (epoch, index, step).
    """
    python, torch_cpu = random.getstate(), torch.get_rng_state()
    # NumPy's global generator gets another engine meanwhile: copying the state of its own out and
    # in, or making a new engine, takes longer than all the rest.
    numpy, engine = mtrand.get_bit_generator(), _spare.pop() if _spare else np.random.MT19937()
    mtrand.set_bit_generator(engine)
    words = np.random.SeedSequence(key).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))
    # Not torch.manual_seed: that would seed the GPUs too, whose state is not ours to restore.
    torch.default_generator.manual_seed(int(words[2]))
    try:
        yield
    finally:
        random.setstate(python)
        mtrand.set_bit_generator(numpy)
        _spare.append(engine)
        torch.set_rng_state(torch_cpu)
