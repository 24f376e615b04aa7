"""Ctrl-C and SIGTERM: noted at once, acted upon where the run can be saved.

The first signal lets the current step finish; a second one stops at once, without saving. In a job
of SLURM, SIGUSR1 says that its time is about to end.
"""

import os
import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any


class Interrupted(KeyboardInterrupt):
    """The user or the system stopped the run.

    Args:
        message: What was saved and how to go on, in one sentence.
    """


class SignalWatch:
    """Takes over SIGINT and SIGTERM, and SIGUSR1 in a job of SLURM, while it is entered.

    Args:
        say: Is told that the run is about to stop.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.received = 0
        self.is_training = False
        self.wants_requeue = False
        self.numbers = [signal.SIGINT, signal.SIGTERM]
        if "SLURM_JOB_ID" in os.environ:
            self.numbers.append(signal.SIGUSR1)
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "SignalWatch":
        self._previous = {number: signal.getsignal(number) for number in self.numbers}
        self.install()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            if handler is not None:  # None: one that was not set from Python, and cannot be
                _set_handler(number, handler)

    def install(self) -> None:
        """Set the handlers; Lightning sets its own when it starts, so this is called again."""
        for number in self.numbers:
            _set_handler(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        if number == signal.SIGUSR1:
            self.wants_requeue = True
            if self.received == 0:
                self.received = 1
                self.say("the time of this job is about to end: stopping after this step")
            return
        self.received += 1
        if self.received > 1 or not self.is_training:
            raise KeyboardInterrupt
        self.say("stopping after this step; press Ctrl-C again to stop at once without saving")


def _set_handler(number: int, handler: Any) -> None:  # noqa: ANN401  as `signal` has it
    try:
        signal.signal(number, handler)
    except ValueError:
        # Signals belong to the main thread; in another one Ctrl-C is not ours to handle.
        return
