"""One-to-one matching of predictions and true objects (Carion et al., arXiv:2005.12872, eq. 1)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ziggurat.errors import ZigguratError


def match_one_to_one(
    cost: Float[Tensor, "L Q G"],
) -> tuple[Int[Tensor, "L M"], Int[Tensor, "L M"]]:
    """Return the predictions and objects whose pairs cost least in total, M = min(Q, G) of them.

    Args:
        cost: Cost of each pair of a prediction and an object, in each of L independent problems.

    Raises:
        ZigguratError: If scipy is not installed.
    """
    try:  # only training needs it, prediction does not
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise ZigguratError(
            "detectors that match predictions one to one are trained with scipy, which is not "
            "installed; install it with `pip install 'ziggurat[train]'`"
        ) from error

    # A NaN shall be reported by the loss, which knows its name, and not by the solver.
    finite = cost.detach().float().nan_to_num(nan=1e6, posinf=1e6, neginf=-1e6).cpu().numpy()
    pairs = [linear_sum_assignment(problem) for problem in finite]
    queries = torch.stack([torch.from_numpy(rows) for rows, _ in pairs])
    objects = torch.stack([torch.from_numpy(columns) for _, columns in pairs])
    return queries.to(cost.device), objects.to(cost.device)
