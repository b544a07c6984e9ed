# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The parts of a module: a specification of its options, and a function from a :class:`Task` to a result.

The same function runs in an ordinary module (:func:`run_module`) and inside the controller (the action plugin).
"""

from __future__ import annotations

import copy
import functools
import json
import os
import traceback

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.mlplatform.gcp.plugins.module_utils import (
    _credentials,
    _http,
    _lock,
    _redaction,
    _settings,
    _shared,
    _values,
)
from ansible_collections.mlplatform.gcp.plugins.module_utils._errors import GcpError, UserError
from ansible_collections.mlplatform.gcp.plugins.module_utils._operations import Waiter
from ansible_collections.mlplatform.gcp.plugins.module_utils._ownership import Ownership
from ansible_collections.mlplatform.gcp.plugins.module_utils._resource import Remote, Result
from ansible_collections.mlplatform.gcp.plugins.module_utils._snapshot import Snapshot, Stale

_DEFAULT_WAIT = 600


class Task:
    """All that a module's function gets: options in, the cloud at hand, words out.

    params      validated options
    check_mode  nothing may be changed
    warn        callable for a warning
    progress    callable for a line while something takes long
    play        identifies the play, in which answers that an earlier task has kept can be used; empty for none
    consult     whether they are used
    """

    def __init__(
        self,
        params,
        *,
        check_mode=False,
        warn=lambda text: None,
        progress=lambda text: None,
        client=None,
        play="",
        consult=False,
    ):
        self._play = play
        self._consult = consult
        self.params = params
        self.check_mode = check_mode
        self.warn = warn
        self.progress = progress
        if client is not None:
            self.client = self._with_lock(client)

    @functools.cached_property
    def credentials(self):
        return _credentials.from_params(self.params)

    @functools.cached_property
    def client(self):
        scope = f"{self._play} {self.credentials.key} {os.environ.get('HTTPS_PROXY', '')}"
        snapshot = Snapshot(scope, consult=self._consult, shared=bool(self._play))
        client = _http.Client(self.credentials, project=_settings.project(self.params) or "", snapshot=snapshot)
        return self._with_lock(client)

    def start_again(self):
        """Forget the answers of other tasks. Return whether this task has used one, so that its plan may be stale."""
        # The time that a lock was awaited does not count.
        self.__dict__.pop("waiter", None)
        return "client" in self.__dict__ and self.client.snapshot.afresh()

    def lock(self, options):
        """Return a deployment's :class:`_lock.Lock`."""
        return _lock.Lock(options, self.client, warn=self.warn, progress=self.progress)

    def _with_lock(self, client):
        if self.params.get("lock"):
            client.lock = _lock.Lock(self.params["lock"], client, warn=self.warn, progress=self.progress)
        return client

    def keep_lock(self):
        """Renew the lock of the task's deployment, if this run has it."""
        if self.client.lock is not None:
            self.client.lock.keep()

    def end(self):
        """Give back what no later task can give back."""
        if "client" in self.__dict__ and self.client.lock is not None:
            self.client.lock.end()

    def access_token(self):
        """An OAuth 2.0 access token of the task's credentials, for what is no Google API (a container registry)."""
        return self.credentials.access_token(_http.token_request())

    @functools.cached_property
    def project(self):
        """The project's id: the option, or the project of the credentials."""
        project = _settings.project(self.params)
        if not project:
            self.credentials.source  # noqa: B018  loading them sets their project
            project = self.credentials.project
        if not project:
            raise UserError(
                "No project is given, and the credentials belong to none.",
                "Set project, or GCP_PROJECT in the environment.",
            )
        return project

    def secrets(self):
        """Return the secret values of the task's credentials, those that were read and those that are given."""
        read = self.credentials.secrets if "credentials" in self.__dict__ else set()
        return read | _credentials.given_secrets(self.params)

    @functools.cached_property
    def ownership(self):
        return Ownership(self.params.get("owner"), self.params.get("adopt", False))

    @property
    def wait(self):
        return self.params.get("wait", True)

    @functools.cached_property
    def waiter(self):
        """Waits for everything in this task: ``wait_timeout`` counts from its first use."""
        # An awaited resource changes.
        self.client.snapshot.consult = False
        seconds = self.params.get("wait_timeout") or _DEFAULT_WAIT
        return Waiter(self.client.clock, seconds, self.progress, self.keep_lock)

    def each(self, option, run, key="name"):
        """Run a module's function for each entry of a list option. The other options of the task hold for all entries.

        Return a :class:`Result` of all of them. Its ``results`` are what a task for each entry would have returned,
        without the changes, and with the option ``key`` of the entry, which names it.
        """
        total = Result(extra={"results": []})
        for entry in self.params[option]:
            task = copy.copy(self)
            # All entries use one client: its credentials, its connections and the answers of earlier tasks.
            task.client = self.client
            task.params = self.params | {name: value for name, value in entry.items() if value is not None}
            one = run(task)
            total.add(Result(one.changed, one.diff, changes=one.changes))
            details = {key: value for key, value in one.as_dict().items() if key not in ("changes", "diff")}
            total.extra["results"].append(details | {key: entry[key]})
        return total

    def remote(self, resource, **names):
        """The :class:`Remote` of a resource; ``project`` is among the names unless given."""
        if "{project}" in resource.path + resource.create_path + "".join(resource.create_query.values()):
            names.setdefault("project", self.project)
        return Remote(self, resource, names)

    def ensure(self, resource, desired, *, guard=None, **names):
        """The usual whole of a module: make a resource agree with ``desired``, or ``state: absent``."""
        remote = self.remote(resource, **names)
        if self.params.get("state") == "absent":
            return remote.ensure_absent(guard=guard)
        return remote.ensure(desired, guard=guard)

    # Check mode in an empty project

    def will_enable(self, service, project):
        """Remember, in check mode, that this run would enable an API: what asks for it later need not warn."""
        _shared.remember(f"enable:{project}:{service}", True, 3600)

    def assume_enabled(self, error):
        """Go on in check mode though an API is disabled; warn once unless this run would have enabled it."""
        projects = {error.consumer, self.params.get("project") or error.consumer}
        if not any(_shared.recall(f"enable:{project}:{error.service}") for project in projects):
            self.warn(
                f"The API {error.service} is not enabled in project {error.consumer}."
                " Check mode continues as if it was enabled and had no resources."
            )
        self.will_enable(error.service, error.consumer)


