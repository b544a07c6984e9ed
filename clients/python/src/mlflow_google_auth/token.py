# SPDX-License-Identifier: Apache-2.0
"""A token and how long it can be used, whatever the clock of this machine says."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass, field

from mlflow_google_auth.errors import AuthError

# Renewed when a fifth of its life is left, at most five minutes; the last twentieth, at most ten seconds, is for the
# request to arrive in. A token of an hour is renewed after 55 minutes, one of 30 seconds after 24.
MARGIN, MARGIN_SHARE = 300.0, 0.2
TRAVEL, TRAVEL_SHARE = 10.0, 0.05


@dataclass(frozen=True)
class Token:
    """:param value: what is sent; never shown. :param lifetime: seconds that it had left when it arrived."""

    value: str = field(repr=False)
    lifetime: float
    _wall: float = field(default_factory=lambda: time.time(), repr=False)
    _ticks: float = field(default_factory=lambda: time.monotonic(), repr=False)

    @classmethod
    def of(cls, value: str) -> Token:
        """A JWT that has just been made or, by the metadata server, kept; AuthError when it is none."""
        try:
            part = value.split(".")[1]
            claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
            whole, left = float(claims["exp"] - claims["iat"]), float(claims["exp"] - time.time())
        except (IndexError, ValueError, KeyError, TypeError) as error:
            raise AuthError("Google's answer is not a JSON Web Token with the times of its life.") from error
        # Of a token that was handed out just now, neither can be: our own clock is wrong.
        return cls(value, whole if left <= 0 or left > whole else left)

    @property
    def age(self) -> float:
        """Seconds since it arrived. The wall clock counts the time that a laptop sleeps, and can be set back."""
        return max(time.monotonic() - self._ticks, time.time() - self._wall)

    @property
    def left(self) -> float:
        """Seconds until it expires."""
        return self.lifetime - self.age

    @property
    def fresh(self) -> bool:
        """Whether it need not be renewed yet."""
        return self.left > min(MARGIN, self.lifetime * MARGIN_SHARE)

    @property
    def usable(self) -> bool:
        """Whether a request that is sent now arrives in time."""
        return self.left > min(TRAVEL, self.lifetime * TRAVEL_SHARE)
