import itertools
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from liverseg.core.race.halving import figures, schedule
from liverseg.errors import SettingsError, StudyError
from liverseg.settings import Settings, from_mapping
from liverseg.simulation.forecast import Load, forecast
from liverseg.steps.study import plan
from liverseg.storage.memory import MemoryStore
from tests.race.rehearsal import Rehearsal
from tests.steps.tiny_study import study_in

PAPER = Load(seconds_per_iteration=0.763)


@pytest.mark.slow
def test_it_has_the_papers_figures() -> None:
    values = plan.run(Settings(), 16, 4, PAPER).values
    assert json.loads(json.dumps(values)) == values | {"rungs": values["rungs"]}
    assert values["iterations"] == 240_000
    assert values["longest_chain_iterations"] == 100_000
    assert values["makespan_seconds"] == pytest.approx(76_300)
    assert values["gpu_seconds"] / 3600 == pytest.approx(50.9, abs=0.05)
    assert [r["seeds"] for r in values["rungs"]] == [16, 8, 4, 2, 1]
    assert values["rungs"][0] == {"iterations": 5_000, "seeds": 16}
    assert (values["unpruned_iterations"], values["saved_iterations"]) == (1_280_000, 1_040_000)
    four = values["forecast"][3]
    assert four["gpus"] == 4
    assert four["makespan_seconds"] == pytest.approx((21 * 60 + 11) * 60, rel=0.01)
    assert four["gpu_seconds"] == pytest.approx(values["gpu_seconds"])


@pytest.mark.parametrize("gpus", [1, 2, 4, 8, 16])
def test_without_faults_a_race_is_at_most_2_percent_above_the_lower_bound(gpus: int) -> None:
    bound = figures(schedule(16, 5_000, 80_000, 2), gpus, 0.763).makespan_seconds
    assert forecast(Settings(), gpus, PAPER).makespan_seconds <= 1.02 * bound


@pytest.mark.slow
def test_overhead_and_preemptions_cost_time_and_the_same_dice_fall_again() -> None:
    plain = forecast(Settings(), 4, PAPER)
    slow = forecast(Settings(), 4, Load(0.763, pod_overhead_seconds=120))
    # 31 jobs, each 2 minutes.
    assert slow.gpu_seconds - plain.gpu_seconds == pytest.approx(31 * 120)
    assert slow.makespan_seconds > plain.makespan_seconds
    preempted = Load(0.763, preemptions_per_gpu_hour=0.2)
    one, again, other = (forecast(Settings(), 4, preempted, draw) for draw in (0, 0, 1))
    assert one == again != other
    # About 10 times in 51 hours, and each time at most an interval's work.
    assert plain.gpu_seconds < one.gpu_seconds < plain.gpu_seconds + 40 * 500 * 0.763
    assert len(one.bars) > len(plain.bars) == 31


@pytest.mark.slow
def test_with_preemptions_the_median_of_several_races_is_shown_with_their_range() -> None:
    settings = from_mapping({"race": {"seeds": 4}, "training": {"validation_interval": 5000}})
    (row,) = plan.run(settings, 4, 1, Load(0.763, 0.0, 0.5)).values["forecast"]
    low, high = row["makespan_range_seconds"]
    assert low < row["makespan_seconds"] < high
    plain = plan.run(settings, 4, 1, PAPER).values["forecast"][0]
    assert plain["makespan_range_seconds"] == [plain["makespan_seconds"]] * 2
    assert low > plain["makespan_seconds"]


@pytest.mark.slow
def test_nodes_that_are_taken_away_all_the_time_cost_no_seed_its_race() -> None:
    # Three an hour; an interval between two checkpoints takes six minutes.
    assert forecast(Settings(), 16, Load(0.763, preemptions_per_gpu_hour=3.0)).gpus == 16


def test_no_gpu_runs_two_trainers_at_a_time() -> None:
    planned = forecast(Settings(), 4, Load(0.763, 60, 0.1))
    assert {bar.gpu for bar in planned.bars} == set(range(4))
    for gpu in range(4):
        mine = sorted((b.start, b.end) for b in planned.bars if b.gpu == gpu)
        assert all(end <= start + 1e-6 for (_, end), (start, _) in itertools.pairwise(mine))


def test_rates_are_taken_from_an_earlier_study() -> None:
    rehearsal = Rehearsal()
    rehearsal.run()
    load = plan.load_of(rehearsal.store, None)
    assert load == Load(1.0, 1.0, 0.0)


def test_a_study_that_never_validated_has_no_rates() -> None:
    store = MemoryStore()
    study = study_in(store)
    with pytest.raises(StudyError, match="no validation yet"):
        plan.load_of(store, study.id)


@pytest.mark.parametrize(("seeds", "gpus"), [(0, 4), (16, 0), (10_000, 4)])
def test_a_plan_without_seeds_or_gpus_is_refused(seeds: int, gpus: int) -> None:
    with pytest.raises(SettingsError, match="must be"):
        plan.run(Settings(), seeds, gpus, PAPER)


@pytest.mark.slow
def test_the_picture_has_a_bar_for_every_trainer(tmp_path: Path) -> None:
    planned = forecast(Settings(), 4, PAPER)
    plan.draw(planned, 16, tmp_path / "new" / "race.svg")
    text = (tmp_path / "new" / "race.svg").read_text(encoding="utf-8")
    picture = ElementTree.fromstring(text)  # noqa: S314 - our own text
    kinds = [element.tag.rpartition("}")[2] for element in picture.iter()]
    # The background, a legend entry a rung, and the bars.
    assert kinds.count("rect") == 1 + 5 + 31
    assert "Simulated race of 16 seeds on 4 GPUs" in text
    plan.draw(forecast(Settings(), 4, PAPER), 16, tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_text(encoding="utf-8") == text
