"""What tools call the splits of a data set."""

OTHER_NAMES = {"train": ("training",), "val": ("valid", "validation")}
"""Beside the names that runs use by default."""

VALIDATION = frozenset({"val", *OTHER_NAMES["val"], "val2017"})
"""Names of splits that are found where a run asks for "val"."""


def names_of(split: str) -> tuple[str, ...]:
    """Return what a split may be called, its own name first.

    Args:
        split: Name of the split.
    """
    return (split, *OTHER_NAMES.get(split, ()))
