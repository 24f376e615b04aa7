"""Official files in timm's loaders: their names become ours, then timm does what it always does."""

from collections.abc import Mapping

from torch import Tensor, nn

from ziggurat.checkpoints.matching import nearest_layout
from ziggurat.checkpoints.official import CLASSIFIERS


def with_own_names(weights: Mapping[str, Tensor], model: nn.Module) -> Mapping[str, Tensor]:
    """Return the weights of an official file under our names; other weights as they are.

    What the table of the family ignores is left out, and what it does not know keeps its name, so
    that a strict loader refuses it. Stricter, with a report: `ziggurat.load_official`.

    Args:
        weights: Entries of a file, or of a model's state.
        model: The classifier that is to take them.
    """
    own = model.state_dict()
    names = nearest_layout(CLASSIFIERS[type(model.get_submodule("backbone"))], own, weights)
    if not any(name not in own and names.own_name(name) for name in weights):
        return weights
    renamed = {}
    for official, value in weights.items():
        if names.reason_to_ignore(official) is not None:
            continue
        ours = names.own_name(official) or official
        if names.is_transposed(official):
            value = value.mT
        rule = names.resizing_rule(ours)
        if rule is not None and ours in own and value.shape != own[ours].shape:
            value = rule(value, tuple(own[ours].shape))
        renamed[ours] = value
    return renamed
