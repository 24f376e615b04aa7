"""Questions about sizes, which in a graph that is traced for many sizes are symbols."""

import torch


def is_known_true(condition: bool | torch.SymBool) -> bool:
    """Say whether a condition on sizes holds, for all sizes that a traced graph is made for.

    A graph that is traced never depends on the answer: where it is not certain it is no.

    Args:
        condition: A comparison of sizes; outside of tracers simply true or false.
    """
    if isinstance(condition, bool) and not torch.compiler.is_compiling():
        return condition
    # Here: it brings an algebra system, which only tracers need.
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    return statically_known_true(condition)
