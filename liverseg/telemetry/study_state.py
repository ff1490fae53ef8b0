"""What the controller of a study does, or did last."""

from liverseg.race.records import facts
from liverseg.race.records.facts import Heartbeat
from liverseg.race.records.lease import HEARTBEAT_TIMEOUT_SECONDS

STATES = (
    "not started", "running", "not running", "ended", "stopped: by hand", "stopped: budget",
    "resumed", "being deleted",
)  # fmt: skip


def controller_state(heartbeat: Heartbeat | None, stopped: bool, ended: bool, now: float) -> str:
    """Return what the controller does at unix time `now`, or did last; one of STATES.

    "not running": it has ended, or written no heartbeat for a minute; "ended": there is a winner;
    "resumed": nobody has run the study since.
    """
    if heartbeat is None:
        return "not started"
    if heartbeat.state == facts.STOPPED_BY_HAND and not stopped:
        return "resumed"
    if heartbeat.state == "running" and ended:
        return "ended"
    if heartbeat.state == "running" and not is_alive(heartbeat, now):
        return "not running"
    return heartbeat.state


def is_alive(heartbeat: Heartbeat, now: float) -> bool:
    """Return whether a controller runs the study, as far as two machines' clocks can tell.

    Good enough to be shown; who may take the study over is decided by one clock alone.
    """
    return not heartbeat.released and now - heartbeat.time < HEARTBEAT_TIMEOUT_SECONDS
