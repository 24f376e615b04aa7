"""A batch norm that sees one pixel of one image: there is no deviation of a single value."""

from collections.abc import Iterator
from contextlib import contextmanager

from ziggurat.errors import ZigguratError
from ziggurat.zoo import Model

ONE_VALUE = "Expected more than 1 value per channel when training"
"""How torch begins to speak of it."""


@contextmanager
def explain_single_values(model: Model, num_images: int) -> Iterator[None]:
    """Say what to do where a batch norm of a model has one value of a channel only.

    Args:
        model: What computes in the block.
        num_images: Images that it sees.

    Yields:
        Nothing.

    Raises:
        ZigguratError: If that happens.
        ValueError: If the model fails in any other way.
    """
    try:
        yield
    except ValueError as error:
        if not str(error).startswith(ONE_VALUE):
            raise
        raise ZigguratError(
            f"data.batch_size must be at least 2 for {model.identity.name}, got {num_images} "
            "image a device: its batch norms see a map of 1 x 1 and need a second value; with one "
            "image a device on several GPUs set trainer.sync_batch_norm=true"
        ) from error
