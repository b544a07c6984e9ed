# SPDX-License-Identifier: Apache-2.0
"""A token and its remaining lifetime, independent of a wrong clock."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass, field

from mlflow_google_auth.errors import AuthError

# A token is renewed when a fifth of its lifetime is left, at most five minutes. The last twentieth, at most ten s, is
# reserved for the transfer of a request. A token of an hour is renewed after 55 minutes, one of 30 s after 24 s.
MARGIN, MARGIN_SHARE = 300.0, 0.2
TRAVEL, TRAVEL_SHARE = 10.0, 0.05


@dataclass(frozen=True)
class Token:
    """:param value: the token; never printed. :param lifetime: seconds of validity when the token was received."""

    value: str = field(repr=False)
    lifetime: float
    _wall: float = field(default_factory=lambda: time.time(), repr=False)
    _ticks: float = field(default_factory=lambda: time.monotonic(), repr=False)

    @classmethod
    def of(cls, value: str) -> Token:
        """Return a token that was created or, by the metadata server, cached.

        :raises AuthError: if the value is not a JWT.
        """
        try:
            part = value.split(".")[1]
            claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
            whole, left = float(claims["exp"] - claims["iat"]), float(claims["exp"] - time.time())
        except (IndexError, ValueError, KeyError, TypeError) as error:
            raise AuthError("Google's response is not a JSON Web Token with its times of issue and expiry.") from error
        # A new token cannot be expired or valid for more than its lifetime: the local clock is wrong.
        return cls(value, whole if left <= 0 or left > whole else left)

    @property
    def age(self) -> float:
        """Return the seconds since it was received. The wall clock includes suspended time, and can be set back."""
        return max(time.monotonic() - self._ticks, time.time() - self._wall)

    @property
    def left(self) -> float:
        """Return the seconds until it expires."""
        return self.lifetime - self.age

    @property
    def fresh(self) -> bool:
        """Return whether it needs no renewal yet."""
        return self.left > min(MARGIN, self.lifetime * MARGIN_SHARE)

    @property
    def usable(self) -> bool:
        """Return whether a request that is sent now arrives before it expires."""
        return self.left > min(TRAVEL, self.lifetime * TRAVEL_SHARE)
