"""Box voting: a kept box moves to the mean of the boxes that say the same.

Gidaris and Komodakis, arXiv:1505.01749, section 4.3; the ways to score are those of Detectron.

Shapes: n kept boxes, N candidates, V votes: pairs of a kept box and a candidate.
"""

from dataclasses import dataclass
from math import isfinite

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ziggurat.errors import ZigguratError
from ziggurat.ops.boxes import SMALLEST_AREA, paired_iou
from ziggurat.ops.soft_nms import by_class

VOTED_SCORES = ("id", "temp_avg", "avg", "iou_avg", "generalized_avg", "quasi_sum")
"""What the score of a voted box is: its own, or made of those of its voters."""

WITH_BETA = ("temp_avg", "generalized_avg", "quasi_sum")
CLOSEST_TO_CERTAIN = 1e-7
PAIRS_AT_ONCE = 1 << 20
"""Pairs of boxes whose overlaps are computed at once: some 50 MB."""


@dataclass(frozen=True)
class Voting:
    """How boxes vote.

    Attributes:
        iou: A candidate of its class votes for a kept box that it overlaps at least so much.
        score: What the score becomes. "id": it stays; "avg": the mean of the voters' scores;
            "iou_avg": the mean weighted by overlap; "temp_avg": the mean after their log odds were
            divided by `beta`; "generalized_avg": the power mean of exponent `beta`; "quasi_sum":
            the sum divided by the number of voters to the power of `beta`.
        beta: Of the last three; at 1 they are "avg".

    Raises:
        ZigguratError: If a number is out of range, the name unknown, or `beta` without effect.
    """

    iou: float = 0.8
    score: str = "id"
    beta: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.iou <= 1:
            raise ZigguratError(
                f"the overlap from which on boxes vote must lie above 0 and be at most 1, got "
                f"{self.iou}; 0.8 is usual"
            )
        if self.score not in VOTED_SCORES:
            raise ZigguratError(
                f"unknown score of voted boxes {self.score!r}; choose one of "
                f"{', '.join(VOTED_SCORES)}"
            )
        if not (isfinite(self.beta) and self.beta > 0):
            raise ZigguratError(f"beta of voted scores must be above 0, got {self.beta}")
        if self.beta != 1 and self.score not in WITH_BETA:
            raise ZigguratError(
                f"beta has no effect on the voted score {self.score!r}, got {self.beta}; leave it "
                f"out, or choose {', '.join(WITH_BETA)}"
            )


def vote(
    kept: Int[Tensor, " n"],
    kept_scores: Float[Tensor, " n"],
    boxes: Float[Tensor, "N 4"],
    scores: Float[Tensor, " N"],
    labels: Int[Tensor, " N"],
    voting: Voting,
) -> tuple[Float[Tensor, "n 4"], Float[Tensor, " n"]]:
    """Return boxes and scores of the kept ones after the vote of all candidates.

    Args:
        kept: Indices of the candidates that suppression left.
        kept_scores: Scores that it left to them.
        boxes: Candidates, in pixels.
        scores: Their scores before the suppression.
        labels: Their classes.
        voting: How they vote.
    """
    leaders, voters, overlaps = _votes(kept, boxes, labels, voting.iou)
    weights = scores[voters]
    total = _sum_by(leaders, weights, len(kept))
    moved = torch.zeros_like(boxes[kept]).index_add_(0, leaders, boxes[voters] * weights[:, None])
    moved = moved / total[:, None]
    if voting.score == "id":
        return moved, kept_scores
    counts = _sum_by(leaders, torch.ones_like(weights), len(kept))
    beta = voting.beta
    if voting.score == "iou_avg":
        return moved, _sum_by(leaders, weights * overlaps, len(kept)) / _sum_by(
            leaders, overlaps, len(kept)
        )
    if voting.score == "temp_avg":
        odds = weights.logit(CLOSEST_TO_CERTAIN) / beta
        return moved, _sum_by(leaders, odds.sigmoid(), len(kept)) / counts
    if voting.score == "generalized_avg":
        powers = _sum_by(leaders, weights**beta, len(kept)) / counts
        return moved, powers ** (1 / beta)
    return moved, total / (counts if voting.score == "avg" else counts**beta)


def _votes(
    kept: Int[Tensor, " n"], boxes: Float[Tensor, "N 4"], labels: Int[Tensor, " N"], iou: float
) -> tuple[Int[Tensor, " V"], Int[Tensor, " V"], Float[Tensor, " V"]]:
    """Find who votes for whom, and how much the two overlap; each kept box has its own vote."""
    table = by_class(labels)
    asked = by_class(table.rows[kept]).members  # (k, n): places in `kept`, a row a class
    if not len(asked):
        return kept, kept, boxes[:0, 0]
    candidates = table.members[table.rows[kept[asked[:, 0]]]][:, None]  # (k, 1, M)
    corners = boxes[candidates.clamp(min=0)]
    leaders, voters, overlaps = [], [], []
    for part in asked.split(max(PAIRS_AT_ONCE // candidates.numel(), 1), dim=1):
        places = part[..., None]
        own = kept[places.clamp(min=0)]
        shared = paired_iou(boxes[own], corners)
        # A box without area overlaps nothing, and speaks for itself all the same.
        agree = (shared >= iou) | (candidates == own)
        agree &= (candidates >= 0) & (places >= 0)
        leaders.append(places.expand_as(agree)[agree])
        voters.append(candidates.expand_as(agree)[agree])
        overlaps.append(shared[agree].clamp(min=SMALLEST_AREA))
    return torch.cat(leaders), torch.cat(voters), torch.cat(overlaps)


def _sum_by(
    groups: Int[Tensor, " V"], values: Float[Tensor, " V"], count: int
) -> Float[Tensor, " n"]:
    return values.new_zeros(count).index_add_(0, groups, values)
