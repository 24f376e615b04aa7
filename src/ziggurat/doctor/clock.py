"""How much time the checks have, and what happens when it is up."""

import time


class OutOfTimeError(Exception):
    """A check could not be finished in its time; the message says how far it came."""


class Clock:
    """A time that runs down.

    Args:
        seconds: How long.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._begin = time.monotonic()

    @property
    def passed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._begin

    @property
    def left(self) -> float:
        """Seconds that are left, at least 0."""
        return max(0.0, self.seconds - self.passed)

    def part(self, share: float) -> "Clock":
        """Return a clock with a share of the whole time, at most what is left.

        Args:
            share: Of the whole time, 0 to 1.
        """
        return Clock(min(share * self.seconds, self.left))

    def require(self, progress: str) -> None:
        """Raise when the time is up.

        Args:
            progress: How far the work has come.

        Raises:
            OutOfTimeError: If so.
        """
        if self.left <= 0:
            raise OutOfTimeError(progress)
