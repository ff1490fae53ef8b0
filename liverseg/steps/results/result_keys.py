"""Where what follows a race is stored, below the study's prefix."""

from liverseg.race.records.facts import study_prefix


def packed_curves_prefix(study: str) -> str:
    """Copies of the validations that the pages of decided rungs have read, a document per rung."""
    return study_prefix(study) + "packed-curves/"


def evaluation_key(study: str) -> str:
    """The test cases' figures."""
    return study_prefix(study) + "evaluation.json"


def disagreement_key(study: str) -> str:
    """Where the seeds of the third-last rung differ on the test cases, in numbers."""
    return study_prefix(study) + "disagreement.json"


def report_page_key(study: str) -> str:
    """The HTML report of the study."""
    return study_prefix(study) + "report.html"


def metrics_key(study: str) -> str:
    """What the study has cost, as OpenMetrics text."""
    return study_prefix(study) + "metrics.prom"


def publication_key(study: str, name: str) -> str:
    """A file that a paper takes from the report: a table or a figure."""
    return f"{study_prefix(study)}publication/{name}"
