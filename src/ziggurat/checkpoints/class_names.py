"""Names of the classes of official weights: what the file says, else those of the published data.

Files of OpenMMLab's programs name the classes that they were trained on; other official files only
count them. A published model was trained on COCO's objects, on ADE20K or on Cityscapes, a
classifier on ImageNet, whose folders are called n01440764 and so on.
"""

from typing import Any

from timm.data.imagenet_info import ImageNetInfo

from ziggurat.cards import MODELS
from ziggurat.class_lists import COCO_OBJECTS, class_list
from ziggurat.types import ModelIdentity

MMSEGMENTATION_WORDS = {"television receiver": "television"}
"""Classes of ADE20K that MMSegmentation calls by another of their synonyms."""


def stored_classes(meta: object) -> tuple[str, ...] | None:
    """Return the names in the `meta` of an official file, None where it has none.

    MMSegmentation's names of ADE20K's classes become those of ADE20K's own list, which its data
    have: it writes "bed " with a blank behind it and one class by another of its words.

    Args:
        meta: What the file holds under that key; {"CLASSES": ...}, in newer files
            {"dataset_meta": {"classes": ...}}.
    """
    entries = _plain(meta)
    names = _plain(entries.get("dataset_meta")).get("classes", entries.get("CLASSES"))
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return None
    stripped = tuple(name.strip() for name in names)
    common = tuple(MMSEGMENTATION_WORDS.get(name, name) for name in stripped)
    return (common if common == class_list("ade20k").classes else stripped) or None


def published_classes(identity: ModelIdentity) -> tuple[str, ...] | None:
    """Return the names of the classes that a model was published for, None where it was not.

    Args:
        identity: The model; its own number of classes may be another.
    """
    if identity.name not in MODELS:
        return None
    if identity.task == "classification":
        return tuple(ImageNetInfo().label_names())
    if identity.task == "semantic_segmentation":
        is_cityscapes = identity.system.endswith("_cityscapes")
        return class_list("cityscapes" if is_cityscapes else "ade20k").classes
    objects = class_list("coco_stuff").classes[:COCO_OBJECTS]
    return objects[:1] if identity.task == "keypoint_detection" else objects


def _plain(content: object) -> dict[Any, Any]:
    # Not by its own methods: a file may have put attributes in front of them.
    return dict(dict.items(content)) if isinstance(content, dict) else {}
