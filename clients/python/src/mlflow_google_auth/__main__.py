# SPDX-License-Identifier: Apache-2.0
"""mlflow-google-auth URL: print the access control of a server, the account of the token, and the server's response."""

from __future__ import annotations

import argparse
import sys

import requests

from mlflow_google_auth import guard
from mlflow_google_auth.broker import BROKER
from mlflow_google_auth.errors import AuthError, words
from mlflow_google_auth.requests_auth import ROLE, refused

GUARDS = {guard.IAP: "Identity-Aware Proxy", guard.IAM: "Cloud Run's invoker check"}


def main(arguments: list[str] | None = None) -> int:
    """Return 0 if the server accepts the token, 1 if it rejects it or if no credentials are available."""
    parser = argparse.ArgumentParser(prog="mlflow-google-auth", description=__doc__.partition(": ")[2].capitalize())
    parser.add_argument("url", help="address of the MLflow server")
    parser.add_argument(
        "--token",
        action="store_true",
        help="print only the token, for MLFLOW_TRACKING_TOKEN or curl; the token is secret",
    )
    options = parser.parse_args(arguments)
    try:
        found = BROKER.credential(options.url)
        if options.token:
            return _print_token(options.url, found.value if found else "")
        if found is None:
            print(f"{options.url} needs no token of Google, or does not respond.")
            return 0
        print(f"access       {GUARDS[found.guard]}")
        print(f"token        {BROKER.plan(options.url)}")
        print(f"account      {found.email}")
        answer = guard.ask(options.url, 120, found.value)
    except (AuthError, requests.RequestException) as error:
        print(f"mlflow-google-auth: {words(error)}", file=sys.stderr)
        return 1
    print(f"response     {answer.status_code} {answer.reason or ''}".rstrip())
    if refused(answer) or guard.recognize(answer).kind != guard.NONE:
        advice = f"The account needs {ROLE[found.guard]} on the service; a new role takes effect after minutes."
        print(f"mlflow-google-auth: the server rejects {found.email}. {advice}", file=sys.stderr)
        return 1
    return 0


def _print_token(url: str, token: str) -> int:
    if not token:
        print(f"mlflow-google-auth: {url} needs no token of Google, or does not respond.", file=sys.stderr)
        return 1
    print(token)
    return 0


if __name__ == "__main__":
    sys.exit(main())
