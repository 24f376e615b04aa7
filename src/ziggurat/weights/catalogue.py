"""The catalogue: every weight file that the authors of these models, and timm, have published."""

from ziggurat import zoo
from ziggurat.cards import MODELS
from ziggurat.weights import gpvit, p2t, pvt, resnet, topformer
from ziggurat.weights.published_file import PublishedFile

FILES: dict[str, PublishedFile] = {
    file.name: file
    for file in (*pvt.FILES, *p2t.FILES, *topformer.FILES, *gpvit.FILES, *resnet.FILES)
}
"""By name. Of several files for a model the first is the one that `pretrained=True` means."""


def files_for(model: str) -> list[PublishedFile]:
    """Return the files of a model; those that a program can download come first.

    A backbone that differs from another in what no weight shows (dilation, norms that stay) has
    the files of that one.

    Args:
        model: Name of the model or of the backbone.
    """
    files = [file for file in FILES.values() if file.model == zoo.weights_of(model)]
    return sorted(files, key=lambda file: file.url is None)


def is_buildable(file: PublishedFile) -> bool:
    """Tell whether `create_model` or `create_backbone` knows the model of a file.

    Args:
        file: A file of the catalogue.
    """
    if file.model in zoo.BACKBONES:
        return True
    card = MODELS.get(file.model)
    return card is not None and (card.backbone in zoo.BACKBONES or card.backbone in zoo.TRUNKS)
