"""Keys that a catalog gives for the files of one table (vended credentials), renewed in time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from seeknal_iceberg.connection.storage.access import Access, Offer, Properties, decide

#: Seconds before their end at which keys are asked for again, at most a third of their life.
_MARGIN = 300.0
#: Keys that are at most this many seconds old are not requested again because they are refused.
_JUST = 1.0


class VendedKeys:
    """The current access to the files of a table.

    Args:
        profile: the connection's properties.
        catalog: what the catalog's configuration says of the storage.
        offer: what it offers for the table.
        renew: asks the catalog for another offer; None if it cannot be asked.
    """

    def __init__(
        self,
        profile: Properties,
        catalog: Properties,
        offer: Offer,
        renew: Callable[[], Offer] | None = None,
    ) -> None:
        self._profile, self._catalog = profile, catalog
        self._offer, self._renew = offer, renew
        self._lock = threading.Lock()
        self._taken = time.time()
        self._number = 0

    def at(self, location: str) -> tuple[Access, int]:
        """Return the access to a location, and the number of the offer that it is from.

        Raises whatever asking the catalog raises, where the keys are no longer valid.
        """
        with self._lock:
            access = self._access(location)
            if self._renew is None or access.expires is None:
                return access, self._number
            life = access.expires - self._taken
            now = time.time()
            # Clocks may differ: keys that seem to have expired when they
            # arrive are used until they are refused.
            if life > 0 and now >= access.expires - min(_MARGIN, life / 3):
                try:
                    self._take(self._renew())
                except Exception:
                    if now >= access.expires:
                        raise
                access = self._access(location)
            return access, self._number

    def renewed_since(self, number: int) -> bool:
        """Request other keys after those of an offer were refused; return whether there are any."""
        with self._lock:
            if number != self._number:
                return True  # another thread has asked
            if self._renew is None or time.time() - self._taken < _JUST:
                return False
            try:
                self._take(self._renew())
            except Exception:  # noqa: BLE001 - the refusal itself is what the user hears of
                return False
            return True

    def _access(self, location: str) -> Access:
        return decide(self._profile, self._catalog, self._offer, location)

    def _take(self, offer: Offer) -> None:
        self._offer = offer
        self._taken = time.time()
        self._number += 1
