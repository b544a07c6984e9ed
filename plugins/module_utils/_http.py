# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one HTTP client: JSON requests to Google's APIs, with retries that are safe and bounded."""

from __future__ import annotations

import contextlib
import email.utils
import functools
import os
import platform
import random
import ssl
import time

from ansible_collections.mlplatform.gcp.plugins.module_utils import _errors, _redaction, _settings
from ansible_collections.mlplatform.gcp.plugins.module_utils._snapshot import Snapshot, Stale, is_read

try:
    import google.auth.exceptions
    import requests
    import urllib3.exceptions
    from google.auth.transport.requests import AuthorizedSession, Request
    from urllib3.util.ssl_ import create_urllib3_context

    Adapter, Session = requests.adapters.HTTPAdapter, requests.Session
    IMPORT_ERROR = None
except ImportError as missing:
    Adapter = Session = AuthorizedSession = object
    IMPORT_ERROR = missing

VERSION = "0.2.0"
USER_AGENT = f"mlplatform.gcp/{VERSION} (Ansible collection; Python {platform.python_version()})"

CONNECT_SECONDS = 15
READ_SECONDS = 90
# https://cloud.google.com/storage/docs/retry-strategy: exponential backoff with full jitter.
ATTEMPTS = 6
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 32.0
# No single request is worth more than this, whatever Retry-After asks for.
RETRY_SECONDS = 180
# How long a service may take to show what a request without an answer has made.
SETTLED_SECONDS = 10
# How long an API that was just enabled may go on to answer SERVICE_DISABLED.
ENABLED_SECONDS = 300


def token_request():
    """Return what google-auth sends a request for a token with."""
    tokens = _TokenSession()
    tokens.mount("https://", _SharedTls(max_retries=3))
    return Request(tokens)


class Clock:
    """Time, so that tests need none."""

    now = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)
    random = staticmethod(random.random)


class _SharedTls(Adapter):
    """Connections with TLS settings that are made once.

    To read a bundle of certificates takes up to 80 ms, for each connection as ``requests`` does it. Made in Ansible's
    parent process (see :func:`warm_up`), the settings serve all forks.
    """

    def build_connection_pool_key_attributes(self, request, verify, cert=None):
        host, pool = super().build_connection_pool_key_attributes(request, verify, cert)
        if verify:
            for name in ("ca_certs", "ca_cert_dir"):
                pool.pop(name, None)
            pool["ssl_context"] = _tls_context(verify if isinstance(verify, str) else requests.certs.where())
        return host, pool

    def cert_verify(self, conn, url, verify, cert):
        if conn.conn_kw.get("ssl_context") is None:
            super().cert_verify(conn, url, verify, cert)


@functools.lru_cache(maxsize=8)
def _tls_context(bundle):
    """TLS settings that trust the certificates of a file or folder."""
    context = create_urllib3_context()
    try:
        context.load_verify_locations(**{"capath" if os.path.isdir(bundle) else "cafile": bundle})
    except OSError as error:  # also for what is no certificate
        raise _errors.UserError(
            f"The certificates in {bundle} cannot be read: {_redaction.text(error)}",
            "Set REQUESTS_CA_BUNDLE to a file or a folder with certificates in PEM format.",
        ) from error
    return context


def warm_up():
    """Make what all connections need: called in Ansible's parent process, before it forks."""
    bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or requests.certs.where()
    # A bundle that cannot be read is an error of the first request.
    with contextlib.suppress(_errors.UserError):
        _tls_context(bundle)


class _Environment:
    """A session that reads the addresses of proxies from the environment without the white space around them."""

    def merge_environment_settings(self, url, proxies, stream, verify, cert):
        settings = super().merge_environment_settings(url, proxies, stream, verify, cert)
        return dict(settings, proxies=_settings.proxies(settings["proxies"]))


class _TokenSession(_Environment, Session):
    """Sends requests for tokens, and others that carry no credentials of Google's APIs."""


class _ApiSession(_Environment, AuthorizedSession):
    """Sends requests to APIs."""


def _session(credentials):
    """Return a session of google-auth. Its requests and those for tokens share the TLS settings."""
    session = _ApiSession(credentials, auth_request=token_request())
    session.mount("https://", _SharedTls())
    return session


