"""Names of models taken apart: `<system>_<backbone>`, `<system>_<neck>_<backbone>`.

`ModelIdentity.name` says how a model is called; here the parts are found that are called so.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import NoReturn

from ziggurat.cards import MODELS
from ziggurat.errors import ZigguratError, did_you_mean
from ziggurat.systems import SYSTEMS, DetectionSystem
from ziggurat.systems.necks import FPT_FORMULAS, NECKS
from ziggurat.types import ModelIdentity
from ziggurat.zoo.backbones import BACKBONES, TIMM_PREFIX


@dataclass(frozen=True)
class Combination:
    """What a detector or segmenter is put together from.

    Attributes:
        system: Name of its system.
        backbone: Name of its backbone.
        neck: Name of its neck, or None where nothing stands between the two.
    """

    system: str
    backbone: str
    neck: str | None


def combination_of(name: str) -> Combination | None:
    """Return the parts of a model of any system on any backbone, or None if no model is called so.

    Args:
        name: What the model is called, as `ModelIdentity.name` says it.
    """
    before, prefix, network = name.partition(TIMM_PREFIX)
    if not prefix:
        return _combinations(tuple(BACKBONES)).get(name)
    if not before:
        return None
    # What follows the name of a backbone belongs to the system.
    backbones = (prefix + network, prefix + network.removesuffix("_cityscapes"))
    return _combinations(backbones).get(name)


def refuse_unknown(name: str, others: Iterable[str]) -> NoReturn:
    """Say that a name is no model's.

    Args:
        name: What was given; it may be the name of a backbone.
        others: What could have been meant beside a model.

    Raises:
        ZigguratError: Always.
    """
    if name in BACKBONES or name.startswith(TIMM_PREFIX):
        raise ZigguratError(
            f"{name!r} is a backbone and no model by itself; name a system on it, for example "
            f"'retinanet_{name}', or call create_backbone({name!r})"
        )
    known = [*MODELS, *others, *_combinations(tuple(BACKBONES))]
    otherwise = "`ziggurat list` prints the names, and the systems and backbones of further ones"
    raise ZigguratError(f"unknown model {name!r}; {did_you_mean(name, known, otherwise)}")


def necks_of(system: str) -> tuple[str | None, ...]:
    """Return the names of the necks that a system can have, its own first.

    Args:
        system: Name of the system.
    """
    chosen = SYSTEMS[system]
    is_fixed = chosen.neck is None if isinstance(chosen, DetectionSystem) else chosen.injects
    if is_fixed:
        return (chosen.neck,)
    # A head that reads maps as they are can read enriched ones, and not those of another width.
    return (None, *FPT_FORMULAS) if chosen.neck is None else NECKS


@cache
def _combinations(backbones: tuple[str, ...]) -> dict[str, Combination]:
    """Return the parts of every model on these backbones, by the name of the model."""
    return {
        ModelIdentity(
            SYSTEMS[system].task, system, backbone, num_classes=1, neck=neck
        ).name: Combination(system, backbone, neck)
        for system in SYSTEMS
        for backbone in backbones
        for neck in necks_of(system)
    }
