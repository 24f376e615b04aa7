"""Feature maps to raw output, its loss and its decoding."""
