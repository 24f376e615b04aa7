"""Ctrl-C and SIGTERM: noted at once, acted upon where the run can be saved.

The first signal lets the current step finish; a second one stops at once, without saving.
"""

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
    """Takes over SIGINT and SIGTERM while it is entered.

    Args:
        say: Is told that the run is about to stop.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.received = 0
        self.is_training = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "SignalWatch":
        self._previous = {number: signal.getsignal(number) for number in self.SIGNALS}
        self.install()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            _set_handler(number, handler)

    def install(self) -> None:
        """Set the handlers; Lightning sets its own when it starts, so this is called again."""
        for number in self.SIGNALS:
            _set_handler(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del number, frame
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
