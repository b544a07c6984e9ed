# SPDX-License-Identifier: Apache-2.0
"""How fast time goes: real durations, real durations divided by a factor, or none."""

from __future__ import annotations

import time

from gcp_sandbox.config import ConfigError

# Seconds that a change takes on Google Cloud before it is seen everywhere. FACTS: an API just enabled answers
# SERVICE_DISABLED "for a while", a new service account is unknown to policies for up to a minute.
PROPAGATION = {"api_enabled": 20.0, "service_account": 30.0, "iam_policy": 10.0}


class Latency:
    """A profile: "instant", "real", or "scaled:N" (real durations divided by N)."""

    def __init__(self, profile: str = "instant") -> None:
        self.profile = profile
        self.factor = self._factor(profile)

    @staticmethod
    def _factor(profile: str) -> float:
        if profile == "instant":
            return 0.0
        if profile == "real":
            return 1.0
        kind, _, value = profile.partition(":")
        try:
            divisor = float(value)
        except ValueError:
            divisor = 0.0
        if kind != "scaled" or divisor <= 0:
            raise ConfigError(f"{profile!r} is not a latency profile; use instant, scaled:60 or real")
        return 1.0 / divisor

    def seconds(self, nominal: float) -> float:
        """What `nominal` seconds of real life last here."""
        return nominal * self.factor

    def sleep(self, nominal: float) -> None:
        """Wait for what `nominal` seconds of real life last here. Never inside a store transaction."""
        if delay := self.seconds(nominal):
            time.sleep(delay)

    def propagation(self, kind: str) -> float:
        """Seconds here until a change of `kind` (a key of PROPAGATION) is seen everywhere; 0 at instant."""
        return self.seconds(PROPAGATION[kind])
