"""Where the time of a prediction goes: backbone, neck, head and post-processing, one by one.

Parts are timed where they begin and end, inside of whole predictions, so that each works on what
the one before it made.
"""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

import torch
from torch import Tensor, nn

from ziggurat.backbones.topformer import TopFormer
from ziggurat.models.classifier import Classifier
from ziggurat.models.semantic_segmenter import SemanticSegmenter
from ziggurat.types import full_sizes
from ziggurat.zoo import Model

POST_PROCESSING = "post-processing"
"""What is left: candidates, suppression, pasting of masks."""
LABELLING = "upsampling and argmax"
"""The same of a segmenter."""
INJECTION = "injection"
"""The end of TopFormer's backbone, which the paper counts by itself."""


def time_parts(
    model: Model, images: Tensor, rounds: int, autocast: torch.autocast
) -> dict[str, float]:
    """Return the seconds of each part, the median over the rounds, in the order of their work.

    Args:
        model: A model in eval mode on the device.
        images: A batch without padding.
        rounds: Number of predictions.
        autocast: Gives products and convolutions their precision.
    """
    sizes = full_sizes(images)
    injections = {}
    if isinstance(model.backbone, TopFormer):
        injections = dict(model.backbone.injections.named_children())
    rest = LABELLING if isinstance(model, SemanticSegmenter) else POST_PROCESSING
    collected: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        clock, within = _Clock(images.device), _Clock(images.device)
        with torch.inference_mode(), autocast:
            begin = clock.now()
            with clock.watching(dict(model.named_children())), within.watching(injections):
                raw = model(images, sizes)
            forward = clock.now() - begin
            if isinstance(model, Classifier):  # it calls a method of its backbone, not the module
                backbone = forward - sum(clock.seconds.values())
                clock.seconds = {"backbone": backbone, **clock.seconds}
            begin = clock.now()
            # Some heads go on after the proposals; what they compute there is the head's work.
            with clock.watching(dict(model.head.named_modules(prefix="head"))):
                model.decode(raw, sizes)
            whole = clock.now() - begin
        inside = sum(value for name, value in clock.seconds.items() if name.startswith("head."))
        parts = _split(clock.seconds, sum(within.seconds.values(), 0.0))
        for name, seconds in (parts | {rest: whole - inside}).items():
            collected[name].append(seconds)
    return {name: median(figures) for name, figures in collected.items()}


def _split(seconds: dict[str, float], of_injection: float) -> dict[str, float]:
    """Give the injection its own line behind the rest of the backbone."""
    if not of_injection:
        return seconds
    parts = {}
    for name, value in seconds.items():
        parts[name] = value - of_injection if name == "backbone" else value
        if name == "backbone":
            parts[INJECTION] = of_injection
    return parts


class _Clock:
    """Adds up the seconds of modules by name, waiting for the device at both ends.

    Args:
        device: Where they compute.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._depth = 0
        self._begin = 0.0
        self.seconds: dict[str, float] = {}

    def now(self) -> float:
        """Return the time when all work that was given to the device is done."""
        if self._device.type != "cpu":
            torch.accelerator.synchronize(self._device)
        return time.perf_counter()

    @contextmanager
    def watching(self, parts: dict[str, nn.Module]) -> Iterator[None]:
        """Count the time that these modules take meanwhile; of nested ones the outermost.

        Args:
            parts: Modules by name; those that do nothing are left out.

        Yields:
            Nothing.
        """

        def begin(*_: object) -> None:
            if self._depth == 0:
                self._begin = self.now()
            self._depth += 1

        def end(name: str) -> None:
            self._depth -= 1
            if self._depth == 0:
                self.seconds[name] = self.seconds.get(name, 0.0) + self.now() - self._begin

        hooks = []
        for name, part in parts.items():
            if not isinstance(part, nn.Identity):
                hooks.append(part.register_forward_pre_hook(begin))
                hooks.append(part.register_forward_hook(lambda *_, name=name: end(name)))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
