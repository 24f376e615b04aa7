"""Trans2Seg's head: shapes, attention, and that a class is not like another."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ziggurat.heads.trans2seg import AttentionMaps, Trans2SegHead


def maps(sizes: tuple[tuple[int, int], ...]) -> list[Tensor]:
    return [torch.randn(2, c, *size) for c, size in zip((4, 8, 8, 12), sizes, strict=True)]


@pytest.mark.parametrize(
    "sizes",
    [((16, 12), (8, 6), (4, 3), (2, 2)), ((13, 9), (7, 5), (4, 3), (2, 2)), ((1, 1),) * 4],
)
def test_logits_have_the_size_of_the_finest_map(sizes: tuple[tuple[int, int], ...]) -> None:
    head = Trans2SegHead((4, 8, 8, 12), 3, channels=16).eval()
    with torch.inference_mode():
        assert head(maps(sizes)).shape == (2, 3, *sizes[0])


def test_every_parameter_learns() -> None:
    head = Trans2SegHead((4, 8, 8, 12), 3, channels=16)
    logits = head(maps(((16, 12), (8, 6), (4, 3), (2, 2))))
    F.cross_entropy(logits, torch.randint(3, (2, 16, 12))).backward()
    idle = [name for name, parameter in head.named_parameters() if parameter.grad is None]
    assert idle == []


def test_classes_differ_by_their_prototypes_only() -> None:
    head = Trans2SegHead((4, 8, 8, 12), 3, channels=16).eval()
    features = maps(((8, 8), (4, 4), (2, 2), (2, 2)))
    with torch.no_grad():
        head.prototypes[2] = head.prototypes[0]
        logits = head(features)
    torch.testing.assert_close(logits[:, 0], logits[:, 2])
    assert not torch.allclose(logits[:, 0], logits[:, 1], atol=1e-7)


def test_an_image_does_not_depend_on_its_neighbours_in_the_batch() -> None:
    head = Trans2SegHead((4, 8, 8, 12), 3, channels=16).eval()
    features = maps(((8, 8), (4, 4), (2, 2), (2, 2)))
    with torch.inference_mode():
        together, alone = head(features), head([x[1:] for x in features])
    torch.testing.assert_close(together[1:], alone)


def test_attention_adds_up_to_one() -> None:
    weights = AttentionMaps(16)(torch.randn(2, 3, 16), torch.randn(2, 6, 16))
    assert weights.shape == (2, 3, 8, 6)
    torch.testing.assert_close(weights.sum(dim=3), torch.ones(2, 3, 8))


def test_heads_divide_the_width() -> None:
    with pytest.raises(ValueError, match="multiple of 8, got 20"):
        Trans2SegHead((4, 8, 8, 12), 3, channels=20)
