"""Checks of a field's value: each raises one sentence that names the field."""

from collections.abc import Collection

from ziggurat.errors import ZigguratError, nearest_name


def require(holds: bool, field: str, value: object, expected: str) -> None:
    """Raise unless a condition on a field holds.

    Args:
        holds: The condition.
        field: Section and name of the field, as on the command line.
        value: What it was set to.
        expected: What it may be.

    Raises:
        ZigguratError: If it does not hold.
    """
    if not holds:
        raise ZigguratError(f"{field} must be {expected}, got {value!r}")


def require_all(*checks: tuple[bool, str, object, str]) -> None:
    """Raise one sentence about all fields that do not fit the others, so that none comes later.

    Args:
        checks: What `require` takes, for each field.

    Raises:
        ZigguratError: If some do not hold.
    """
    faults = [
        f"{field} must be {expected}, got {value!r}"
        for holds, field, value, expected in checks
        if not holds
    ]
    if faults:
        raise ZigguratError("; ".join(faults))


def require_counts(section: str, minimum: int, **values: int | None) -> None:
    """Raise if a count is below `minimum`; None is left alone."""
    for name, value in values.items():
        require(
            value is None or value >= minimum, f"{section}.{name}", value, f"at least {minimum}"
        )


def require_positive(section: str, **values: float | None) -> None:
    """Raise if a number is not above 0; None is left alone."""
    for name, value in values.items():
        require(value is None or value > 0, f"{section}.{name}", value, "above 0")


def require_fractions(section: str, **values: float | None) -> None:
    """Raise if a number is outside of [0, 1]; None is left alone."""
    for name, value in values.items():
        require(value is None or 0 <= value <= 1, f"{section}.{name}", value, "between 0 and 1")


def require_default(config: object, field: str, *, is_read: bool, otherwise: str) -> None:
    """Raise if a field that nothing reads in this run is not left at its default.

    Args:
        config: The section as it was set.
        field: Section and name of the field, as on the command line.
        is_read: Whether something reads the field.
        otherwise: What the run is like where nothing does.
    """
    name = field.rpartition(".")[2]
    value, default = getattr(config, name), getattr(type(config), name)
    require(
        is_read or value == default,
        field,
        value,
        f"left at its default {default!r} where {otherwise}: nothing reads it there",
    )


def nearest(name: str, known: Collection[str]) -> str:
    """Return " Did you mean ...?" for an unknown name, or nothing where none is near."""
    near = nearest_name(name, known)
    return "" if near is None else f" Did you mean {near}?"
