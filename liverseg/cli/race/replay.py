"""The command that checks a race against its own facts."""

from collections.abc import Mapping

import click

from liverseg.cli.console import print_json
from liverseg.cli.options import example, json_option, store_option, study_option

# As the summary names them, in the order in which a race writes them.
_KINDS = {
    "validations": "validations",
    "reports": "reports",
    "failures": "failures",
    "promotions": "promotions",
    "decisions": "decisions",
    "results": "results",
    "models": "models",
    "checkpoints": "checkpoints",
    "collected": "reported checkpoints collected",
    "files": "files hashed",
}


@click.command(epilog=example("liverseg study replay --store build/store"))
@store_option
@study_option
@json_option
def replay(store: str, study: str | None, as_json: bool) -> None:
    """Derive every promotion and decision once more, and check every hash.

    Reads reports, failures, curves, checkpoints and models, writes nothing, and may be used while
    the race runs. Prints one line per difference: the key, what it says, what follows from the
    others; then the exit code is 5, otherwise 0.

    JSON keys: study; checked (how many of each kind); findings (key, problem).
    """
    from liverseg.errors import IntegrityError
    from liverseg.steps.study import replay as step
    from liverseg.storage.open import open_store

    replayed = step.run(open_store(store), study)
    if as_json:
        print_json(replayed)
    else:
        for finding in replayed["findings"]:
            click.echo(f"{finding['key']}: {finding['problem']}")
    if replayed["findings"]:
        number = len(replayed["findings"])
        raise IntegrityError(f"study {replayed['study']}: {number} differences; see above")
    if not as_json:
        click.echo(f"study {replayed['study']}: {_summary(replayed['checked'])}: nothing differs")


def _summary(checked: Mapping[str, int]) -> str:
    return ", ".join(f"{checked.get(kind, 0)} {name}" for kind, name in _KINDS.items())
