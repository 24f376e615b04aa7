"""Which of a level's predictions enter the suppression of duplicates.

A dense head predicts some twenty thousand anchors times K classes; suppression sees the best. Two
rules are published, and they differ where an anchor is sure of several classes.
"""

from math import log
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ziggurat.ops.ranking import best_indices

CandidateRule = Literal["anchors", "pairs"]
"""MMDetection up to 2.14 keeps the best anchors, by their best class, with all of their classes;
2.25 keeps the best pairs of anchor and class."""

MARGIN = 1e-3
"""Logits are compared with this margin first; the few that pass are compared as scores."""


class Candidates(NamedTuple):
    """M pairs of anchor and class.

    Attributes:
        anchors: Index of the anchor in its level.
        labels: Class.
        scores: Score, times the quality of the anchor where there is one.
    """

    anchors: Int[Tensor, " M"]
    labels: Int[Tensor, " M"]
    scores: Float[Tensor, " M"]


def best_candidates(
    logits: Float[Tensor, "N K"],
    qualities: Float[Tensor, " N"] | None,
    *,
    rule: CandidateRule,
    count: int,
    threshold: float,
) -> Candidates:
    """Choose the candidates of a level.

    The sigmoid is taken of what is chosen only, since it does not change the order of logits.

    Args:
        logits: Class logits of every anchor.
        qualities: In [0, 1], multiplied to the scores of an anchor after the threshold.
        rule: What is counted.
        count: Anchors, or pairs, at most.
        threshold: A class score is more than this, before it is multiplied by the quality.
    """
    num_anchors = len(logits)
    if rule == "anchors" and num_anchors > count:
        ranks = logits.amax(dim=1).sigmoid()
        if qualities is not None:
            ranks = ranks * qualities
        chosen = ranks.topk(count).indices
        rows, labels, scores = _above(logits[chosen], threshold)
        anchors = chosen[rows]
    else:
        anchors, labels, scores = _above(logits, threshold)
    if rule == "pairs":
        best = best_indices(scores, count)
        anchors, labels, scores = anchors[best], labels[best], scores[best]
    if qualities is not None:
        scores = scores * qualities[anchors]
    return Candidates(anchors, labels, scores)


def _above(
    logits: Float[Tensor, "N K"], threshold: float
) -> tuple[Int[Tensor, " M"], Int[Tensor, " M"], Float[Tensor, " M"]]:
    """Find the pairs whose score is above the threshold, row by row."""
    least = log(threshold / (1 - threshold)) - MARGIN if 0 < threshold < 1 else -torch.inf
    rows, labels = (logits > least).nonzero(as_tuple=True)
    scores = logits[rows, labels].sigmoid()
    kept = scores > threshold
    return rows[kept], labels[kept], scores[kept]
