"""What a writer of results is told beside a prediction."""

from dataclasses import dataclass
from pathlib import Path

from ziggurat.inference.prediction import Prediction
from ziggurat.types import Detections


@dataclass(frozen=True)
class Source:
    """Where the image of a prediction comes from.

    Attributes:
        image_id: Counts images and frames from 1.
        path: The file.
        stem: Name of the files that are written for it, without their ending.
        frame: Number of the frame of a video, from 0; None for an image.
        time: When the frame is shown, in seconds; None for an image.
    """

    image_id: int
    path: Path
    stem: str
    frame: int | None = None
    time: float | None = None


def objects_of(prediction: Prediction) -> Detections:
    """Return the objects of a detector's prediction."""
    assert isinstance(prediction.result, Detections)  # the choice of a format has made sure
    return prediction.result
