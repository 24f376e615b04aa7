"""What a card says, and what the cards of several tasks share: papers, and why sizes differ."""

from dataclasses import dataclass

from ziggurat.types import ImageSize, Task


@dataclass(frozen=True)
class ModelCard:
    """What is published about a model.

    Attributes:
        name: Name for `create_model`.
        task: What the model does.
        system: Name of its system; "classifier" for a classifier.
        backbone: Name of its backbone.
        input_size: Height and width at which its cost is published.
        published: Metric, number and data set, as the source states it.
        source: Where that number stands.
        recipes: Names of the training runs that reproduce it, that of the first number first.
        drop_path_rate: Stochastic depth that it was trained with in the first of them.
        parameters: Published size in millions of parameters, with the digits that are published,
            or None.
        macs: Published work in billions of multiply-accumulates, or None. Most sources call them
            FLOPs.
        size_note: Why `ziggurat list` counts otherwise, where it does.
        num_classes: Number of classes, or None for that of ImageNet-1k, COCO or ADE20K.
        neck: Name of its neck, or None for that of its system.
        results: What is published for each of `recipes`, "" where no number is; () where
            `published` is the number of the first and there are no others.
    """

    name: str
    task: Task
    system: str
    backbone: str
    input_size: ImageSize
    published: str
    source: str
    recipes: tuple[str, ...]
    drop_path_rate: float
    parameters: int | float | None = None
    macs: float | None = None
    size_note: str = ""
    num_classes: int | None = None
    neck: str | None = None
    results: tuple[str, ...] = ()

    def result_of(self, recipe: str) -> str:
        """Return what is published for one of the recipes, "" where no number is."""
        results = self.results or (self.published,)
        number = self.recipes.index(recipe)
        return results[number] if number < len(results) else ""


PVT_PAPER = "Wang et al., ICCV 2021, arXiv:2102.12122"
PVT_V2_PAPER = "Wang et al., CVMJ 2022, arXiv:2106.13797, and github.com/whai362/PVT"
P2T_PAPER = "Wu et al., TPAMI 2022, arXiv:2106.12011"
TOPFORMER_PAPER = "Zhang et al., CVPR 2022, arXiv:2204.05525"
FPT_PAPER = "Zhang et al., ECCV 2020, arXiv:2007.09451"
GPVIT_PAPER = "Yang et al., ICLR 2023, arXiv:2212.06795"

TRUNCATED = "the table cuts digits off where it should round"
