"""What a race would cost, before anybody spends anything."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from liverseg.core.race.halving import figures, schedule
from liverseg.errors import StudyError
from liverseg.race.records.study import load_study
from liverseg.settings import Settings, from_mapping
from liverseg.simulation.forecast import Forecast, Load, calibrated, forecast
from liverseg.steps.study.study_choice import latest_study
from liverseg.storage.files import write_files
from liverseg.storage.port import ObjectStore

# Races for a forecast in which chance has a part.
DRAWS = 9
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Planned:
    """`values` is ready for JSON; `race` is the simulated one on the GPUs that were asked for."""

    values: dict[str, Any]
    race: Forecast


def run(
    settings: Settings,
    seeds: int,
    gpus: int,
    load: Load,
    price: float = 0.0,
    progress: Progress = lambda what, done, total: None,
) -> Planned:
    """Return what a race of `seeds` would cost on 1 to `gpus` GPUs.

    Keys: `iterations`, `gpu_seconds`, `makespan_seconds` (each rung waiting for its last seed, on
    `gpus` GPUs, without overhead), `longest_chain_iterations`; `rungs` with `iterations` and
    `seeds`; `unpruned_iterations` (all seeds to the end) and `saved_iterations`; `load`; and
    `forecast`, a row for every number of GPUs: `gpus`, `lower_bound_seconds`, and of the simulated
    race `makespan_seconds`, `makespan_range_seconds`, `gpu_seconds` and `cost`. Where nodes are
    taken away it is the middle one of nine races, and the range is that of all.

    Raises SettingsError for settings or a load that no race could have.
    """
    chosen = from_mapping({"race": asdict(replace(settings.race, seeds=seeds))}, settings)
    race = chosen.race
    rungs = schedule(race.seeds, race.minimum_iterations, race.maximum_iterations, race.eta)
    pace = load.seconds_per_iteration
    bound = figures(rungs, gpus, pace)
    races = []
    for count in range(1, gpus + 1):
        progress("simulate", count - 1, gpus)
        draws = range(DRAWS if load.preemptions_per_gpu_hour else 1)
        drawn = [forecast(chosen, count, load, draw) for draw in draws]
        races.append(sorted(drawn, key=lambda race: race.makespan_seconds))
    progress("simulate", gpus, gpus)
    unpruned = race.seeds * race.maximum_iterations
    values = asdict(bound) | {
        "rungs": [{"iterations": r.iterations, "seeds": r.size} for r in rungs],
        "unpruned_iterations": unpruned,
        "saved_iterations": unpruned - bound.iterations,
        "load": asdict(load),
        "forecast": [
            {
                "gpus": forecast[0].gpus,
                "lower_bound_seconds": figures(rungs, forecast[0].gpus, pace).makespan_seconds,
                "makespan_seconds": _middle(forecast).makespan_seconds,
                "makespan_range_seconds": [r.makespan_seconds for r in (forecast[0], forecast[-1])],
                "gpu_seconds": _middle(forecast).gpu_seconds,
                "cost": _middle(forecast).gpu_seconds / 3600 * price,
            }
            for forecast in races
        ],
    }
    return Planned(values, _middle(races[-1]))


def _middle(forecasts: list[Forecast]) -> Forecast:
    return forecasts[len(forecasts) // 2]


def load_of(store: ObjectStore, study: str | None) -> Load:
    """Return the load of a study that was run in this store (default: the newest)."""
    loaded = load_study(store, study or latest_study(store))
    forecast = calibrated(store, loaded)
    if forecast is None:
        raise StudyError(f"study {loaded.id} has no validation yet to take rates from")
    return forecast


def draw(forecast: Forecast, seeds: int, out: Path) -> None:
    """Write the simulated race as an SVG picture."""
    from liverseg.reporting.gantt import gantt

    title = f"Simulated race of {seeds} seeds on {forecast.gpus} GPUs"
    write_files({out: gantt(forecast.bars, title).encode()})
