"""The race on real pods: the same winner, to the bit, as with processes of one machine."""

from collections.abc import Callable

from tests.cluster.cluster import GPUS, SIXTEEN, Race


def test_sixteen_seeds_race_on_four_gpus_to_the_winner_of_the_process_executor(
    race_of: Callable[..., Race], sixteen: tuple[list[list[int]], str]
):
    race = race_of(SIXTEEN)
    race.start()
    status = race.finish()
    assert [len(rung["seeds"]) for rung in status["rungs"]] == [16, 8, 4, 2, 1]
    race.check(sixteen)
    assert race.attempts() == 31
    assert race.monitor.most_at_once == GPUS
    assert race.monitor.wrong == []
    assert race.trainers() == []
