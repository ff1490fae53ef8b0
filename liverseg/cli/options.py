"""Options that several commands share, and how settings are put together."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from liverseg.errors import SettingsError
from liverseg.settings import PRESETS, Settings, from_mapping, preset

Function = TypeVar("Function", bound=Callable[..., Any])


def example(*lines: str) -> str:
    """Return an epilog for a command's --help."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


data_option = click.option(
    "--data",
    required=True,
    help="Folder with one folder per case, or a URL that `liverseg dataset push` has printed.",
)
store_option = click.option(
    "--store",
    required=True,
    envvar="LIVERSEG_STORE",
    show_envvar=True,
    help="Where everything is kept: a folder, file:///folder or s3://bucket/prefix; for S3 set "
    "AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. This machine's locks and logs "
    "lie in STORE/.local, for S3 in ~/.cache/liverseg/work (or $XDG_CACHE_HOME/liverseg/work).",
)
study_option = click.option("--study", default=None, help="Study id [default: the newest].")
changed_study_option = click.option(
    "--study",
    default=None,
    help="Study id [default: the only one, or the only one with no winner].",
)
take_over_option = click.option(
    "--take-over",
    is_flag=True,
    help="Take the study from a controller that still holds it, instead of waiting up to ten "
    "minutes until it has ended; its trainers are adopted.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
split_option = click.option(
    "--split",
    help='JSON {"test": [case, ...], "validation": [...]}, file or URL; all others train '
    "[default: split.json beside the cases, else a rule on the patient that never moves a case "
    "when others are added].",
)


def gpus_option(default: int | None = 2) -> Callable[[Function], Function]:
    """Return --gpus; a value below 1 is refused with what to write instead."""
    return click.option(
        "--gpus",
        type=int,
        default=default,
        show_default=True,
        callback=_at_least_one,
        help="Trainers at a time: GPUs, or without a GPU cores, one trainer each.",
    )


def _at_least_one(_context: click.Context, _parameter: click.Parameter, value: int) -> int:
    if value < 1:
        raise click.BadParameter(f"must be at least 1, not {value}")
    return value


budget_option = click.option(
    "--max-gpu-hours",
    type=click.FloatRange(min=0, min_open=True),
    help="No trainer is started after this; a larger limit continues the race [default: no limit].",
)


def billing_options(function: Function) -> Function:
    """Add --user, --gpu-price and --currency."""
    for option in (
        click.option(
            "--currency", default="EUR", show_default=True, help="Of --gpu-price, as in ISO 4217."
        ),
        click.option(
            "--gpu-price",
            type=click.FloatRange(min=0),
            default=0.0,
            help="Price of a GPU-hour, for the metrics [default: not known].",
        ),
        click.option(
            "--user",
            default="",
            help="Who pays, as the metrics of GPU-hours name it [default: the login name; in a "
            "pod its namespace].",
        ),
    ):
        function = option(function)
    return function


def backend_options(function: Function) -> Function:
    """Add --executor, --trainer-image and --pods."""
    for option in (
        click.option(
            "--pods",
            default="{}",
            help="JSON with how trainers' pods look, such as "
            '{"namespace": "liverseg", "queue": "gpus", "cpu": "8", "memory": "32Gi"}.',
        ),
        click.option(
            "--trainer-image", default="", help="Image of the pods, such as NAME@sha256:DIGEST."
        ),
        click.option(
            "--executor",
            type=click.Choice(["auto", "process", "kubernetes"]),
            default="auto",
            show_default=True,
            help="Where trainers run; auto: as pods inside a cluster, else here.",
        ),
    ):
        function = option(function)
    return function


def label_option(kind: str, *spellings: str) -> Callable[[Function], Function]:
    """Return --lesion-label or --liver-label, which may be repeated, with further spellings."""
    return click.option(
        f"--{kind}-label",
        *spellings,
        f"{kind}_labels",
        type=click.IntRange(min=1),
        multiple=True,
        metavar="N",
        help=f"A label that is {kind} in files with several; may be repeated.",
    )


def settings_options(function: Function) -> Function:
    """Add --preset, --settings, --set and, short for two settings, --lesion-label, --liver-label.

    What the last two give is added to `assignments`; SettingsError where --set says otherwise.
    """

    @functools.wraps(function)
    def with_labels(
        *args: Any,
        assignments: tuple[str, ...],
        lesion_labels: tuple[int, ...],
        liver_labels: tuple[int, ...],
        **others: Any,
    ) -> Any:
        for kind, labels in (("lesion", lesion_labels), ("liver", liver_labels)):
            if labels:
                setting = f"data.{kind}_labels"
                _check_no_other(f"--{kind}-label", setting, labels, assignments)
                assignments = (*assignments, f"{setting}={sorted(set(labels))}")
        return function(*args, assignments=assignments, **others)

    decorated = cast(Function, with_labels)
    for option in (
        label_option("liver"),
        label_option("lesion"),
        click.option(
            "--set",
            "assignments",
            multiple=True,
            metavar="NAME=VALUE",
            help="One setting, such as race.seeds=8; may be repeated.",
        ),
        click.option(
            "--settings",
            "settings_text",
            default="{}",
            help='JSON, or a file with JSON, such as {"race": {"seeds": 8}}.',
        ),
        click.option(
            "--preset",
            "preset_name",
            default="paper",
            show_default=True,
            help=f"Network, schedule and patch that belong together: {', '.join(PRESETS)}.",
        ),
    ):
        decorated = option(decorated)
    return decorated


def _check_no_other(
    option: str, setting: str, labels: tuple[int, ...], assignments: tuple[str, ...]
) -> None:
    """Refuse other labels that --set gives to the setting for which an option is short."""
    for assignment in assignments:
        name, _, text = assignment.partition("=")
        other = _value(text)
        same = isinstance(other, list) and set(map(str, other)) == set(map(str, labels))
        if name == setting and not same:
            given = " ".join(f"{option} {label}" for label in labels)
            raise SettingsError(
                f"{given} and --set '{assignment}' choose different labels; give one of them"
            )


def overrides(settings_text: str, assignments: tuple[str, ...]) -> dict[str, Any]:
    """Return what --settings and --set say as one nested table; raises SettingsError."""
    text = settings_text
    if not is_json_object(text):
        try:
            text = Path(text).read_text(encoding="utf-8-sig")
        except OSError as error:
            raise SettingsError(f"settings '{settings_text}': {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise SettingsError(f"settings '{settings_text}' is not a text file") from error
    try:
        values: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise SettingsError(f"settings '{settings_text}' are not JSON: {error}") from error
    if not isinstance(values, dict):
        raise SettingsError(f"settings '{settings_text}' must be a JSON object, not {values!r}")
    if "preset" in values:
        raise SettingsError(f"settings '{settings_text}' cannot choose the preset; use --preset")
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        topic, dot, setting = name.partition(".")
        if not equals or not dot:
            raise SettingsError(f"--set '{assignment}': write TOPIC.NAME=VALUE")
        if not isinstance(values.setdefault(topic, {}), dict):
            raise SettingsError(f"setting '{topic}' must be a table, not {values[topic]!r}")
        values[topic][setting] = _value(value)
    return values


def is_json_object(settings_text: str) -> bool:
    """Return whether --settings is JSON itself; else it is a file."""
    return settings_text.lstrip().startswith("{")


def chosen_settings(preset_name: str, settings_text: str, assignments: tuple[str, ...]) -> Settings:
    """Return the preset with everything that overrides it; raises SettingsError."""
    return from_mapping(overrides(settings_text, assignments), preset(preset_name))


def _value(text: str) -> Any:
    """Return a JSON value, or the text itself where it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return text
