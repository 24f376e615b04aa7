"""An auxiliary head that a model has and a file has not, or the other way round.

Nothing but training asks it, so that a model is whole without one, in a file and here.
"""

from ziggurat.checkpoints.names import NameMap
from ziggurat.models.semantic_segmenter import SemanticSegmenter

ENTRIES = r"auxiliary_head\..+"
"""Pattern of its names, in a file of MMSegmentation as in one of ours."""

LEFT_OUT = NameMap(
    ignored=((ENTRIES, "auxiliary head, which only training needs, and this model has none"),)
)
ADDED = NameMap(
    absent=((ENTRIES, "auxiliary head, which was added to this model; it begins anew"),)
)


def one_sided_auxiliary(model: SemanticSegmenter, *, file_without: bool = False) -> NameMap:
    """Return what entries of an auxiliary head mean that one of a file and a model may lack.

    A model lacks none that its system was published with, unless a file says of itself that its
    model was made without.

    Args:
        model: The model that a file is loaded into.
        file_without: Whether the file says so.
    """
    if model.auxiliary_head is None:
        return LEFT_OUT
    return ADDED if model.identity.auxiliary_head or file_without else NameMap()