class Client:
    """Requests as one identity.

    ``credentials`` are those of ``_credentials``; ``project`` is only named in messages. ``snapshot`` has answers that
    are not requested again, ``lock`` is taken before a change. A session is made at the first request that is sent.
    """

    def __init__(self, credentials, *, project="", session=None, clock=None, snapshot=None, attempts=ATTEMPTS):
        self.credentials = credentials
        self._project = project
        self._attempts = attempts
        self.snapshot = snapshot or Snapshot()
        self.lock = None
        self._changes = False
        if session is not None:
            self._session = self._visitor = session
        self.clock = clock or Clock()
        self._headers = {"User-Agent": USER_AGENT, "Accept": "application/json"}

    @functools.cached_property
    def _session(self):
        return _session(self.credentials)

    @functools.cached_property
    def _visitor(self):
        visitor = _TokenSession()
        visitor.mount("https://", _SharedTls())
        return visitor

    def visit(self, url, headers=None):
        """Send one GET to what is no API of Google, without the credentials of the task, and return the response.

        Redirects are not followed. Errors: :class:`ConnectionFailed` without a response, and :class:`UserError`.
        """
        return self._exchange(
            "GET",
            url,
            headers=headers,
            session=self._visitor,
            allow_redirects=False,
            auth=lambda request: request,  # else the user's .netrc replaces the header
        )

    def get(self, url, query=None, **options):
        return self.request("GET", url, query=query, **options)

    def post(self, url, body=None, query=None, **options):
        return self.request("POST", url, query=query, body={} if body is None else body, **options)

    def request(self, method, url, *, query=None, body=None, raw=False, affects="", locks=True, **options):
        """Send one request and return its JSON (``{}`` when empty), or the ``requests.Response`` with ``raw``.

        Data in the snapshot is not requested again. ``affects`` is the address of what a request changes, where that
        is not ``url``. Without ``locks`` the request takes no lock. The other options and the errors are those of
        :meth:`send`.
        """
        snapshot = self.snapshot
        if not is_read(method, url):
            affected = affects or url
            self.changing(affected, locks=locks)
            try:
                return self.send(method, url, query=query, body=body, raw=raw, **options)
            finally:
                # Policies name accounts, and they change with an account that is deleted.
                snapshot.forget_all() if method == "DELETE" else snapshot.forget(affected)
                self._notice(method, affected)
        if raw:
            return self.send(method, url, query=query, body=body, raw=raw, **options)
        kept = snapshot.find(method, url, query, body)
        if kept:
            exists, answer = kept
            if not exists:
                raise _errors.NotFound(f"{method} {url} answered 404", status=404, text="not found", url=url)
            return answer
        began = snapshot.begin()
        try:
            answer = self.send(method, url, query=query, body=body, **options)
        except _errors.NotFound:
            snapshot.add(method, url, query, body, None, began)
            raise
        snapshot.add(method, url, query, body, answer, began)
        self._notice(method, url)
        return answer

    def _notice(self, method, url):
        if self.lock is not None:
            self.lock.noticed(method, url)

    def changing(self, url, *, locks=True):
        """Prepare for a change of a resource: take the deployment's lock.

        Errors: :class:`Stale` where what the task has read may be out of date, :class:`Locked`.
        """
        # A task that has changed something goes on: what it changes is guarded by versions.
        if locks and self.lock is not None and self.lock.hold() and not self._changes:
            raise Stale
        self.snapshot.changing(url)
        self._changes = True

    def send(
        self,
        method,
        url,
        *,
        query=None,
        body=None,
        data=None,
        headers=None,
        safe=None,
        made=None,
        permission="",
        raw=False,
    ):
        """Send one request until it is answered, whatever is known already. It takes no lock.

        ``safe`` says that sending it twice does no harm; by default that is every method but POST. An unsafe request
        is sent again only when it certainly was not processed (no connection, or refused by a rate limit). Where its
        answer was lost, ``made()`` returns what it has made, in the form of an answer, or None; only after None it is
        sent again. A request that timed out is not, because the service may still process it.
        ``permission`` is named in the error when the service does not say what was missing.
        Errors: the types of ``_errors``. They are ``repeated`` where the answer to an earlier attempt was lost.
        """
        safe = method != "POST" if safe is None else safe
        clock, attempt, started, enabled_by, lost = self.clock, 0, self.clock.now(), None, False
        while True:
            attempt += 1
            pause = None
            try:
                response = self._exchange(method, url, params=query, json=body, data=data, headers=headers)
            except _errors.ConnectionFailed as error:
                failure, sent, again = error, error.sent, safe or not error.sent
            else:
                if response.status_code < 400:
                    return response if raw else _json(response)
                failure = self._failure(response, method, url, permission)
                pause = _retry_after(response)
                if isinstance(failure, _errors.ApiDisabled):
                    enabled_by = enabled_by or self._enabled_deadline(failure)
                    if clock.now() >= enabled_by:
                        raise failure
                    clock.sleep(5)
                    attempt = 0
                    continue
                again = failure.retryable and (safe or isinstance(failure, _errors.QuotaExceeded))
                sent = isinstance(failure, _errors.Unavailable)
            failure.repeated = lost
            looks = made is not None and sent and not again
            pause = max(pause or 0, clock.random() * min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (attempt - 1)))
            pause = max(pause, SETTLED_SECONDS) if looks else pause
            if not (again or looks) or attempt >= self._attempts or clock.now() + pause - started > RETRY_SECONDS:
                raise failure
            clock.sleep(pause)
            if looks:
                found = self._found(made, failure)
                if found is not None:
                    return found
            lost = lost or sent

    def _exchange(self, method, url, *, headers, session=None, **parts):
        """Send one request once, with the session of the task or another one, and return the response.

        Errors: :class:`ConnectionFailed` without a response, :class:`CredentialsError` without a token, and
        :class:`UserError` for what the libraries reject, such as an address.
        """
        try:
            return (session or self._session).request(
                method,
                url,
                headers=dict(self._headers, **(headers or {})),
                timeout=(CONNECT_SECONDS, READ_SECONDS),
                **parts,
            )
        except google.auth.exceptions.TransportError as error:
            raise self._lost(error, method, url, sent=False) from error
        except google.auth.exceptions.GoogleAuthError as error:
            words = _redaction.text(error.args[0] if error.args else error, self._secrets)
            raise _errors.CredentialsError(
                f"No access token: {words}", "Check that the credentials are valid and not expired."
            ) from error
        except ValueError as error:
            words = _redaction.text(_reason(error), self._secrets)
            raise _errors.UserError(f"{method} {_bare(url)} cannot be sent: {words}", _errors.NETWORK) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._lost(error, method, url, sent=not _never_sent(error)) from error

    @staticmethod
    def _found(made, failure):
        """Return what a request without an answer has made, or None when it can be sent again.

        Errors: the ``failure`` of the request where neither is certain.
        """
        try:
            found = made()
        except _errors.GcpError as error:
            if isinstance(error, _errors.AlreadyExists):
                raise
            raise failure from error
        if found is None and isinstance(failure, _errors.ConnectionFailed) and failure.stalled:
            raise failure
        return found

    @property
    def caller(self):
        """The e-mail address behind the credentials where it is known, for messages."""
        return getattr(self.credentials, "email", "")

    def _failure(self, response, method, url, permission):
        return _errors.from_response(
            response.status_code,
            _json(response),
            method=method,
            url=url,
            caller=self.caller,
            project=self._project,
            permission=permission,
        )

    @property
    def _secrets(self):
        return getattr(self.credentials, "secrets", ())

    def _lost(self, error, method, url, *, sent):
        """Return the error for a request without an answer. ``sent`` says that it may have been processed."""
        words = _redaction.text(_reason(error), self._secrets)
        hint = "The service may have processed it: run the task again, which reads what exists and continues. "
        failure = _errors.ConnectionFailed(
            f"{method} {_bare(url)}: {words}",
            hint * (sent and not is_read(method, url)) + _errors.NETWORK,
        )
        failure.sent, failure.stalled = sent, sent and isinstance(error, requests.exceptions.ReadTimeout)
        return failure

    def _enabled_deadline(self, failure):
        """Until when to wait for an API that is said to be disabled: not at all, unless it is in fact enabled."""
        now = self.clock.now()
        if failure.service == "serviceusage.googleapis.com" or not failure.consumer:
            return now
        url = f"https://serviceusage.googleapis.com/v1/projects/{failure.consumer}/services/{failure.service}"
        try:
            state = self.get(url).get("state")
        except _errors.GcpError:
            return now
        return now + ENABLED_SECONDS if state == "ENABLED" else now


