# SPDX-License-Identifier: Apache-2.0
"""Authenticate MLflow's client to a server behind Google's Identity-Aware Proxy or Cloud Run's invoker check.

MLflow loads the package through its entry points. For other requests:

    requests.get(f"{server}/version", auth=mlflow_google_auth.GoogleAuth(server))
    mlflow_google_auth.headers(server)      # {"Authorization": "Bearer ..."}, {} if the server needs no token
"""

from mlflow_google_auth.broker import BROKER
from mlflow_google_auth.errors import AuthError
from mlflow_google_auth.requests_auth import GoogleAuth

__all__ = ["AuthError", "GoogleAuth", "headers"]
__version__ = "0.1.0"


def headers(server: str) -> dict[str, str]:
    """Return the headers for a request to the server at this address; {} if the server needs no token.

    The value is secret and expires: call this function for each request.

    :raises AuthError: if no credentials are available.
    """
    found = BROKER.credential(server)
    return {"Authorization": f"Bearer {found.value}"} if found else {}
