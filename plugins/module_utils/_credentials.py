# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Credentials from a task's options.

The option names and environment variables are those of the google.cloud collection and of AWX's Google credential
type, so that what users have set already works here.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import time
import warnings

from ansible_collections.mlplatform.gcp.plugins.module_utils import _redaction, _settings, _shared
from ansible_collections.mlplatform.gcp.plugins.module_utils._errors import CredentialsError, UserError

try:
    import google.auth
    import google.auth.exceptions
    from google.auth import credentials, impersonated_credentials
    from google.oauth2 import credentials as oauth2_credentials
    from google.oauth2 import service_account

    Base = credentials.Credentials
    IMPORT_ERROR = None
except ImportError as missing:
    Base = object
    IMPORT_ERROR = missing

SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
# A token with less than this left is not handed to a task that may run for minutes (google-auth refreshes at 225 s).
_MARGIN = 300


class Credentials(Base):
    """Google credentials that first look for a token of theirs in the memory that Ansible's forks share.

    The credentials behind them are loaded only when a token is really needed. A service account's key signs its own
    token where it can (https://google.aip.dev/auth/4111), which needs no request; if a service rejects such a token,
    the next one comes from the token endpoint. Requests are authorised by this class alone, so google-auth's look-up
    of regional access boundaries, a request in each fork, does not happen.
    """

    def __init__(self, key, load, quota_project=None):
        super().__init__()
        # google-auth's base class sends it with every request.
        self._quota_project_id = quota_project
        self.key = key
        self._load = load
        self._source = None
        self.project = None
        # Keys, logins and tokens that must not be part of a result.
        self.secrets = set()

    @property
    def source(self):
        """The google-auth credentials behind these."""
        if self._source is None:
            self._source, self.project = self._load(self.secrets)
        return self._source

    @property
    def email(self):
        """Return the email address if it is known without a request; else an empty string."""
        email = getattr(self.source, "service_account_email", "") or ""
        return email if "@" in email else ""

    def access_token(self, request):
        """An access token of the token endpoint, for what takes no token that a key has signed itself.

        Errors: :class:`CredentialsError`.
        """
        source = self.source
        if getattr(source, "_always_use_jwt_access", False):
            source = source.with_always_use_jwt_access(False)
        try:
            source.refresh(request)
        except google.auth.exceptions.GoogleAuthError as error:
            raise _no_token(self, source, error) from error
        self.secrets.add(source.token)
        return source.token

    def refresh(self, request):
        refused = self.token if self.token and not self.expired else None
        with _shared.entries() as known:
            item = known.get(self.key)
            if item and item["until"] > time.time() and item["value"] != refused:
                self.token = item["value"]
                self.expiry = _utc(item["until"] + _MARGIN)
                return
            source = self.source
            if refused and getattr(source, "_always_use_jwt_access", False):
                source = self._source = source.with_always_use_jwt_access(False)
            try:
                source.refresh(request)
            except google.auth.exceptions.TransportError:
                raise  # the client tries again
            except google.auth.exceptions.GoogleAuthError as error:
                raise _no_token(self, source, error) from error
            self.token, self.expiry = source.token, source.expiry
            if self.expiry:
                until = self.expiry.replace(tzinfo=datetime.UTC).timestamp() - _MARGIN
                known[self.key] = {"until": until, "value": self.token}


def _no_token(credentials, source, error):
    """The error for a token that was refused, in the service's own words where google-auth quotes a whole response."""
    words, *quoted = [str(part) for part in error.args] or [str(error)]
    for part in quoted:
        with contextlib.suppress(ValueError, AttributeError):  # not a JSON document with an error
            problem = json.loads(part).get("error")
            words += ": " + (problem["message"] if isinstance(problem, dict) else str(problem))
    words = _redaction.text(words, credentials.secrets)
    whose = credentials.email or "the given credentials"
    if "getAccessToken" in words:
        hint = f"Grant the principal of the credentials roles/iam.serviceAccountTokenCreator on {whose}."
    else:
        endpoint = getattr(source, "_token_uri", None) or "the token endpoint"
        hint = (
            "Check that the key or login is not expired, revoked or of a deleted account"
            f" and that {endpoint} can be reached."
        )
    return CredentialsError(f"No access token for {whose}: {words}", hint)


def _utc(epoch):
    """Seconds since 1970 as google-auth wants an expiry: in UTC and without a time zone."""
    return datetime.datetime.fromtimestamp(epoch, datetime.UTC).replace(tzinfo=None)


def from_params(params):
    """:class:`Credentials` for the options of the ``gcp`` fragment.

    Errors: :class:`UserError` for options that contradict each other and for the address of a proxy that cannot be
    used, :class:`CredentialsError` (also later, when a token is needed) for credentials that are missing or not usable.
    """
    _settings.check_proxies()
    params = _settings.credentials(params)
    kind = params.get("auth_kind") or _default_kind(params)
    scopes = tuple(params["scopes"] or SCOPES)
    loader = _LOADERS[kind]

    def load(secrets):
        source, project = loader(params, scopes, secrets)
        target = params.get("impersonate_service_account")
        if target:
            source = impersonated_credentials.Credentials(source, target_principal=target, target_scopes=list(scopes))
        return source, project

    made = Credentials(_key(kind, scopes, params), load, _quota_project(kind, params))
    made.secrets |= given_secrets(params)
    return made


def given_secrets(params):
    """Return the secret values of credentials that are options."""
    contents = params.get("service_account_contents")
    found = _settings.secrets_of(contents) if contents else set()
    return found | ({params["access_token"]} if params.get("access_token") else set())


