import pytest

from tests import crash_sweep


# Every point: `make crash-sweep`.
@pytest.mark.slow
@pytest.mark.parametrize("point", crash_sweep.points("simulated", 100), ids=str)
def test_a_simulated_race_survives_a_crash(point: crash_sweep.Point) -> None:
    assert crash_sweep.problem("simulated", point) is None


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_a_real_race_survives_a_crash(part: int) -> None:
    chosen = crash_sweep.points("real", 4)[part]
    assert crash_sweep.problem("real", chosen) is None
