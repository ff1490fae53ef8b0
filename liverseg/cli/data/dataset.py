"""Commands that bring data to where a cluster finds it, and back."""

from pathlib import Path

import click

from liverseg.cli.console import console, print_json, progress_bar
from liverseg.cli.data.findings import findings_json, show_findings
from liverseg.cli.options import chosen_settings, example, json_option, settings_options
from liverseg.errors import CaseError

url_argument = click.argument("url")


@click.group()
def dataset() -> None:
    """Data sets in a store: send a folder of cases to it, fetch one from it."""


@dataset.command(
    epilog=example("liverseg dataset push mine s3://liverseg/data", "liverseg pipeline submit ...")
)
@click.argument("folder", type=click.Path(path_type=Path))
@url_argument
@settings_options
@json_option
def push(
    folder: Path,
    url: str,
    preset_name: str,
    settings_text: str,
    assignments: tuple[str, ...],
    as_json: bool,
) -> None:
    """Check all of FOLDER and send it to URL, file:///folder or s3://bucket/prefix.

    Sends each file once, under the SHA-256 of its bytes; interrupted, the same command continues
    where it stopped, and whoever reads URL sees the data set before or after, never a part. URL is
    from then on what `--data` and the pipeline's `data` take; URL@VERSION, which is printed, stays
    this very data set when others are pushed. A split.json beside the cases goes with them. Folder
    names and pseudonyms are no part of a key. Exit code 3 if a case cannot be used; nothing is
    sent then. For S3 set AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
    """
    from liverseg.steps.data import transfer
    from liverseg.steps.outputs import check_apart
    from liverseg.storage.open import open_store

    settings, store = chosen_settings(preset_name, settings_text, assignments), open_store(url)
    check_apart(store, str(folder))
    with progress_bar() as report:
        pushed = transfer.push(folder, store, settings, report)
    if as_json:
        print_json(
            {
                "version": pushed.version or None,
                "url": f"{url}@{pushed.version}" if pushed.version else None,
                "cases": pushed.cases,
                "files": pushed.files,
                "sent": pushed.sent,
                "sent_bytes": pushed.sent_bytes,
            }
            | findings_json(pushed.findings, pushed.warnings)
        )
    else:
        show_findings(pushed.findings, pushed.warnings)
    if pushed.findings:
        raise CaseError(f"{len(pushed.findings)} problems in '{folder}'; nothing was sent")
    if not as_json:
        megabytes = pushed.sent_bytes / 1e6
        console.print(
            f"{pushed.cases} cases, {pushed.files} files; {pushed.sent} sent ({megabytes:.1f} MB), "
            f"{pushed.files - pushed.sent} in the store already or twice the same"
        )
        console.print(f"{url}@{pushed.version}", soft_wrap=True)


@dataset.command(epilog=example("liverseg dataset pull s3://liverseg/data mine"))
@url_argument
@click.argument("folder", type=click.Path(path_type=Path))
@json_option
def pull(url: str, folder: Path, as_json: bool) -> None:
    """Fetch the data set at URL (or URL@VERSION) into FOLDER, each file compared with its SHA-256.

    Each case appears whole; interrupted, the same command continues with the next. A file of FOLDER
    with other bytes is an error before anything is fetched: nothing of yours is overwritten.
    """
    from liverseg.steps.data import transfer
    from liverseg.steps.outputs import Output, check_apart, check_outside
    from liverseg.storage.open import open_store

    address, _, version = url.partition("@")
    store = open_store(address)
    check_apart(store, str(folder))
    check_outside(store, [Output("FOLDER", folder)])
    whole = transfer.version_of(store, version)
    with progress_bar() as report:
        fetched, files = transfer.pull(store, folder, whole, progress=report)
    if as_json:
        print_json({"version": whole, "files": files, "fetched": fetched})
    else:
        console.print(f"{files} files in {folder}; {fetched} fetched", soft_wrap=True)
