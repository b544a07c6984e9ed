# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs every module of the collection: inside the controller where the connection is local, else as a module.

Each module has an action plugin of its name, which is this class. The strategy loads it in Ansible's parent process, so
what this file imports and the memory it shares serve all forks. (A redirect of the actions in meta/runtime.yml would do
the same; but ansible-lint and antsibull-docs take it for a new name of the module, and module_defaults of one module
would reach all.)
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import os
import sys
from collections.abc import Mapping

from ansible.errors import AnsibleValueOmittedError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.parameters import remove_values
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.action import ActionBase
from ansible.template import Templar, trust_as_template
from ansible.utils.display import Display
from ansible.utils.vars import merge_hash
from ansible_collections.mlplatform.gcp.plugins.module_utils import _http, _lock, _shared
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.roles import gcp
from ansible_collections.mlplatform.gcp.plugins.module_utils._module import (
    Task,
    hidden,
    missing_library,
    outcome,
)
from ansible_collections.mlplatform.gcp.plugins.module_utils._options import GCP
from ansible_collections.mlplatform.gcp.plugins.plugin_utils import changes

COLLECTION = "mlplatform.gcp"
MODULES = "ansible_collections.mlplatform.gcp.plugins.modules"

# Option -> the variable of the role gcp that sets it.
_OPTIONS_OF_VARIABLES = {
    option: variable.name
    for variable in gcp.ROLE.variables
    if (option := variable.name.removeprefix("gcp_")) in GCP.arguments
}

display = Display()


def _prepare():
    """Prepare what all forks inherit: shared memory, Ansible's filters, and TLS settings."""
    _shared.share()
    # The first template of a process loads all filters and tests of Ansible.
    Templar(DataLoader()).template(trust_as_template("{{ '' | default('', true) }}"))
    if missing_library():
        return
    _http.warm_up()
    atexit.register(_release, os.getpid())


def _release(parent):
    """Release the locks of deployments when Ansible ends, also after a failure; not at the end of a fork."""
    if os.getpid() == parent:
        _lock.release_all()


def load(name):
    """Import a module before the forks of its tasks start."""
    if missing_library():
        return
    # A module that cannot be imported is reported by the task that uses it.
    with contextlib.suppress(ImportError, SyntaxError):
        importlib.import_module(f"{MODULES}.{name}")
    # A collection of garbage in a fork would copy the pages of all that it shares with its parent.
    gc.freeze()


_prepare()


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp=None, task_vars=None):
        task_vars = task_vars or {}
        result = super().run(tmp, task_vars)
        name = self._task.action.rsplit(".", 1)[-1]
        self._task.args = self._from_variables(task_vars) | _given(self._task.args)
        if not self._in_controller(task_vars):
            result = merge_hash(result, self._as_module(name, task_vars))
        else:
            with self._environment():
                result = merge_hash(result, self._run_here(name))
        if isinstance(result.get("msg"), list):
            # A report in lines is for the user, as that of the module debug.
            result["_ansible_verbose_always"] = True
        # For the lookup mlplatform.gcp.changes.
        entries = changes.entries_of(result)
        if entries:
            changes.record(task_vars["inventory_hostname"], entries, censored=bool(self._task.no_log))
        return result

    def _from_variables(self, task_vars):
        """The options of project and credentials that the variables of the role gcp set, and the deployment's lock.

        They have the least precedence: below the task and module_defaults, above the environment. Read here and not by
        module_defaults in the roles, which Ansible would compile as a template for each task.
        """
        given = _given(self._task.args)
        found = {}
        for option in _OPTIONS_OF_VARIABLES.keys() - given.keys():
            try:
                found[option] = self._templar.template(task_vars.get(_OPTIONS_OF_VARIABLES[option]))
            except AnsibleValueOmittedError:
                continue
        deployment = task_vars.get("deployment")
        if "lock" not in given and isinstance(deployment, Mapping):
            found["lock"] = deployment.get("lock")
        return _given(found)

    def _in_controller(self, task_vars):
        """Whether this process is the place that the task would run in, as the user meant it."""
        wanted = self._templar.template(task_vars.get("gcp_in_controller", True))
        if str(wanted).lower() in ("false", "no", "0"):
            return False
        if self._connection.transport != "local" or self._task.async_val or self._connection.become:
            return False
        interpreter = self._templar.template(task_vars.get("ansible_python_interpreter") or "")
        return not os.path.isabs(interpreter) or _same_python(interpreter)

    def _play(self):
        """Return what identifies the play: what one play has read, another one reads again."""
        play = self._task.get_play() if hasattr(self._task, "get_play") else None
        return getattr(play, "_uuid", "")

    def _as_module(self, name, task_vars):
        heap = _shared.heap()
        if heap is not None and not reads_only(name):
            # An asynchronous task may change resources later, at an unknown time.
            heap.stop()
        wrap_async = self._task.async_val and not self._connection.has_native_async
        result = self._execute_module(
            module_name=f"{COLLECTION}.{name}",
            module_args=self._task.args,
            task_vars=task_vars,
            wrap_async=wrap_async,
        )
        if not wrap_async:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        return result

    def _run_here(self, name):
        missing = missing_library()
        if missing:
            return {"failed": True, "msg": missing[0]}
        module = importlib.import_module(f"{MODULES}.{name}")
        options = module.OPTIONS
        validator = ArgumentSpecValidator(dict(options.arguments), **options.rules())
        checked = validator.validate(dict(self._task.args))
        params = checked.validated_parameters
        warnings = []
        task = Task(
            params,
            check_mode=self._task.check_mode,
            warn=warnings.append,
            progress=lambda text: display.display(shown(f"    {text}")),
            play=self._play(),
            consult=not reads_only(name),
        )

        def shown(result):
            return remove_values(result, hidden(task, checked._no_log_values))

        if checked.error_messages:
            msg = f"Invalid options for {COLLECTION}.{name}: " + "; ".join(checked.error_messages)
            return shown({"failed": True, "msg": msg})
        for deprecation in checked._deprecations:
            display.deprecated(deprecation["msg"], version=deprecation.get("version"), collection_name=COLLECTION)
        good, result = outcome(module.run, task)
        result = dict(result, invocation={"module_args": _hide_no_log(params, options.arguments)})
        if warnings:
            result["warnings"] = list(dict.fromkeys(warnings))
        if not good:
            result["failed"] = True
        return shown(result)

    @contextlib.contextmanager
    def _environment(self):
        """The task's ``environment`` in this process, as a module would find it; the fork serves a whole loop."""
        values = {}
        self._compute_environment_string(values)
        before = dict(os.environ)
        os.environ.update({key: str(value) for key, value in values.items()})
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def _given(arguments):
    """Return the options without empty ones of project and credentials, for which the module's fallbacks apply."""
    return {key: value for key, value in arguments.items() if key not in GCP.arguments or not _is_empty(value)}


def _is_empty(value):
    return value is None or (isinstance(value, str) and not value.strip())


def reads_only(name):
    """Return whether a module only gathers information: such a task sees the services themselves."""
    return name.endswith("_info")


def _same_python(interpreter):
    """Whether a path is this interpreter, virtual environment included."""
    mine = os.path.abspath(sys.executable)
    theirs = os.path.abspath(os.path.expanduser(interpreter))
    return os.path.dirname(mine) == os.path.dirname(theirs) and os.path.realpath(mine) == os.path.realpath(theirs)


def _hide_no_log(params, arguments):
    """The options as they may be shown, in the words of an ordinary module."""
    return {
        key: "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER" if arguments[key].get("no_log") and value is not None else value
        for key, value in params.items()
        if key in arguments
    }
