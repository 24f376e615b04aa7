"""From a folder of label maps, which any program wrote, to a report, without a model.

Every image of the split needs a file of its name: numbers of a part of the images look like numbers
of all of them. Who wants them says so.
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ziggurat.data.decode import ImageDecodeError, is_image_file
from ziggurat.data.findings import Layout
from ziggurat.data.items import Unreadable
from ziggurat.data.label_folder import CLASS_FILE, LabelFolder, LabelRule, read_labels, read_rule
from ziggurat.data.loading import BadFileLedger
from ziggurat.data.segmentation import Labels
from ziggurat.errors import ZigguratError
from ziggurat.inference.evaluation import MAX_BAD_FILES
from ziggurat.inference.evaluation_result import Evaluation
from ziggurat.inference.label_evaluation import Relabelled, colours_of, label_table
from ziggurat.inference.label_gallery import EvaluatedLabels, WorstImages
from ziggurat.metrics.segmentation import SegmentationMetric
from ziggurat.types import BadFile, ImageInfo, LabelMap


def evaluate_label_files(
    folder: str | Path,
    *,
    data_root: str | Path | None,
    split: str | None = None,
    layout: Layout | None = None,
    is_partial: bool = False,
) -> Evaluation:
    """Evaluate a folder of label maps, a file of the photo's name for each photo.

    Where the folder has a classes.json, as `ziggurat evaluate --save_labels` writes it, values are
    its classes, matched by name; else they mean what they do in the data set's own label files.

    Args:
        folder: The label maps.
        data_root: Folder of the data set.
        split: Split that the label maps are of, "val" by default.
        layout: How the data are laid out; None recognises it.
        is_partial: Evaluate the images that have a file, and no others.

    Raises:
        ZigguratError: If label maps or data are missing, wrong, or do not belong together.
    """
    if data_root is None:
        raise ZigguratError(
            f"{folder} says nothing of the true classes; give the data set with --data.root"
        )
    folder, split = Path(folder), split or "val"
    dataset = LabelFolder(Path(data_root), split, _labels_only, train=False, layout=layout)
    rule = read_rule(folder) if (folder / CLASS_FILE).is_file() else dataset.rule
    table = label_table(dataset.classes, rule.classes, of=str(data_root), owner=str(folder))
    dataset.transform = Relabelled(_labels_only, table)
    files = _find_files(folder, dataset, f"{data_root}, {split}", is_partial=is_partial)
    metric, worst = SegmentationMetric(rule.classes), WorstImages()
    bad: list[BadFile] = []
    ledger = BadFileLedger(MAX_BAD_FILES, bad.append, advice="evaluate on data that are whole")
    for index, file in files.items():
        item = dataset[index]
        if isinstance(item, Unreadable):
            ledger.add(item.skipped)
            continue
        assert isinstance(item.target, LabelMap)
        found = _read(file, rule, item.info)
        score = metric.add(found, item.target, image_id=item.info.image_id, path=item.info.path)
        worst.offer(score, item.target, found)
    colours = colours_of(rule.classes, dataset.rule if rule.palette is None else rule)
    return Evaluation(
        report=metric.compute(),
        weights=folder,
        model_name="label maps",
        data=f"{data_root}, {split}, {len(files)} of {len(dataset)} images",
        coco_results=None,
        bad_files=tuple(bad),
        labels=EvaluatedLabels(rule.classes, colours, metric.images, worst.images),
    )


def _labels_only(image: Image.Image, labels: Labels) -> tuple[Float[Tensor, "3 1 1"], LabelMap]:
    """Leave out the image: no model looks at it."""
    del image
    return torch.zeros(3, 1, 1), LabelMap(torch.from_numpy(labels.copy()))


def _find_files(
    folder: Path, dataset: LabelFolder, data: str, *, is_partial: bool
) -> dict[int, Path]:
    """Return the file of each image's index.

    Raises:
        ZigguratError: If files or images are left over.
    """
    files = {path.stem: path for path in sorted(folder.iterdir()) if is_image_file(path)}
    names = {image.stem: index for index, (image, _) in enumerate(dataset.pairs)}
    foreign = [path for name, path in files.items() if name not in names]
    if foreign:
        raise ZigguratError(
            f"{foreign[0]} is of no image of {data} ({len(foreign)} such in all); give the label "
            "maps of this split"
        )
    missing = [name for name in names if name not in files]
    if not files:
        raise ZigguratError(
            f"{folder} has no label maps; expected files as {missing[0]}.png, one for each of "
            f"{len(names)} images of {data}"
        )
    if missing and not is_partial:
        raise ZigguratError(
            f"{folder} has no label map {missing[0]}.png for an image of {data} ({len(missing)} of "
            f"{len(names)} are missing); add them, or give --partial to evaluate the others alone"
        )
    return {names[name]: path for name, path in files.items()}


def _read(file: Path, rule: LabelRule, info: ImageInfo) -> LabelMap:
    """Read a predicted label map.

    Raises:
        ZigguratError: If it cannot be read or has another size than the photo.
    """
    try:
        labels = read_labels(file, rule)
    except ImageDecodeError as error:
        raise ZigguratError(f"the label map {file} cannot be used: {error.reason}") from error
    if labels.shape != info.original_size:
        height, width = info.original_size
        raise ZigguratError(
            f"the label map {file} has {labels.shape[1]} x {labels.shape[0]} pixels, but the image "
            f"{info.path} has {width} x {height}; predict in the pixels of the photo"
        )
    return LabelMap(torch.from_numpy(np.ascontiguousarray(labels)))
