"""What is measured, under which conditions, and what comes out of it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import median, quantiles
from typing import Any, Literal

from ziggurat.types import ImageSize

Dtype = Literal["fp32", "bf16"]
"""bf16: float32 weights under autocast, as in training."""
Variant = Literal["eager", "compiled", "fast"]
"""As written; through `torch.compile`; through `optimize_for_inference`."""


@dataclass(frozen=True)
class Contestant:
    """A model in one of its forms.

    Attributes:
        name: "p2t_small", or a model of another library: "timm:pvt_v2_b2".
        variant: How it is run.
    """

    name: str
    variant: Variant = "eager"

    def __str__(self) -> str:
        return self.name if self.variant == "eager" else f"{self.name} ({self.variant})"


@dataclass(frozen=True)
class Setting:
    """The step that every contestant of a comparison takes.

    Attributes:
        dtype: Precision of products and convolutions.
        batch: Images a step.
        image_size: Height and width in pixels.
        is_training: Forward, backward and AdamW, or forward alone.
    """

    dtype: Dtype
    batch: int
    image_size: ImageSize
    is_training: bool = False

    def __str__(self) -> str:
        work = "training step" if self.is_training else "inference"
        height, width = self.image_size
        return f"{work}, {self.dtype}, batch {self.batch}, {height}x{width}"


@dataclass(frozen=True)
class Result:
    """One contestant in one setting; what was not measured is None or empty.

    Attributes:
        contestant: Who.
        setting: What it did.
        parameters: Number of parameters.
        flops: Floating-point operations of one step in products and convolutions.
        turns: Seconds a step, one figure a round.
        peak: FLOP/s of a large matrix product, timed in the same rounds.
        preparation: Seconds of the first two steps, compiling included.
        memory: Bytes that building the model and stepping took at most at one time.
        predicted: Bytes that its Feature Pyramid Transformer was said to take; None without one.
        failure: Why there are no figures, or no memory.
        parts: Seconds of each part of a prediction, the median over the rounds; of our models as
            written only.
    """

    contestant: Contestant
    setting: Setting
    parameters: int | None = None
    flops: int | None = None
    turns: tuple[float, ...] = ()
    peak: float | None = None
    preparation: float | None = None
    memory: int | None = None
    predicted: int | None = None
    failure: str | None = None
    parts: dict[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float | None:
        """Seconds a step, the median over the rounds."""
        return median(self.turns) if self.turns else None

    @property
    def spread(self) -> float | None:
        """Half the distance between the quartiles of the rounds, as a share of the median."""
        if len(self.turns) < 2:
            return None
        lower, middle, upper = quantiles(self.turns, n=4, method="inclusive")
        return (upper - lower) / 2 / middle

    @property
    def images_per_second(self) -> float | None:
        """Images a second, by the median."""
        return None if self.seconds is None else self.setting.batch / self.seconds

    @property
    def flops_per_second(self) -> float | None:
        """Achieved FLOP/s, by the median."""
        if self.seconds is None or self.flops is None:
            return None
        return self.flops / self.seconds

    @property
    def share_of_peak(self) -> float | None:
        """Achieved FLOP/s as a share of the peak."""
        if self.flops_per_second is None or self.peak is None:
            return None
        return self.flops_per_second / self.peak

    def speed_against(self, reference: "Result") -> float | None:
        """How many times as fast as the reference: the median of the rounds' ratios.

        Both took their turns in the same rounds, so what slows the machine for a while slows both.
        """
        if not self.turns or len(self.turns) != len(reference.turns):
            return None
        return median(theirs / own for own, theirs in zip(self.turns, reference.turns, strict=True))


@dataclass(frozen=True)
class Benchmark:
    """All results of a run, and what it ran on.

    Attributes:
        conditions: Machine, libraries, threads and allocator, by name.
        rounds: Turns of each contestant in each setting.
        results: Setting by setting, contestants in the order of their turns.
        against: Names that the others are compared with.
    """

    conditions: dict[str, str]
    rounds: int
    results: tuple[Result, ...]
    against: tuple[str, ...] = ()

    @property
    def settings(self) -> list[Setting]:
        """The settings in their order."""
        return list(dict.fromkeys(result.setting for result in self.results))

    def of(self, setting: Setting) -> list[Result]:
        """Return the results of one setting."""
        return [result for result in self.results if result.setting == setting]

    def reference(self, name: str, result: Result) -> Result:
        """Return what a result is compared with: the same variant of `name`, else it as written."""
        rivals = {
            rival.contestant: rival
            for rival in self.of(result.setting)
            if rival.contestant.name == name
        }
        as_written = Contestant(name)
        return (
            rivals.get(replace(as_written, variant=result.contestant.variant)) or rivals[as_written]
        )

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        return {
            "conditions": self.conditions,
            "rounds": self.rounds,
            "against": list(self.against),
            "results": [self._entry(result) for result in self.results],
        }

    def _entry(self, result: Result) -> dict[str, Any]:
        return {
            **asdict(result.contestant),
            **asdict(result.setting),
            "parameters": result.parameters,
            "flops": result.flops,
            "seconds_per_step": list(result.turns),
            "images_per_second": result.images_per_second,
            "spread": result.spread,
            "flops_per_second": result.flops_per_second,
            "peak_flops_per_second": result.peak,
            "share_of_peak": result.share_of_peak,
            "preparation_seconds": result.preparation,
            "peak_memory_bytes": result.memory,
            "predicted_transformer_bytes": result.predicted,
            "seconds_of_parts": result.parts,
            "speed_against": {
                name: result.speed_against(self.reference(name, result)) for name in self.against
            },
            "failure": result.failure,
        }


def only_failed(results: Sequence[Result]) -> bool:
    """Whether not a single result has figures."""
    return all(result.failure is not None and not result.turns for result in results)