def _quota_project(kind, params):
    """The project that pays for the requests, or None: the option, or what gcloud wrote into a user's login."""
    path = _application_file()
    if params.get("quota_project") or kind != "application" or not path:
        return params.get("quota_project")
    try:
        with open(path, encoding="utf-8") as stream:
            return json.load(stream).get("quota_project_id")
    except (OSError, ValueError, AttributeError):
        return None  # reported when the credentials are loaded


def _default_kind(params):
    if params.get("access_token"):
        return "accesstoken"
    if params.get("service_account_file") or params.get("service_account_contents"):
        return "serviceaccount"
    return "application"


def _key(kind, scopes, params):
    """A name for these credentials that changes with anything that changes their token."""
    parts = [kind, scopes, params.get("impersonate_service_account")]
    if kind == "accesstoken":
        parts.append(params.get("access_token"))
    elif kind == "machineaccount":
        parts += [params.get("service_account_email"), os.environ.get("GCE_METADATA_HOST")]
    elif kind == "serviceaccount":
        parts += [params.get("service_account_contents"), _identity(params.get("service_account_file"))]
    else:
        parts += [_identity(_application_file()), os.environ.get("GCE_METADATA_HOST")]
    return "token:" + hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _identity(path):
    """Path, time and size of a file: enough to notice that a key was replaced."""
    if not path:
        return None
    try:
        status = os.stat(os.path.expanduser(path))
    except OSError:
        return path
    return [os.path.abspath(os.path.expanduser(path)), status.st_mtime_ns, status.st_size]


def _application_file():
    """The file of application default credentials, or None. https://cloud.google.com/docs/authentication/application-default-credentials"""
    named = _settings.application_file()
    if named:
        return named
    folder = (os.environ.get("CLOUDSDK_CONFIG") or "").strip() or os.path.expanduser("~/.config/gcloud")
    usual = os.path.join(folder, "application_default_credentials.json")
    return usual if os.path.exists(usual) else None


def _application(params, scopes, secrets):
    path = _application_file()
    where = path and f"the credentials file {path}"
    with _readable(where, secrets):
        if path:
            with open(path, encoding="utf-8") as stream:
                info = json.load(stream)
            secrets |= _settings.secrets_of(info)
            _settings.key(info, where)
            # Not google.auth.default(): for a user's login it starts gcloud, a second of work, to learn the project.
            source, project = google.auth.load_credentials_from_file(path, scopes=list(scopes))
        else:
            source, project = google.auth.default(scopes=list(scopes))
    return _self_signing(source), project


def _service_account(params, scopes, secrets):
    contents, path = params.get("service_account_contents"), params.get("service_account_file")
    if not contents and not path:
        raise UserError(
            "auth_kind is serviceaccount but neither service_account_file nor service_account_contents is given.",
            "Set one of them, or GCP_SERVICE_ACCOUNT_FILE in the environment.",
        )
    where = "the given service account contents" if contents else f"the credentials file {path}"
    with _readable(where, secrets):
        if contents:
            info = contents if isinstance(contents, dict) else json.loads(contents)
        else:
            with open(os.path.expanduser(path), encoding="utf-8") as stream:
                info = json.load(stream)
        info = _settings.key(info, where)
        secrets |= _settings.secrets_of(info)
        source = service_account.Credentials.from_service_account_info(info, scopes=list(scopes))
    return _self_signing(source), info.get("project_id")


def _access_token(params, scopes, secrets):
    if not params.get("access_token"):
        raise UserError("auth_kind is accesstoken but access_token is not given.", "Set it, or GCP_ACCESS_TOKEN.")
    return _GivenToken(params["access_token"]), None


def _machine_account(params, scopes, secrets):
    # It reads GCE_METADATA_HOST when it is imported, and a task may have set that in its environment.
    from google.auth import compute_engine

    return compute_engine.Credentials(params.get("service_account_email") or "default", scopes=list(scopes)), None


_LOADERS = {
    "application": _application,
    "serviceaccount": _service_account,
    "accesstoken": _access_token,
    "machineaccount": _machine_account,
}


if IMPORT_ERROR is None:

    class _GivenToken(oauth2_credentials.Credentials):
        """A token that the user gave: there is nothing to refresh it with."""

        def refresh(self, request):
            if self.expired or getattr(self, "_handed_out", False):
                raise google.auth.exceptions.RefreshError("the given access_token was refused or is expired")
            self._handed_out = True


def _self_signing(source):
    """Let a service account's key sign its own tokens."""
    if isinstance(source, service_account.Credentials):
        return source.with_always_use_jwt_access(True)
    return source


@contextlib.contextmanager
def _readable(where, secrets):
    """Raise :class:`CredentialsError` with the place and the next step for credentials that cannot be loaded.

    Warnings of google-auth are not shown. ``secrets`` are removed from the words of libraries.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except OSError as error:
        raise CredentialsError(
            f"Cannot read {where}: {error.strerror}", "Check the path and its permissions."
        ) from error
    except (ValueError, google.auth.exceptions.GoogleAuthError) as error:
        if isinstance(error, google.auth.exceptions.DefaultCredentialsError) and not where:
            raise CredentialsError(
                "No Google credentials were found.",
                "Set service_account_file (or GCP_SERVICE_ACCOUNT_FILE), or GOOGLE_APPLICATION_CREDENTIALS, or run:"
                " gcloud auth application-default login",
            ) from error
        words = _redaction.text(error, secrets)
        raise CredentialsError(f"Cannot use {where}: {words}", "It must be credentials as Google made them.") from error
