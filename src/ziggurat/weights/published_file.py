"""What is known of one published weight file: model, numbers, licence, and where it lies.

Only what a source states is written down. Where nothing is published, a size or a hash for
instance, there is None: nothing in the catalogue is computed, measured or guessed.
"""

from dataclasses import dataclass

from ziggurat.types import Task

APACHE = "Apache-2.0"
CC_BY_NC_SA = "CC-BY-NC-SA-4.0"
CC_BY_SA = "CC-BY-SA-3.0"

CROP_224 = "short side to 256 (bicubic), middle 224 x 224, ImageNet mean and deviation"
INSIDE_1333_800 = (
    "inside 1333 x 800, aspect ratio kept, padded to multiples of 32, ImageNet mean and deviation"
)
INSIDE_1066_640 = INSIDE_1333_800.replace("1333 x 800", "1066 x 640")
INSIDE_2048_512 = (
    "inside 2048 x 512, aspect ratio kept, then up to multiples of 32, ImageNet mean and deviation"
)
INSIDE_2048_448 = INSIDE_2048_512.replace("2048 x 512", "2048 x 448")

IMAGENET = "ImageNet-1k val"
COCO = "COCO val2017"
ADE20K = "ADE20K val"


@dataclass(frozen=True)
class PublishedFile:
    """One weight file that somebody published.

    Attributes:
        name: Its name in the catalogue: that of the file, or of the training run where the file's
            own name is not published.
        model: Name of the model that it is for.
        task: What that model does.
        metrics: Number, in percent, as the source states it, by the name that `ziggurat evaluate`
            gives it; empty where none is stated.
        dataset: What the numbers were measured on.
        source: Page that states them.
        licence: SPDX name of its licence, or None where the authors state none.
        preprocessing: What the model expects of an image.
        limits: Short and long side, in pixels, that images fit inside, or None where they are
            those that the model has by default.
        url: Address that gives the file itself, or None where only a person can get it.
        page: Page where a person gets it, or None where `url` does.
        size: Size in bytes, or None where it is not published.
        published_size: Rounded size as the source prints it, or None.
        sha256_prefix: First digits of its SHA-256 as published, or None.
        remark: What else one should know, or nothing.
    """

    name: str
    model: str
    task: Task
    metrics: tuple[tuple[str, float], ...]
    dataset: str
    source: str
    licence: str | None
    preprocessing: str
    limits: tuple[int, int] | None = None
    url: str | None = None
    page: str | None = None
    size: int | None = None
    published_size: str | None = None
    sha256_prefix: str | None = None
    remark: str = ""

    @property
    def published(self) -> str:
        """The numbers in words."""
        if not self.metrics:
            return "no number stated"
        numbers = ", ".join(f"{value} {in_words(metric)}" for metric, value in self.metrics)
        return f"{numbers}, {self.dataset}"

    @property
    def how_to_get(self) -> str:
        """What a user has to do to have the file."""
        if self.url is not None:
            return f"pretrained={self.name!r} downloads {self.url}"
        return f"{self.how_to_save}, then give its path in the place of its name"

    @property
    def how_to_save(self) -> str:
        """Where a user gets a file that no program can download."""
        remark = f" ({self.remark})" if self.remark else ""
        return f"save {self.name} from {self.page} with a browser{remark}"


def in_words(metric: str) -> str:
    """Return the name of a metric as people write it: "mask AP"."""
    return metric.replace("_", " ")


def drive_file(identifier: str) -> str:
    """Return the page of a file on Google Drive, which asks a person to confirm downloads."""
    return f"https://drive.google.com/file/d/{identifier}/view"


def drive_folder(identifier: str) -> str:
    """Return the page of a folder on Google Drive."""
    return f"https://drive.google.com/drive/folders/{identifier}"
