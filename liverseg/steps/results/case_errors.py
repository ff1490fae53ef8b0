"""What a library raises at one case: an error of that case, told when the others are done."""

from collections.abc import Iterator
from contextlib import contextmanager

from liverseg.errors import CaseError, LiversegError, PlatformError, as_ours, reason


def as_error_of(name: str, error: Exception) -> LiversegError:
    """Return what a library raised at a case, as one of ours that begins with its name."""
    kind = PlatformError if isinstance(as_ours(error), PlatformError) else CaseError
    return kind(f"{name} cannot be used: {reason(error)}")


class CaseErrors:
    """Collects what single cases raise."""

    def __init__(self, done: str) -> None:
        """Begin; `done` is what becomes of a case, such as "predicted"."""
        self._done = done
        self._met: list[str] = []

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Note what a library raises at this case; errors of the store or the study are raised."""
        try:
            yield
        except Exception as error:
            if isinstance(error, LiversegError) and not isinstance(error, CaseError):
                raise
            self._met.append(f"{name}: {reason(error)}")

    def check(self) -> None:
        """Raise CaseError, with each case and its reason, if there was any."""
        if self._met:
            count = "1 case" if len(self._met) == 1 else f"{len(self._met)} cases"
            raise CaseError(f"{count} cannot be {self._done}: {'; '.join(self._met)}")
