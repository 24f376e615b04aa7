"""Yes and no in an annotation file: "iscrowd" and "difficult" of an object."""

from collections.abc import Mapping


def read_flag(entry: Mapping[str, object], key: str) -> bool:
    """Return what an object says of a key; without the key it is no.

    Args:
        entry: The object.
        key: "iscrowd" or "difficult".

    Raises:
        ValueError: If it says something else than yes or no: text, as "0", would count as yes in
            one place and as no in another.
    """
    value = entry.get(key, 0)
    if type(value) in (int, bool) and value in (0, 1):
        return bool(value)
    raise ValueError(f"{key} is {value!r}; expected 0, 1, false or true")