def execute(run, task):
    """Run a module's function: ``(True, result)`` or ``(False, failure)``.

    The one place where errors become results. A task that was planned with answers which an earlier task had kept runs
    again, with the services' own answers, before it changes anything or fails. So does a task that had to wait for the
    lock of the deployment.
    """
    try:
        task.params = _values.with_texts(task.params)
        result = _current(run, task)
    except GcpError as error:
        return False, error.failure()
    finally:
        task.end()
    return True, result.as_dict() if isinstance(result, Result) else result


def _current(run, task):
    """Return what a module's function returns when nothing that it has read is out of date."""
    while True:
        try:
            return run(task)
        except Stale:
            task.start_again()
        except GcpError:
            if not task.start_again():
                raise


def outcome(run, task):
    """:func:`execute` a module's function; an exception that nothing expects fails it, without secrets in its text."""
    try:
        return execute(run, task)
    except Exception as error:  # its own text and traceback, as Ansible would show them, can have secrets
        secrets = task.secrets()
        words = _redaction.text(error, secrets)
        return False, {
            "msg": f"Unexpected {type(error).__name__}: {words}",
            "exception": _redaction.text(traceback.format_exc(), secrets),
        }


def hidden(task, no_log_values):
    """Return all texts that must not be part of a result: values of ``no_log`` options and of credentials."""
    values = no_log_values - public_values(task.params)
    found = {form for value in values for form in _redaction.forms(value)}
    return found | {trace for secret in task.secrets() for trace in _redaction.traces(secret)}


def missing_library():
    """Return the message about a missing Python library, or None."""
    if _credentials.IMPORT_ERROR is None and _http.IMPORT_ERROR is None:
        return None
    return missing_required_lib("google-auth and requests"), str(_credentials.IMPORT_ERROR or _http.IMPORT_ERROR)


def run_module(options, run):
    """``main()`` of a module: run it as an ordinary Ansible module."""
    module = AnsibleModule(argument_spec=dict(options.arguments), supports_check_mode=True, **options.rules())
    missing = missing_library()
    if missing:
        module.fail_json(msg=missing[0], exception=missing[1])
    module.no_log_values -= public_values(module.params)
    if module.params.get("service_account_contents"):
        # Of a dictionary Ansible knows the values, and not how they look in the JSON that it makes of them.
        module.no_log_values.add(module.params["service_account_contents"])
    task = Task(module.params, check_mode=module.check_mode, warn=module.warn, progress=module.debug)
    module.no_log_values |= hidden(task, module.no_log_values)
    good, result = outcome(run, task)
    module.no_log_values |= hidden(task, module.no_log_values)
    if good:
        module.exit_json(**result)
    module.fail_json(**result)


def public_values(params):
    """What a service account's key holds besides secrets, in the forms in which Ansible would blank it out everywhere.

    Without this a task given its key as a dictionary would show its own project as ``********``.
    """
    contents = params.get("service_account_contents")
    if not contents:
        return set()
    try:
        info = json.loads(contents) if isinstance(contents, str) else contents
    except ValueError:
        return set()
    if not isinstance(info, dict):
        return set()
    return {str(value) for key, value in info.items() if not key.startswith("private_key")}
