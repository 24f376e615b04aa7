"""Is every number of a training step finite, in float32 and in the run's precision?"""

import torch

from ziggurat.doctor.clock import Clock
from ziggurat.doctor.findings import Finding
from ziggurat.doctor.plain import plain_batch, some_indices, training_side
from ziggurat.doctor.step import compute_losses, training_step
from ziggurat.doctor.subject import Subject
from ziggurat.engine.nonfinite import NonFinite, first_nonfinite
from ziggurat.types import Batch

CHECK = "finite numbers"
NUM_IMAGES = 2
LARGEST_SIDE = {"cpu": 128, "cuda": 512}
"""Of the images that are tried, in pixels; a whole step would take too long on a CPU."""


def check_numbers(subject: Subject, clock: Clock) -> list[Finding]:
    """Compute a training step and say where the first number is not finite."""
    side = min(training_side(subject), LARGEST_SIDE.get(subject.device.type, 128))
    batch = plain_batch(subject, some_indices(subject, NUM_IMAGES), side)
    precisions = dict.fromkeys(("32", subject.config.trainer.precision))
    losses: list[str] = []
    for precision in precisions:
        clock.require(f"{len(losses)} of {len(precisions)} precisions tried")
        with first_nonfinite(subject.model) as watch:
            loss = training_step(subject, batch, precision)
        bad = [
            name
            for name, parameter in subject.model.named_parameters()
            if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all())
        ]
        subject.model.zero_grad(set_to_none=True)
        if bad or not bool(torch.isfinite(loss)):
            found = _first_in_forward(subject, batch, precision) or watch.found
            where = str(found) if found else "in the loss"
            gradients = f", {len(bad)} gradients are not finite" if bad else ""
            return [
                Finding(
                    CHECK,
                    "error",
                    f"in precision {precision} the loss is {float(loss):.3g}{gradients}; the first "
                    f"such number is {where}",
                    _advice(str(precision), found is not None),
                )
            ]
        losses.append(f"{float(loss):.3g} in {precision}")
    return [Finding(CHECK, "ok", f"loss and gradients of a step; loss {' and '.join(losses)}")]


@torch.no_grad()
def _first_in_forward(subject: Subject, batch: Batch, precision: str) -> NonFinite | None:
    """Look at a forward pass in which nothing learns: modules are computed one by one there.

    In training the kernel of the CPU computes several of them as one.
    """
    with first_nonfinite(subject.model) as watch:
        compute_losses(subject, batch, precision)
    return watch.found


def _advice(precision: str, is_in_model: bool) -> str:
    if precision != "32":
        return "set trainer.precision 32 or, on a GPU that has it, bf16"
    if is_in_model:
        return "start from weights without such values, or look at what that module computes"
    return "look at the annotations of these images and at the options of the loss"
