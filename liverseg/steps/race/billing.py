"""Who pays for a run, and what a GPU-hour costs: every controller records it."""

import re
from dataclasses import dataclass, field

from liverseg import __version__
from liverseg.errors import SettingsError
from liverseg.platform.current_user import current_user
from liverseg.race.decide.reconcile import Capacity
from liverseg.race.records.facts import ControllerStart
from liverseg.race.records.study import Study
from liverseg.storage import record
from liverseg.storage.port import ObjectStore

CURRENCY = "EUR"


@dataclass(frozen=True)
class Billing:
    """What a person says of the costs; nothing of it changes weights."""

    user: str = field(default_factory=current_user)
    price_per_gpu_hour: float | None = None
    """None: not known."""
    currency: str = CURRENCY

    @classmethod
    def chosen(cls, user: str, gpu_price: float, currency: str) -> "Billing":
        """Return what options and parameters say; "" is whoever runs this, a price of 0 none.

        Raises SettingsError.
        """
        if not re.fullmatch("[A-Z]{3}", currency):
            raise SettingsError(f"currency '{currency}' must be three capitals such as {CURRENCY}")
        if not 0 <= gpu_price < float("inf"):
            raise SettingsError(f"gpu price ({gpu_price}) must be at least 0")
        if len(user) > 100 or not user.isprintable():
            raise SettingsError(f"user {user!r} must be one line of up to 100 characters")
        return cls(user or current_user(), gpu_price or None, currency)

    def record(
        self, store: ObjectStore, study: Study, capacity: Capacity, generation: int, now: float
    ) -> None:
        """Write the fact of a controller that holds the lease of this generation."""
        start = ControllerStart(
            generation=generation,
            user=self.user,
            gpus=capacity.gpus,
            max_gpu_hours=capacity.max_gpu_hours,
            price_per_gpu_hour=self.price_per_gpu_hour,
            currency=self.currency,
            version=__version__,
            started=now,
        )
        record.write_new(store, start.key(study.id), start.to_mapping())
