"""How what a check of data has found is shown."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from liverseg.cli.console import print_table

if TYPE_CHECKING:
    from liverseg.steps.data.scan import Finding


def findings_json(
    problems: "Sequence[Finding]", warnings: "Sequence[Finding]"
) -> dict[str, list[dict[str, str]]]:
    """Return both as plain values under `problems` and `warnings`."""
    return {
        f"{kind}s": [{"case": f.case, "file": f.file, kind: f.problem} for f in findings]
        for kind, findings in (("problem", problems), ("warning", warnings))
    }


def show_findings(problems: "Sequence[Finding]", warnings: "Sequence[Finding]") -> None:
    """Print a table of what is unlikely and one of what is wrong; nothing where there is none."""
    for title, head, findings in (
        ("Warnings", "warning", warnings),
        ("What is wrong", "problem", problems),
    ):
        if findings:
            rows = [(finding.case, finding.file, finding.problem) for finding in findings]
            print_table(title, ("case", "file", head), rows)
