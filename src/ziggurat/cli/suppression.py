"""How `ziggurat predict` and `ziggurat evaluate` are told what to do about duplicates."""

import argparse

from ziggurat.errors import ZigguratError
from ziggurat.ops.box_voting import VOTED_SCORES, Voting
from ziggurat.ops.nms import METHODS, Suppression


def add_suppression_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what only detectors are asked for."""
    parser.add_argument(
        "--nms",
        choices=METHODS,
        help="what a detector does to a box that overlaps a surer one of its class: drop it (hard, "
        "as published) or take score from it; with --flip or --scales the boxes of all looks "
        "together, while without --nms and --voting each look has its own suppression and what is "
        "left is fused",
    )
    parser.add_argument(
        "--nms_sigma",
        type=float,
        metavar="S",
        help="width of --nms soft-gaussian, 0.5 by default: a score falls by exp(-IoU^2 / S)",
    )
    parser.add_argument(
        "--voting",
        type=float,
        metavar="IOU",
        help="move each box to the mean, weighted by score, of all candidates of its class that "
        "overlap it at least so much, usually 0.8",
    )
    parser.add_argument(
        "--voting_score",
        choices=VOTED_SCORES,
        help="the score of a box after --voting: its own (id, the default), or made of those of "
        "its voters",
    )
    parser.add_argument(
        "--voting_beta",
        type=float,
        metavar="B",
        help="of temp_avg, generalized_avg and quasi_sum, which are avg at 1, the default",
    )


def suppression_of(args: argparse.Namespace) -> Suppression | None:
    """Return what was asked for, or None where nothing was.

    Args:
        args: What the command line says.

    Raises:
        ZigguratError: If an option needs another one, or a number is out of range.
    """
    if args.nms_sigma is not None and args.nms is None:
        raise ZigguratError(
            "--nms_sigma is the width of --nms soft-gaussian, and there is no --nms; give it, too"
        )
    for name, value in (
        ("--voting_score", args.voting_score),
        ("--voting_beta", args.voting_beta),
    ):
        if value is not None and args.voting is None:
            raise ZigguratError(
                f"{name} says how boxes are scored after --voting, and there is none; give the "
                "overlap from which on boxes vote, too, for example --voting 0.8"
            )
    if args.nms is None and args.voting is None:
        return None
    voting = None
    if args.voting is not None:
        voting = Voting(
            args.voting,
            args.voting_score or Voting.score,
            Voting.beta if args.voting_beta is None else args.voting_beta,
        )
    sigma = Suppression.sigma if args.nms_sigma is None else args.nms_sigma
    return Suppression(args.nms or Suppression.method, sigma=sigma, voting=voting)
