"""Which image and which category of the annotations an entry of a results file means.

Entries that name their file or their class, as `ziggurat predict` writes them, mean what they name:
a model knows no ids of a data set, and the numbers beside the names only count images and classes.
Entries without names mean their ids.
"""

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any

from ziggurat.errors import ZigguratError
from ziggurat.metrics.coco_truth import CocoTruth

Parts = tuple[str, ...]


class ResultNames:
    """Finds images and categories; what the annotations do not have is refused.

    Args:
        truth: The annotations.
    """

    def __init__(self, truth: CocoTruth) -> None:
        self.name = truth.name
        self.image_ids = {image["id"] for image in truth.images}
        self.categories = {entry["name"]: entry["id"] for entry in truth.categories}
        self.category_ids = {entry["id"] for entry in truth.categories}
        self._files: dict[str, list[tuple[Parts, int]]] = {}
        for image in truth.images:
            if "file_name" in image:
                parts = _parts(image["file_name"])
                self._files.setdefault(parts[-1], []).append((parts, image["id"]))
        self._found: dict[str, int] = {}
        self._name_of: dict[int, str] = {}

    def image_id(self, what: str, entry: Mapping[str, Any]) -> int:
        """Return the id of the image that an entry is about.

        Args:
            what: The entry, for messages.
            entry: The entry.

        Raises:
            ZigguratError: If the annotations do not have it, or it was named in two ways.
        """
        name = entry.get("file_name")
        if not isinstance(name, str):
            return self._known(what, entry, "image_id", self.image_ids)
        if name not in self._found:
            image_id = self._find(what, name)
            other = self._name_of.setdefault(image_id, name)
            if other != name:
                raise ZigguratError(
                    f"{what} is of the file {name!r}, and earlier ones are of {other!r}, but "
                    f"{self.name} has one image of that name (id {image_id}): keep the results of "
                    "one of the two"
                )
            self._found[name] = image_id
        return self._found[name]

    def category_id(self, what: str, entry: Mapping[str, Any]) -> int:
        """Return the id of the category that an entry is of.

        Args:
            what: The entry, for messages.
            entry: The entry.

        Raises:
            ZigguratError: If the annotations do not have it.
        """
        name = entry.get("category")
        if not isinstance(name, str):
            return self._known(what, entry, "category_id", self.category_ids)
        if name not in self.categories:
            near = get_close_matches(name, self.categories, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ZigguratError(
                f"{what} has the category {name!r}, which is not in {self.name}{hint}: the results "
                "are of another data set, or of more classes; leave those out with --classes of "
                "`ziggurat predict`"
            )
        return int(self.categories[name])

    def _known(self, what: str, entry: Mapping[str, Any], key: str, known: Collection[int]) -> int:
        number = entry.get(key)
        if type(number) is not int or number not in known:
            raise ZigguratError(
                f"{what} has the {key} {number!r}, which is not in {self.name}: the results are of "
                "another data set or split"
            )
        return number

    def _find(self, what: str, name: str) -> int:
        """Find the image whose path the end of `name` is, or the other way round.

        Raises:
            ZigguratError: If it is none, or one of several.
        """
        wanted = _parts(name)
        alike = self._files.get(wanted[-1], []) if wanted else []
        found = [(parts, number) for parts, number in alike if wanted[-len(parts) :] == parts]
        # "x/a.jpg" rather than "a.jpg", where the annotations have both.
        longest = max((len(parts) for parts, _ in found), default=0)
        found = [(parts, number) for parts, number in found if len(parts) == longest]
        if not found:
            found = [(parts, number) for parts, number in alike if parts[-len(wanted) :] == wanted]
        if len(found) > 1:
            raise ZigguratError(
                f"{what} is of the file {name!r}, which may be {len(found)} images of {self.name} "
                f"({', '.join('/'.join(parts) for parts, _ in found[:3])}): give the paths that "
                "the annotations have"
            )
        if not found:
            raise ZigguratError(
                f"{what} is of the file {name!r}, which is not in {self.name}: the results are of "
                "another data set or split"
            )
        return found[0][1]


def _parts(name: str) -> Parts:
    return tuple(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))
