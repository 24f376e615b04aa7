"""The one kind of error that a user's input can cause."""


class ZigguratError(ValueError):
    """Says in one sentence what is wrong, what was got, what was expected and what to do.

    The command line prints the sentence and exits with 1; every other exception is a defect of
    ziggurat and keeps its traceback.
    """
