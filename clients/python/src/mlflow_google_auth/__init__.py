# SPDX-License-Identifier: Apache-2.0
"""Lets MLflow's client into a server behind Google's Identity-Aware Proxy or Cloud Run's invoker check.

Installed, it works by itself: MLflow finds it by its entry points. For requests of your own:

    requests.get(f"{server}/version", auth=mlflow_google_auth.GoogleAuth(server))
    mlflow_google_auth.headers(server)      # {"Authorization": "Bearer ..."}, {} where nothing is needed
"""

from mlflow_google_auth.broker import BROKER
from mlflow_google_auth.errors import AuthError
from mlflow_google_auth.requests_auth import GoogleAuth

__all__ = ["AuthError", "GoogleAuth", "headers"]
__version__ = "0.1.0"


def headers(server: str) -> dict[str, str]:
    """What to add to a request to the server at this address, now: {} where it needs nothing of Google's.

    The value is secret and soon expires: ask again for each request. AuthError when there is no credential to be had.
    """
    found = BROKER.credential(server)
    return {"Authorization": f"Bearer {found.value}"} if found else {}
