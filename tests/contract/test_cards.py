"""What is counted here against what is published, for every model."""

import pytest
import torch

from ziggurat.cards import MODELS, ModelCard
from ziggurat.inference.cost import Cost, count_cost
from ziggurat.zoo import create_model

# Parameters (M) of the official code, and its multiply-accumulates (G) as torch's counter finds
# them; both found by running it.
OFFICIAL_CODE = {
    "pvt_tiny": (13.229, 1.93),
    "pvt_small": (24.486, 3.82),
    "pvt_medium": (44.208, 6.66),
    "pvt_large": (61.369, 9.81),
    "pvt_huge_v2": (304.95, 50.5),
    "pvt_v2_b0": (3.667, 0.57),
    "pvt_v2_b1": (14.009, 2.12),
    "pvt_v2_b2": (25.363, 4.04),
    "pvt_v2_b2_li": (22.554, 3.92),
    "pvt_v2_b3": (45.239, 6.92),
    "pvt_v2_b4": (62.556, 10.14),
    "pvt_v2_b5": (81.956, 11.75),
    "p2t_tiny": (11.591, 1.79),
    "p2t_small": (24.080, 3.77),
    "p2t_medium": (40.86, 7.32),
    "p2t_base": (36.066, 6.53),
    "p2t_large": (54.477, 9.83),
    "topformer_tiny": (1.503, 0.120),
    "topformer_small": (3.106, 0.228),
    "topformer_base": (5.069, 0.364),
    "gpvit_l1": (9.590, 6.10),
    "gpvit_l2": (24.163, 15.65),
    "gpvit_l3": (36.654, 23.44),
    "gpvit_l4": (75.484, 48.15),
}
CARDS = [card for card in MODELS.values() if card.task == "classification"]
SMALLEST_DETECTORS = {
    card.system: card for card in reversed(MODELS.values()) if card.task != "classification"
}.values()


@pytest.fixture(scope="module")
def costs() -> dict[str, Cost]:
    return {}


def cost_of(card: ModelCard, costs: dict[str, Cost]) -> Cost:
    """Count once for both tests."""
    if card.name not in costs:
        costs[card.name] = count_cost(card.name)
    return costs[card.name]


def rounds_to(value: float, published: float) -> bool:
    digits = len(str(published).partition(".")[2])
    return round(value, digits) == published


def test_every_classifier_has_been_counted() -> None:
    assert {card.name for card in CARDS} == set(OFFICIAL_CODE)


TOPFORMER_HEADS = {"topformer_tiny": 4, "topformer_small": 6, "topformer_base": 8}


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_sizes_are_those_of_the_official_code(card: ModelCard, costs: dict[str, Cost]) -> None:
    cost = cost_of(card, costs)
    parameters, macs = OFFICIAL_CODE[card.name]
    assert cost.parameters / 1e6 == pytest.approx(parameters, abs=0.005)
    # Pooling is written as matrix products here, which counts; the official average does not.
    # So do the zeros that widen TopFormer's keys: 16 more products for each pair of tokens.
    zeros = 4 * TOPFORMER_HEADS.get(card.name, 0) * (224 // 32) ** 4 * 16
    assert (cost.macs - zeros) / 1e9 == pytest.approx(macs, rel=0.008, abs=0.003)


@pytest.mark.parametrize("card", MODELS.values(), ids=lambda card: card.name)
def test_where_the_published_table_differs_the_card_says_why(
    card: ModelCard, costs: dict[str, Cost]
) -> None:
    if card.macs is not None:
        cost = cost_of(card, costs)
        parameters = cost.parameters
        macs_agree = rounds_to(cost.macs / 1e9, card.macs)
    else:
        with torch.device("meta"):
            model = create_model(card.name)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        macs_agree = True
    parameters_agree = card.parameters is None or rounds_to(parameters / 1e6, card.parameters)
    assert (macs_agree and parameters_agree) is not bool(card.size_note)


def test_work_of_a_detector_is_that_of_the_official_counter(costs: dict[str, Cost]) -> None:
    # The one detector of which the authors say how they counted; norms and biases count there, too.
    card = MODELS["gfl_pvt_v2_b2"]
    assert card.macs is not None
    assert cost_of(card, costs).macs / 1e9 == pytest.approx(card.macs - 0.5, abs=0.05)


@pytest.mark.parametrize("card", [CARDS[0], *SMALLEST_DETECTORS], ids=lambda card: card.name)
def test_cost_is_counted_at_the_size_of_the_card(card: ModelCard, costs: dict[str, Cost]) -> None:
    cost = cost_of(card, costs)
    assert cost.image_size == card.input_size
    assert cost.macs == cost.flops // 2
