"""Evaluation of label maps: the data, whose classes may be in another order, and what is kept."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from ziggurat.checkpoints.class_rows import has_names
from ziggurat.config.tree import SemanticSegmentationRun, TrainConfig
from ziggurat.data.class_masks import ClassMaskFolder, find_class_masks
from ziggurat.data.findings import Layout
from ziggurat.data.label_folder import CLASS_FILE, LabelFolder, LabelRule
from ziggurat.data.segmentation import EvalSegmentation, Labels
from ziggurat.data.segmentation_layouts import SEGMENTATION
from ziggurat.errors import ZigguratError
from ziggurat.inference.label_files import LabelFileWriter
from ziggurat.inference.label_gallery import EvaluatedLabels, WorstImages
from ziggurat.metrics.multi_label import MultiLabelMetric
from ziggurat.metrics.segmentation import SegmentationMetric
from ziggurat.models.semantic_segmenter import SemanticSegmenter
from ziggurat.types import UNLABELLED, Batch, ClassMasks, LabelMap, Result
from ziggurat.visualize.palettes import class_colours

LabelTable = UInt8[np.ndarray, "256"]


@dataclass(frozen=True)
class Relabelled:
    """A transform behind which labels are those of other classes.

    Attributes:
        transform: Makes a normalised tensor and a label map of an image and its labels.
        table: New label of each old one.
    """

    transform: Callable[[Image.Image, Labels], tuple[Tensor, LabelMap]]
    table: LabelTable

    def __call__(self, image: Image.Image, labels: Labels) -> tuple[Tensor, LabelMap]:
        """Transform an image and its labels.

        Args:
            image: RGB image.
            labels: Class of each pixel, 255 where it does not count.
        """
        return self.transform(image, self.table[labels])


class LabelObserver:
    """Looks at pixels while they are counted: keeps the worst images, writes all where asked for.

    Args:
        metric: Counts them.
        dataset: Says which colours the classes have.
        save_to: Folder for the predicted label maps, or None; masks are not written.
    """

    def __init__(
        self,
        metric: SegmentationMetric | MultiLabelMetric,
        dataset: LabelFolder | ClassMaskFolder,
        save_to: Path | None,
    ) -> None:
        self.metric = metric
        self.colours = colours_of(metric.classes, dataset.rule)
        self.worst = WorstImages()
        self.writer = (
            None if save_to is None else LabelFileWriter(save_to, metric.classes, self.colours)
        )

    def __call__(self, results: Sequence[Result], batch: Batch) -> None:
        """Look at the results of a batch that is counted.

        Args:
            results: Label maps, or masks of classes.
            batch: Has the true ones.
        """
        if not results:
            return
        assert isinstance(batch.targets, list)  # the metric has seen it
        scores = self.metric.images[len(self.metric.images) - len(results) :]
        for result, target, score in zip(results, batch.targets, scores, strict=True):
            assert isinstance(result, LabelMap | ClassMasks)
            assert isinstance(target, LabelMap | ClassMasks)
            self.worst.offer(score, target, result)
            if self.writer is not None:
                assert isinstance(result, LabelMap)  # `EvaluationOptions.check` has made sure
                self.writer.write(score.path, result)

    def found(self) -> EvaluatedLabels:
        """Return what there is to draw and to list."""
        metric = self.metric
        return EvaluatedLabels(metric.classes, self.colours, metric.images, self.worst.images)


def open_pixels(
    model: SemanticSegmenter, root: Path, split: str, layout: Layout | None
) -> tuple[LabelFolder, SegmentationMetric] | tuple[ClassMaskFolder, MultiLabelMetric]:
    """Open a split of label maps, or of masks where classes may overlap, and what counts them.

    Args:
        model: Says how images are prepared, its classes, and whether they may overlap.
        root: Folder of the data set.
        split: Name of the split.
        layout: How label maps are laid out; None recognises it.

    Raises:
        ZigguratError: If the data are of the other kind, or of other classes.
    """
    transform, classes = EvalSegmentation(model.preprocessing), model.classes
    mask_root = find_class_masks(root) if layout is None else None
    if (mask_root is not None) != model.overlapping:
        gives, has = "each pixel one class", "a mask for each class, since classes may overlap"
        if model.overlapping:
            gives, has = "a mask for each class, since its classes may overlap", "label maps"
        raise ZigguratError(
            f"{model.identity.name} gives {gives}, but {root} has {has}; give data of its kind"
        )
    if mask_root is not None:
        masks = ClassMaskFolder(mask_root, split, transform, train=False)
        _check_same(masks.classes, classes, root)
        return masks, MultiLabelMetric(masks.classes)
    dataset = LabelFolder(root, split, transform, train=False, layout=layout)
    table = label_table(dataset.classes, classes, of=str(root), owner="the model")
    dataset.transform = Relabelled(transform, table)
    return dataset, SegmentationMetric(classes if has_names(classes) else dataset.classes)


def _check_same(source: tuple[str, ...], target: tuple[str, ...], root: Path) -> None:
    """Refuse data of other classes than the model's.

    Raises:
        ZigguratError: If they have other classes, or in another order.
    """
    if len(source) != len(target) or (source != target and has_names(target)):
        raise ZigguratError(
            f"{root} has the {len(source)} classes {_first(source)}, but the model has the "
            f"{len(target)} classes {_first(target)}; give data of the same classes, in the same "
            f"order in {CLASS_FILE}"
        )


def layout_of_run(run: TrainConfig | None, root: Path) -> Layout | None:
    """Return the layout that a run reads its data in, where a folder can be read so.

    Args:
        run: The run, if known.
        root: Its own data, a copy of them, or other data.
    """
    if not isinstance(run, SemanticSegmentationRun) or run.data.layout is None:
        return None
    own, layout = Path(run.data.root), SEGMENTATION[run.data.layout]
    # A variant ("pascal_context_59") is never recognised, not even in its own place.
    is_variant = not layout.is_here(own)
    has_it = own == root or layout.is_here(root) or (is_variant and layout.splits(root))
    return run.data.layout if has_it else None


def label_table(source: Sequence[str], target: Sequence[str], *, of: str, owner: str) -> LabelTable:
    """Return the label that each label of some classes has among other classes, by name.

    Classes that nobody named ("class_0") are those of the same place.

    Args:
        source: Names of the classes that labels are given in.
        target: Names of the classes that they are wanted in.
        of: What the first belong to, for messages.
        owner: What the second belong to, for messages.

    Raises:
        ZigguratError: If a class has no counterpart.
    """
    table = np.arange(UNLABELLED + 1, dtype=np.uint8)
    if not (has_names(target) and has_names(source)):
        if len(source) != len(target):
            raise ZigguratError(
                f"{owner} tells {len(target)} classes apart and {of} has {len(source)}, and one of "
                "the two has no names for them; give data of the same classes"
            )
        return table
    places = {name: place for place, name in enumerate(target)}
    unknown = [name for name in source if name not in places]
    if unknown:
        raise ZigguratError(
            f"{of} has {len(unknown)} classes that {owner} does not know "
            f"({_first(unknown)}); its own are {_first(target)}; give data of the same classes"
        )
    table[: len(source)] = [places[name] for name in source]
    return table


def colours_of(classes: Sequence[str], rule: LabelRule) -> UInt8[np.ndarray, "K 3"]:
    """Return the colours of classes: those that the data give them, else those of everybody else.

    Args:
        classes: Names of the classes.
        rule: Classes of the data.
    """
    colours = class_colours(classes)
    if rule.palette is not None:
        given = dict(zip(rule.classes, rule.palette, strict=True))
        for place, name in enumerate(classes):
            colours[place] = given.get(name, colours[place])
    return colours


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
