"""Systems: what is put onto the maps of a backbone to detect or to segment."""

from ziggurat.systems.detection import DETECTION_SYSTEMS, DetectionSystem
from ziggurat.systems.segmentation import SEGMENTATION_SYSTEMS, SegmentationSystem

__all__ = [
    "DETECTION_SYSTEMS",
    "SEGMENTATION_SYSTEMS",
    "SYSTEMS",
    "DetectionSystem",
    "SegmentationSystem",
]

SYSTEMS: dict[str, DetectionSystem | SegmentationSystem] = {
    **DETECTION_SYSTEMS,
    **SEGMENTATION_SYSTEMS,
}
"""Every system by its name; each says which task it does."""
