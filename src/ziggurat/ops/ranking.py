"""The best of many scores in an order that does not depend on how they are sorted."""

from jaxtyping import Float, Int
from torch import Tensor


def best_indices(scores: Float[Tensor, " N"], count: int) -> Int[Tensor, " n"]:
    """Return the indices of the best scores, best first; of equal ones the first comes first.

    Sigmoids of large logits are equal, all exactly 1, and what is chosen among them decides what
    suppression leaves.

    Args:
        scores: Scores.
        count: Number of indices, at most; fewer if there are fewer scores.
    """
    if len(scores) > count:
        least = scores.topk(count).values[-1]
        candidates = (scores >= least).nonzero().flatten()
        order = scores[candidates].argsort(descending=True, stable=True)[:count]
        return candidates[order]
    return scores.argsort(descending=True, stable=True)
