"""Names of the classes of official weights: what the file says, else those of the published data.

Files of OpenMMLab's programs name the classes that they were trained on; other official files only
count them. A published model with the published number of classes was trained on COCO's objects, on
ADE20K or on Cityscapes. Classifiers keep numbers: folders of ImageNet are called n01440764, and
names would not be found among them.
"""

from typing import Any

from ziggurat.cards import MODELS
from ziggurat.class_lists import COCO_OBJECTS, class_list
from ziggurat.types import ModelIdentity


def stored_classes(meta: object) -> tuple[str, ...] | None:
    """Return the names in the `meta` of an official file, None where it has none.

    Args:
        meta: What the file holds under that key; {"CLASSES": ...}, in newer files
            {"dataset_meta": {"classes": ...}}.
    """
    entries = _plain(meta)
    names = _plain(entries.get("dataset_meta")).get("classes", entries.get("CLASSES"))
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return None
    return tuple(names) or None


def published_classes(identity: ModelIdentity) -> tuple[str, ...] | None:
    """Return the names of the classes that a model was published for, None where it was not.

    Args:
        identity: The model, with its number of classes.
    """
    lists = {
        "detection": class_list("coco_stuff").classes[:COCO_OBJECTS],
        "instance_segmentation": class_list("coco_stuff").classes[:COCO_OBJECTS],
        "keypoint_detection": class_list("coco_stuff").classes[:1],
        "semantic_segmentation": class_list(
            "cityscapes" if identity.system.endswith("_cityscapes") else "ade20k"
        ).classes,
    }
    names = lists.get(identity.task)
    if identity.name not in MODELS or names is None or len(names) != identity.num_classes:
        return None
    return names


def _plain(content: object) -> dict[Any, Any]:
    # Not by its own methods: a file may have put attributes in front of them.
    return dict(dict.items(content)) if isinstance(content, dict) else {}