def _bare(url):
    return url.split("?", 1)[0]


def _json(response):
    try:
        return response.json() if response.content else {}
    except ValueError:
        # Load balancers answer errors in HTML.
        return {}


def _never_sent(error):
    """Return whether a request that failed was certainly not processed: without a trusted connection or a tunnel.

    urllib3 reports a connection that dropped after the request was sent as an error of the proxy, too, so what counts
    is the error inside.
    """
    return isinstance(error, requests.exceptions.ConnectTimeout) or any(
        # NewConnectionError is a ConnectTimeoutError.
        isinstance(cause, (urllib3.exceptions.ConnectTimeoutError, ssl.SSLCertVerificationError))
        # The words of http.client for a proxy that refuses CONNECT.
        or (isinstance(cause, OSError) and str(cause).startswith("Tunnel connection failed"))
        for cause in _causes(error)
    )


def _causes(error):
    """Yield an error of requests, that of urllib3 which it wraps, that of the system which that wraps, and so on."""
    while isinstance(error, BaseException):
        yield error
        # MaxRetryError has a reason, ProxyError an original_error, and others keep it among their arguments.
        inner = getattr(error, "original_error", None) or getattr(error, "reason", None)
        error = inner if isinstance(inner, Exception) else _argument(error)


def _argument(error):
    return next((item for item in error.args if isinstance(item, Exception)), None)


def _reason(error):
    """Return the words and the type of the innermost error."""
    *_outer, reason = _causes(error)
    return f"{reason} ({type(reason).__name__})"


def _retry_after(response):
    """Seconds of a Retry-After header, which is a number or a date."""
    value = response.headers.get("Retry-After")
    if not value:
        return None
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
