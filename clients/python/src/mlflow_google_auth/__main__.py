# SPDX-License-Identifier: Apache-2.0
"""mlflow-google-auth URL: say what a server asks for, whose name is in the token, and whether it lets that one in."""

from __future__ import annotations

import argparse
import sys

import requests

from mlflow_google_auth import guard
from mlflow_google_auth.broker import BROKER
from mlflow_google_auth.errors import AuthError
from mlflow_google_auth.requests_auth import ROLE, refused

GUARDS = {guard.IAP: "Identity-Aware Proxy", guard.IAM: "Cloud Run's invoker check"}


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 when the server lets us in, 1 when it does not or there is no credential."""
    parser = argparse.ArgumentParser(prog="mlflow-google-auth", description=__doc__.partition(": ")[2].capitalize())
    parser.add_argument("url", help="address of the MLflow server")
    parser.add_argument(
        "--token", action="store_true", help="print the token alone, for MLFLOW_TRACKING_TOKEN or curl; it is secret"
    )
    options = parser.parse_args(arguments)
    try:
        found = BROKER.credential(options.url)
        if options.token:
            return _print_token(options.url, found.value if found else "")
        if found is None:
            print(f"{options.url} asks for nothing of Google's, or does not answer.")
            return 0
        print(f"in front     {GUARDS[found.guard]}")
        print(f"credential   {BROKER.plan(options.url)}")
        print(f"in the name  of {found.email}")
        answer = guard.ask(options.url, 120, found.value)
    except (AuthError, requests.RequestException) as error:
        print(f"mlflow-google-auth: {error}", file=sys.stderr)
        return 1
    print(f"answer       {answer.status_code} {answer.reason or ''}".rstrip())
    if refused(answer) or guard.recognize(answer).kind != guard.NONE:
        advice = f"It takes {ROLE[found.guard]} on the service; a grant takes effect after minutes."
        print(f"mlflow-google-auth: {found.email} is not let in. {advice}", file=sys.stderr)
        return 1
    return 0


def _print_token(url: str, token: str) -> int:
    if not token:
        print(f"mlflow-google-auth: {url} asks for nothing of Google's, or does not answer.", file=sys.stderr)
        return 1
    print(token)
    return 0


if __name__ == "__main__":
    sys.exit(main())
