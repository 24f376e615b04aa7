"""Whether a classifier also learns from another one."""

from dataclasses import dataclass
from typing import Literal

from ziggurat.config.checks import require

WEIGHTS_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class DistillationConfig:
    """A teacher, which stays as it is, and how much of its opinion is learned."""

    teacher: str | None = None
    """Network that teaches: one of timm as timm:NAME, a classifier of `ziggurat list`, or a weight
    file of ours (.safetensors); null for none."""
    weights: str | None = None
    """File with the weights of a teacher that is given by name; null takes the published ones."""
    kind: Literal["hard", "soft"] | None = None
    """Whether the class that the teacher finds most likely is learned, or all its probabilities;
    null for hard."""
    alpha: float | None = None
    """Share of the teacher in the loss; the labels have the rest; null for 0.5."""
    temperature: float | None = None
    """What logits are divided by before soft probabilities are taken; null for 1."""

    def __post_init__(self) -> None:
        if self.teacher is None:
            for name in ("weights", "kind", "alpha", "temperature"):
                value = getattr(self, name)
                expected = "null where distillation.teacher is not given"
                require(value is None, f"distillation.{name}", value, expected)
        require(
            self.teacher != "",
            "distillation.teacher",
            self.teacher,
            "timm:NAME, a name of `ziggurat list`, a .safetensors file or null",
        )
        require(
            self.weights is None or not self.is_file,
            "distillation.weights",
            self.weights,
            "null where distillation.teacher is a file itself",
        )
        alpha, temperature = self.alpha, self.temperature
        require(
            alpha is None or 0 < alpha <= 1, "distillation.alpha", alpha, "above 0 and at most 1"
        )
        require(
            temperature is None or (self.kind == "soft" and temperature > 0),
            "distillation.temperature",
            temperature,
            "above 0 where distillation.kind is soft, else null",
        )

    @property
    def is_file(self) -> bool:
        """Whether the teacher is a weight file that says itself what it holds."""
        return self.teacher is not None and self.teacher.endswith(WEIGHTS_SUFFIX)
