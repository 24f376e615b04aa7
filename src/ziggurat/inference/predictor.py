"""From trained weights and any image to a prediction that can be looked at and saved."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Literal, get_args, overload

import torch
from PIL import Image

from ziggurat.checkpoints.class_rows import has_names
from ziggurat.checkpoints.native import load_weights
from ziggurat.class_lists import Colour, imagenet_classes
from ziggurat.data.loading import collate
from ziggurat.data.resize import fit_size
from ziggurat.errors import ZigguratError, check_known
from ziggurat.fast.inference import optimize_for_inference
from ziggurat.inference.augmented import Augmentation, fuse
from ziggurat.inference.classify import classify
from ziggurat.inference.forward import choose_device, infer
from ziggurat.inference.images import ImageLike, to_image
from ziggurat.inference.label_inference import Look, segment
from ziggurat.inference.prediction import Prediction
from ziggurat.inference.sliding import SlidingWindows
from ziggurat.inference.tiles import Tiles, merge_tiles
from ziggurat.inference.united import detect_united
from ziggurat.inference.views import View
from ziggurat.inference.wish import Wish, labels_of
from ziggurat.models.classifier import Classifier
from ziggurat.models.detector import Detector
from ziggurat.models.semantic_segmenter import SemanticSegmenter
from ziggurat.ops.nms import Suppression
from ziggurat.preprocessing import CenterCrop, FitAligned, FitInside, Preprocessing
from ziggurat.types import Detections, Result, Sample
from ziggurat.weights.hub import HUB_PREFIX, pull
from ziggurat.zoo import Model

__all__ = ["WEIGHT_FILES", "Prediction", "Predictor", "find_weights", "load"]

Precision = Literal["32", "bf16"]
"""Of products and convolutions, by the names of `trainer.precision`."""

WEIGHT_FILES = ("best.safetensors", "last.safetensors")
"""Weights in the folder of a run, the better ones first."""

DEFAULT_SCORE_THRESHOLD = 0.3
"""Objects that a detector is less sure of are left out unless asked for."""

CLASSIFIED_AT_ONCE = 16
"""Images of one forward pass of a classifier, by default; the others take them one by one."""

_NO_AUGMENTATION = Augmentation(flip=False)


class Predictor:
    """Applies a model to images of any kind and size.

    Args:
        model: The model; it is moved to the device and set to eval mode.
        device: Where to compute: "auto", "cpu", "cuda", "cuda:1", "mps".
        precision: "32", or "bf16" for products in bfloat16, as autocast makes them.

    Raises:
        ZigguratError: If this machine has no such device, or there is no such precision.
    """

    def __init__(self, model: Model, *, device: str = "auto", precision: Precision = "32") -> None:
        check_known("precision", precision, get_args(Precision))
        self.device = choose_device(device)
        self.precision = precision
        self.model = model.to(self.device).to(memory_format=torch.channels_last).eval()

    def computing(self) -> torch.autocast:
        """Return the context that gives products their precision."""
        return torch.autocast(
            self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"
        )

    @property
    def classes(self) -> tuple[str, ...]:
        """Name of each label; those of ImageNet where a classifier has 1000 without names."""
        names = self.model.classes
        is_classifier = isinstance(self.model, Classifier)
        if is_classifier and not has_names(names) and len(names) == len(imagenet_classes()):
            return imagenet_classes()
        return names

    @property
    def palette(self) -> tuple[Colour, ...] | None:
        """Colour of each label of a segmenter, where its data gave them."""
        return self.model.palette if isinstance(self.model, SemanticSegmenter) else None

    @property
    def preprocessing(self) -> Preprocessing:
        """What the model expects of an image."""
        return self.model.preprocessing

    @property
    def usual_batch_size(self) -> int:
        """Images of one forward pass where nothing else is asked for."""
        return CLASSIFIED_AT_ONCE if isinstance(self.preprocessing, CenterCrop) else 1

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a str is a sequence of str, too
        self,
        images: ImageLike,
        *,
        score_threshold: float | None = None,
        classes: Sequence[str] | None = None,
        max_detections: int | None = None,
        tiles: Tiles | SlidingWindows | None = None,
        augmentation: Augmentation | None = None,
        suppression: Suppression | None = None,
        batch_size: int | None = None,
    ) -> Prediction: ...

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a list is answered by a list
        self,
        images: list[ImageLike] | tuple[ImageLike, ...],
        *,
        score_threshold: float | None = None,
        classes: Sequence[str] | None = None,
        max_detections: int | None = None,
        tiles: Tiles | SlidingWindows | None = None,
        augmentation: Augmentation | None = None,
        suppression: Suppression | None = None,
        batch_size: int | None = None,
    ) -> list[Prediction]: ...

    @overload
    def __call__(
        self,
        images: Iterable[ImageLike],
        *,
        score_threshold: float | None = None,
        classes: Sequence[str] | None = None,
        max_detections: int | None = None,
        tiles: Tiles | SlidingWindows | None = None,
        augmentation: Augmentation | None = None,
        suppression: Suppression | None = None,
        batch_size: int | None = None,
    ) -> Iterator[Prediction]: ...

    def __call__(
        self,
        images: ImageLike | Iterable[ImageLike],
        *,
        score_threshold: float | None = None,
        classes: Sequence[str] | None = None,
        max_detections: int | None = None,
        tiles: Tiles | SlidingWindows | None = None,
        augmentation: Augmentation | None = None,
        suppression: Suppression | None = None,
        batch_size: int | None = None,
    ) -> Prediction | list[Prediction] | Iterator[Prediction]:
        """Predict one image, a list of images, or whatever gives images one after the other.

        Args:
            images: A file name, the bytes of a file, a PIL image, an array (H, W, 3) or (H, W) of
                uint8, a tensor (3, H, W) of uint8 or of 0..1; a list of those gives a list; a
                generator of those gives a generator, which holds no more images at once than it
                computes.
            score_threshold: A detector's objects below this score are left out, 0.3 by default.
            classes: Names of the classes whose objects are wanted; by default all.
            max_detections: Most objects of an image that a detector gives; by default the 100 best
                of each view of it, as published.
            tiles: Cut images that are too large for a detector or segmenter into tiles; with
                `SlidingWindows` a segmenter's are cut after they are resized.
            augmentation: Show the model several views of each image and put together what it says.
            suppression: What a detector does about duplicates, by default what was published: soft
                rules, box voting. Given, the candidates of all views of an image go through it
                together; else each view has its own, and what is left is fused.
            batch_size: Images, tiles, windows or views of one forward pass, 16 for a classifier and
                1 for the others by default. Of these, a detector sees together what has one size
                after resizing, since padding would change what it finds.

        An image that cannot be read, and options that the model has no use for, raise
        `ZigguratError`.
        """
        wish = self._wish(
            score_threshold, classes, max_detections, tiles, augmentation, suppression, batch_size
        )
        if isinstance(images, (list, tuple)):
            return list(self._predict(images, wish))
        if isinstance(images, ImageLike) or not isinstance(images, Iterable):
            return next(self._predict([images], wish))
        return self._predict(images, wish)

    def _wish(
        self,
        score_threshold: float | None,
        classes: Sequence[str] | None,
        max_detections: int | None,
        tiles: Tiles | SlidingWindows | None,
        augmentation: Augmentation | None,
        suppression: Suppression | None,
        batch_size: int | None,
    ) -> Wish:
        is_classifier = isinstance(self.preprocessing, CenterCrop)
        is_detector = isinstance(self.preprocessing, FitInside)
        options = {
            "score_threshold": (score_threshold, is_detector),
            "classes": (classes, is_detector),
            "max_detections": (max_detections, is_detector),
            "suppression (--nms, --voting)": (suppression, is_detector),
            "tiles (--tile_size, --window)": (tiles, not is_classifier),
        }
        for name, (value, is_useful) in options.items():
            if value is not None and not is_useful:
                does = "scores every class" if is_classifier else "gives every pixel its best class"
                raise ZigguratError(
                    f"{name} is for detectors{' and segmenters' if value is tiles else ''}, and "
                    f"this model is a {'classifier' if is_classifier else 'segmenter'}, which "
                    f"{does}; leave it out"
                )
        if isinstance(tiles, SlidingWindows) and is_detector:
            raise ZigguratError(
                "sliding windows (--window) are for segmenters, and this model is a detector; give "
                "Tiles (--tile_size)"
            )
        if isinstance(self.model, Detector) and (suppression, max_detections) != (None, None):
            self.model.require_duplicates()
        if score_threshold is not None and not 0 <= score_threshold <= 1:
            raise ZigguratError(f"score_threshold must lie in 0..1, got {score_threshold}")
        for name, count in (("batch_size", batch_size), ("max_detections", max_detections)):
            if count is not None and count < 1:
                raise ZigguratError(f"{name} must be at least 1, got {count}")
        return Wish(
            DEFAULT_SCORE_THRESHOLD if score_threshold is None else score_threshold,
            None if classes is None else labels_of(classes, self.classes),
            max_detections,
            tiles,
            augmentation or _NO_AUGMENTATION,
            suppression,
            batch_size or self.usual_batch_size,
        )

    def _predict(self, sources: Iterable[ImageLike], wish: Wish) -> Iterator[Prediction]:
        remaining = iter(sources)
        while images := [to_image(source) for source in islice(remaining, wish.batch_size)]:
            for image, result in zip(images, self._results(images, wish), strict=True):
                yield Prediction(image, result, self.classes, self.palette)

    def _results(self, images: Sequence[Image.Image], wish: Wish) -> Iterable[Result]:
        match self.preprocessing:
            case CenterCrop():
                assert isinstance(self.model, Classifier)
                with self.computing():
                    return classify(self.model, images, wish.augmentation, self.device)
            case FitInside() as preprocessing:
                return self._detect_by_size(images, preprocessing, wish)
            case FitAligned():
                assert isinstance(self.model, SemanticSegmenter)
                look = Look(wish.tiles, wish.augmentation, wish.batch_size)
                with self.computing():
                    return [segment(self.model, image, look, self.device) for image in images]

    def _detect_by_size(
        self, images: Sequence[Image.Image], preprocessing: FitInside, wish: Wish
    ) -> list[Detections]:
        """Detect in images, one after the other by the size in which the model sees them."""
        limits = preprocessing.short_side, preprocessing.long_side
        sizes = [fit_size((image.height, image.width), *limits) for image in images]
        order = sorted(range(len(images)), key=sizes.__getitem__)
        results = self._detect([images[place] for place in order], preprocessing, wish)
        found = dict(zip(order, results, strict=True))
        return [found[place] for place in range(len(images))]

    def _detect(
        self, images: Sequence[Image.Image], preprocessing: FitInside, wish: Wish
    ) -> Iterator[Detections]:
        plans = [wish.views(image) for image in images]
        if wish.suppression is not None and wish.augmentation.has_views:
            yield from self._detect_united(images, plans, wish)
            return
        samples = (
            view.sample(image, preprocessing)
            for image, tiles in zip(images, plans, strict=True)
            for view in chain.from_iterable(tiles)
        )
        found = self._infer(samples, preprocessing.divisor, wish)
        for image, tiles in zip(images, plans, strict=True):
            size = (image.height, image.width)
            regions, objects = [], []
            for views in tiles:
                of_views = [wish.select(view.undo(next(found), size)) for view in views]
                objects.append(fuse(of_views).above(wish.threshold))
                regions.append(views[0].region)
            yield wish.best(merge_tiles(regions, objects, size))

    def _detect_united(
        self,
        images: Sequence[Image.Image],
        plans: Sequence[list[list[View]]],
        wish: Wish,
    ) -> Iterator[Detections]:
        assert isinstance(self.model, Detector)
        for image, tiles in zip(images, plans, strict=True):
            with self.computing():
                found = [
                    detect_united(
                        self.model,
                        image,
                        views,
                        wish.rule,
                        device=self.device,
                        batch_size=wish.batch_size,
                    )
                    for views in tiles
                ]
            objects = [wish.select(one).above(wish.threshold) for one in found]
            regions = [views[0].region for views in tiles]
            yield wish.best(merge_tiles(regions, objects, image.size[::-1]))

    def _infer(self, samples: Iterable[Sample], divisor: int, wish: Wish) -> Iterator[Detections]:
        """Detect in one sample after the other, neighbours of one size together.

        Yields:
            What was found in each sample, in order.
        """
        for _, alike in groupby(samples, lambda sample: tuple(sample.image.shape)):
            while batch := list(islice(alike, wish.batch_size)):
                together = collate(batch, divisor)
                with self.computing():
                    results = infer(self.model, together, self.device, wish.rule)
                for result in results:
                    assert isinstance(result, Detections)  # the model is no classifier
                    yield result


def load(
    path: str | Path, *, device: str = "auto", precision: Precision = "32", fast: bool = False
) -> Predictor:
    """Load trained weights, ready to predict.

    Args:
        path: A .safetensors file of ziggurat, or "hf:USER/NAME" on the Hugging Face hub, or the
            folder of a run, of which the best weights are taken, or the last where none were the
            best yet.
        device: Where to compute: "auto", "cpu", "cuda", "cuda:1", "mps".
        precision: "32", or "bf16" for products in bfloat16.
        fast: Predict with `optimize_for_inference`, which may compile a kernel at its first use.

    Where there are no weights or they cannot be read, `ZigguratError` is raised.
    """
    model = load_weights(find_weights(Path(path)))
    predictor = Predictor(model, device=device, precision=precision)
    if not fast:
        return predictor
    autocast = torch.bfloat16 if precision == "bf16" else None
    quick = optimize_for_inference(predictor.model, autocast=autocast)
    return Predictor(quick, device=device, precision=precision)


def find_weights(path: Path) -> Path:
    """Return the weight file that a user means by a file, the folder of a run, or a name.

    Args:
        path: File or folder, or "hf:USER/NAME".

    Raises:
        ZigguratError: If it does not exist or is a folder without weights.
    """
    if path.as_posix().startswith(HUB_PREFIX):
        return pull(path.as_posix())
    if path.is_dir():
        for name in WEIGHT_FILES:
            if (path / name).is_file():
                return path / name
        raise ZigguratError(
            f"the folder {path} holds no trained weights: expected {' or '.join(WEIGHT_FILES)}, "
            "as `ziggurat train` writes them"
        )
    if not path.exists():
        raise ZigguratError(
            f"there are no weights at {path}: give the folder of a run, a .safetensors file, or "
            f"{HUB_PREFIX}USER/NAME"
        )
    return path
