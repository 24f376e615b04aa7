"""Keypoints: what the named points of an object are, and where they lie in an image.

Shapes: N objects of an image, P points of an object.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

Pairs = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Skeleton:
    """The points that every object has, by their numbers 0..P-1.

    Attributes:
        names: Name of each point.
        edges: Points that a drawing joins by a line.
        pairs: Points that change places in a mirror: left and right eye.
    """

    names: tuple[str, ...]
    edges: Pairs = ()
    pairs: Pairs = ()

    def __len__(self) -> int:
        return len(self.names)

    @property
    def mirrored(self) -> list[int]:
        """The point that each one is in a mirror."""
        order = list(range(len(self)))
        for left, right in self.pairs:
            order[left], order[right] = right, left
        return order


COCO_PERSON = Skeleton(
    names=(
        "nose",
        *("left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder"),
        *("left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip"),
        *("left_knee", "right_knee", "left_ankle", "right_ankle"),
    ),
    edges=(
        *((15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7)),
        *((6, 8), (7, 9), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6)),
    ),
    pairs=tuple((left, left + 1) for left in range(1, 17, 2)),
)
"""The seventeen points of a person in COCO."""


def plain_skeleton(num_keypoints: int) -> Skeleton:
    """Return the skeleton of a model that nobody told one: COCO's person, or points with numbers.

    Args:
        num_keypoints: Points of an object.
    """
    if num_keypoints == len(COCO_PERSON):
        return COCO_PERSON
    return Skeleton(tuple(f"keypoint_{number}" for number in range(num_keypoints)))


@dataclass(frozen=True)
class Keypoints:
    """Points of the N objects of an image.

    Attributes:
        points: x, y in pixels of the image, the centre of its first pixel at (0.5, 0.5), and how
            well a point is known: found points have a score in [0, 1]; true ones COCO's
            visibility, 2 seen, 1 hidden but labelled, 0 not labelled, x and y then mean nothing.
        skeleton: What the points are.
    """

    points: Float[Tensor, "N P 3"]
    skeleton: Skeleton

    def __len__(self) -> int:
        return self.points.shape[0]

    def __getitem__(self, which: Tensor) -> "Keypoints":
        """Keep some objects.

        Args:
            which: Indices, or a boolean for each object.
        """
        return replace(self, points=self.points[which])

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Keypoints":
        """Copy to a device.

        Args:
            device: Where to.
            non_blocking: Whether to go on before all has arrived; only on the way to a GPU.
        """
        return replace(self, points=self.points.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Keypoints":
        """Copy to page-locked memory."""
        return replace(self, points=self.points.pin_memory())

    def scale(self, factors: tuple[float, float]) -> "Keypoints":
        """Resize the image.

        Args:
            factors: By how much along x and along y.
        """
        return replace(self, points=self.points * self.points.new_tensor([*factors, 1.0]))

    def move(self, x: int, y: int) -> "Keypoints":
        """Add a distance in pixels."""
        return replace(self, points=self.points + self.points.new_tensor([x, y, 0.0]))

    def flip(self, width: int) -> "Keypoints":
        """Exchange left and right, in the image and on the objects.

        Args:
            width: Width of the image in pixels.
        """
        x, y, known = self.points[:, self.skeleton.mirrored].unbind(dim=2)
        return replace(self, points=torch.stack([width - x, y, known], dim=2))

    def crop(self, size: tuple[int, int]) -> "Keypoints":
        """Forget the points outside of the image: nothing shows where they are.

        Args:
            size: Height and width of the image.
        """
        x, y, _ = self.points.unbind(dim=2)
        is_inside = (x >= 0) & (y >= 0) & (x <= size[1]) & (y <= size[0])
        return replace(self, points=self.points * is_inside[:, :, None])
