# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ask a deployed server at the address that its users use: whether it answers under the access that it must have."""

from __future__ import annotations

import base64
import json
import time
from urllib.parse import urlsplit

from ansible_collections.mlplatform.gcp.plugins.module_utils import _errors, _verbs
from ansible_collections.mlplatform.gcp.plugins.module_utils._secrets import read_typed

VERSION = "/version"
# A call of the API. MLflow's own login leaves some pages public, the version among them.
API = "/api/2.0/mlflow/experiments/get?experiment_id=0"
_REDIRECTS = (302, 303, 307)
_REJECTED = (401, 403)
_TOKEN_SECONDS = 3000
_HINT = (
    "A new policy takes effect after minutes: run the playbook again, which asks again. If that does not help, read"
    " the logs of the server, and what else answers at its address."
)


class Server:
    """A server, and the access that it must have.

    task            the task that asks
    url             its address, with the path that it serves everything below
    access          ``iap``, ``iam`` or ``password``
    client_account  service account that has access
    login           names of the secrets with the user name and the password, for ``password``
    version         MLflow's version that must answer; empty for any
    """

    def __init__(self, task, *, url, access, client_account, login, version):
        self.task, self.url, self.access = task, url, access
        self.client_account, self.login, self.version = client_account, login, version
        self._credentials, self._fault = None, ""

    def expect(self, *, thorough, certain):
        """Wait until the server answers as it must. Return what has answered, as text for a report.

        :param thorough: also with the credentials of a client. Otherwise one request.
        :param certain: whether the caller is known to be allowed to act as the client account.
        Errors: :class:`GcpError` with the last answer.
        """
        seen = []

        def poll():
            fault = self._without_credentials()
            if not fault and thorough:
                fault = self._as_client(certain, seen)
            return None, fault

        try:
            self.task.waiter.until(poll, what=self.url)
        except _errors.OperationTimeout as error:
            raise _errors.GcpError(
                f"The deployed server does not answer at {self.url}. The last answer: {self._fault}.", _HINT
            ) from error
        return (seen or [_ANSWERED[self.access]])[-1]

    @property
    def _origin(self):
        """Return the address without a path. Tokens are for the whole server."""
        return "{0.scheme}://{0.netloc}".format(urlsplit(self.url))

    def _failed(self, fault):
        """Return why an answer is wrong, and keep it for the error."""
        self._fault = fault
        return fault

    def _get(self, path, headers=None):
        """Return (response, why there is none)."""
        try:
            return self.task.client.visit(self.url + path, headers), ""
        except _errors.ConnectionFailed as error:
            return None, error.message

    def _without_credentials(self):
        """Return why the answer to a request without credentials is wrong, or an empty string."""
        answer, fault = self._get(API)
        if answer is None:
            return self._failed(fault)
        elsewhere = urlsplit(answer.headers.get("Location") or "").netloc not in ("", urlsplit(self.url).netloc)
        rejected = answer.status_code in _REJECTED or (
            self.access == "iap" and answer.status_code in _REDIRECTS and elsewhere
        )
        if not rejected:
            return self._failed(f"{_status(answer)} to a request without credentials, which must be rejected")
        return ""

    def _as_client(self, certain, seen):
        """Return why the answer to a request with credentials is wrong, or an empty string."""
        try:
            if self._credentials is None:
                self._credentials = self._basic() if self.access == "password" else f"Bearer {self._token()}"
        except _errors.PermissionDenied as error:
            client = "the login of its secrets" if self.access == "password" else self.client_account
            if certain:
                return self._failed(f"no credentials of {client}: {error.text}")
            seen.append(f"{_ANSWERED[self.access]}; not asked as {client}, for which this user has no right")
            return ""
        fault = self._expect_version({"Authorization": self._credentials})
        if not fault:
            seen.append(f"MLflow {self.version}" if self.version else "the server")
        return fault

    def _expect_version(self, headers):
        answer, fault = self._get(VERSION, headers)
        if answer is None:
            return self._failed(fault)
        if self.version and answer.status_code == 200 and _plain(answer.text) == _plain(self.version):
            return ""
        if not self.version and answer.status_code not in _REJECTED and answer.status_code < 500:
            # An image of the user's own may have another version, or none.
            return "" if answer.status_code not in _REDIRECTS else self._failed(_status(answer))
        wanted = f"the version {self.version}" if self.version else "an answer"
        return self._failed(f"{_status(answer)} to a request with access for {wanted}")

    def _basic(self):
        name, password = (read_typed(self.task, secret) for secret in self.login)
        return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()

    def _token(self):
        """Return a token of the client account: https://cloud.google.com/iap/docs/authentication-howto."""
        names = {"account": self.client_account}
        if self.access == "iap":
            now = int(time.time())
            claims = dict.fromkeys(("iss", "sub", "email"), self.client_account)
            claims |= {"aud": f"{self._origin}/*", "iat": now, "exp": now + _TOKEN_SECONDS}
            method = "iamcredentials.projects.serviceAccounts.signJwt"
            return _verbs.call(self.task, method, {"payload": json.dumps(claims)}, **names)["signedJwt"]
        method = "iamcredentials.projects.serviceAccounts.generateIdToken"
        return _verbs.call(self.task, method, {"audience": self._origin, "includeEmail": True}, **names)["token"]


_ANSWERED = {
    "iap": "Identity-Aware Proxy, which rejects requests without credentials",
    "iam": "Cloud Run, which rejects requests without credentials",
    "password": "MLflow, which rejects requests without a password",
}


def _plain(version):
    """Return a version without the zeros that may be left out: ``3.10`` is ``3.10.0``."""
    return version.strip().removesuffix(".0")


def _status(answer):
    text = " ".join(answer.text.split())[:200]
    return f"{answer.status_code} {text}".strip()
