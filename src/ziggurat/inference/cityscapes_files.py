"""Predictions as the Cityscapes benchmark takes them: a text file an image, a mask an object.

A line of <image>.txt names the mask's file, the number of the class, and the score. A mask is a PNG
of the size of the image, 255 inside.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ziggurat.data.cityscapes_instances import INSTANCE_IDS
from ziggurat.errors import ZigguratError
from ziggurat.inference.output import write_bytes
from ziggurat.types import Detections


class CityscapesFileWriter:
    """Writes the files of one image after the other.

    Args:
        folder: Where to.
        classes: Name of each label, those of Cityscapes' classes with objects.

    Raises:
        ZigguratError: If a class is none of Cityscapes.
    """

    def __init__(self, folder: Path, classes: Sequence[str]) -> None:
        others = [name for name in classes if name not in INSTANCE_IDS]
        if others:
            raise ZigguratError(
                f"--format cityscapes is for models of Cityscapes' classes "
                f"({', '.join(INSTANCE_IDS)}), and this one knows {others[0]!r}; choose another "
                "format"
            )
        self.folder = folder
        self.numbers = [INSTANCE_IDS[name] for name in classes]

    def write(self, stem: str, found: Detections) -> None:
        """Write an image's text file, and a mask for every object that has a pixel.

        Args:
            stem: Name of the image.
            found: Objects with masks, in pixels of the image.
        """
        masks = found.masks
        assert masks is not None  # the format is one of models with masks
        lines = []
        # One whole mask at a time: a hundred would take a hundred times the image.
        for place, (crop, window) in enumerate(
            zip(masks.crops(), masks.windows.tolist(), strict=True)
        ):
            if not crop.any():
                continue
            left, top, width, height = window
            pixels = np.zeros(masks.size, dtype=np.uint8)
            pixels[top : top + height, left : left + width] = crop.cpu().numpy() * np.uint8(255)
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "PNG")
            name = f"{stem}_{place}.png"
            write_bytes(self.folder / name, buffer.getvalue())
            number = self.numbers[int(found.labels[place])]
            lines.append(f"{name} {number} {float(found.scores[place])!r}\n")
        write_bytes(self.folder / f"{stem}.txt", "".join(lines).encode())
