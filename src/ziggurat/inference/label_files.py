"""Predicted label maps as PNG files, which other programs and `ziggurat evaluate --results` read.

A folder of them holds classes.json, which says what the values mean: 0..K-1 in the order of its
names, with their colours. The palette in each file shows it in those colours in any viewer.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Integer, UInt8
from PIL import Image

from ziggurat.data.label_folder import CLASS_FILE
from ziggurat.errors import ZigguratError
from ziggurat.inference.output import write_bytes, write_json
from ziggurat.types import LabelMap


class LabelFileWriter:
    """Writes one PNG a photo, named as the photo is.

    Args:
        folder: Where to; it is made.
        classes: Name of each class.
        colours: Red, green and blue of each class.
    """

    def __init__(
        self, folder: Path, classes: Sequence[str], colours: Integer[np.ndarray, "K 3"]
    ) -> None:
        self.folder = folder
        self.palette = palette_of(colours)
        self._written: dict[str, str] = {}
        write_json(folder / CLASS_FILE, {"classes": list(classes), "palette": colours.tolist()})

    def write(self, photo: str, labels: LabelMap, *, video: str | None = None) -> Path:
        """Write a label map and return its file.

        Args:
            photo: File of the photo.
            labels: Class of each of its pixels.
            video: Folder for the frames of a video, below the others; None for a photo.

        Raises:
            ZigguratError: If a photo of this name has been written.
        """
        name = str(Path(video or "", Path(photo).stem))
        if name in self._written:
            raise ZigguratError(
                f"{photo} and {self._written[name]} have the same name, so that their label maps "
                "would be one file; rename one of them"
            )
        self._written[name] = photo
        return write_bytes(self.folder / f"{name}.png", encode_labels(labels, self.palette))


def encode_labels(labels: LabelMap, palette: Sequence[int]) -> bytes:
    """Return a PNG file whose values are the classes.

    Args:
        labels: Class of each pixel.
        palette: Red, green and blue of each value, one after the other.
    """
    values: UInt8[np.ndarray, "H W"] = labels.labels.cpu().numpy().astype(np.uint8)
    image = Image.fromarray(values)
    image.putpalette(palette)  # makes a picture with a palette of one in grey
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def palette_of(colours: Integer[np.ndarray, "K 3"]) -> list[int]:
    """Return the palette of a PNG; values beyond the classes are white, as unlabelled pixels are.

    Args:
        colours: Red, green and blue of each class.
    """
    levels = np.full((256, 3), 255)
    levels[: len(colours)] = colours
    return [int(level) for level in levels.reshape(-1)]
