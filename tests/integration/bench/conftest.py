"""Results with figures that are easily computed in the head."""

import pytest

from ziggurat.bench.results import Benchmark, Contestant, Result, Setting


@pytest.fixture
def benchmark() -> Benchmark:
    """Two models, one compiled as well, and one that failed; batch 8."""
    setting = Setting("fp32", 8, (224, 320))
    return Benchmark(
        conditions={"device": "cpu"},
        rounds=3,
        results=(
            Result(
                Contestant("ours"),
                setting,
                parameters=1000,
                flops=400,
                turns=(2.0, 4.0, 3.0),
                peak=200.0,
                preparation=0.5,
                memory=3_000_000,
            ),
            Result(Contestant("ours", "compiled"), setting, turns=(1.0, 1.0, 1.0)),
            Result(Contestant("timm:theirs"), setting, turns=(4.0, 16.0, 6.0)),
            Result(Contestant("timm:broken"), setting, failure="RuntimeError: no"),
        ),
        against=("timm:theirs",),
    )
