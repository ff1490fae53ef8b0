from liverseg.platform.clock import Clock


def test_setting_the_machines_clock_moves_no_time_of_the_process() -> None:
    wall, monotonic = [1_000_000.0], [50.0]
    clock = Clock(wall=lambda: wall[0], monotonic=lambda: monotonic[0])
    assert clock() == 1_000_000.0
    wall[0] += 7200.0
    monotonic[0] += 3.0
    assert clock() == 1_000_003.0
    wall[0] -= 1e6
    assert clock() == 1_000_003.0


def test_a_clock_whose_offset_somebody_has_read_does_not_look_at_the_machines() -> None:
    clock = Clock(900_000.0, wall=lambda: 0.0, monotonic=lambda: 50.0)
    assert clock() == 900_050.0
