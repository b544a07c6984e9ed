# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the module deployment in the controller, with the variables of the host."""

from __future__ import annotations

import functools
from pathlib import Path

from ansible.errors import AnsibleError
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment import variables
from ansible_collections.mlplatform.gcp.plugins.plugin_utils import controller

controller.load("deployment")

_IMAGE = Path(__file__).parents[2] / "roles" / "mlflow_image"


@functools.cache
def _wanted():
    """Name -> default of the variables that the model reads: none that holds credentials or payloads."""
    described = variables.all_variables().items()
    return dict.fromkeys(variables.replaced()) | {
        name: None if variable.templated else variable.default for name, variable in described if not variable.hidden
    }


class ActionModule(controller.ActionModule):
    def run(self, tmp=None, task_vars=None):
        task_vars = task_vars or {}
        arguments = dict(self._task.args)
        try:
            if "variables" not in arguments:
                arguments["variables"] = self._variables(task_vars)
        except _Untemplatable as error:
            return {"failed": True, "msg": str(error)}
        arguments.setdefault("image_context", str(_IMAGE / "files"))
        arguments.setdefault("secret_image_context", str(_IMAGE / "secret_files"))
        self._task.args = arguments
        result = super().run(tmp, task_vars)
        # The options are the variables of the host once more.
        result.pop("invocation", None)
        return result

    def _in_controller(self, task_vars):
        return True

    def _variables(self, task_vars):
        """The variables that the model reads, templates evaluated; of names that no role knows only the names.

        What has its default, which the role's defaults say, is left out: a user did not set it.
        """
        wanted, ours = _wanted(), variables.prefixes()
        found = {}
        for name, value in task_vars.items():
            if name in wanted and value != wanted[name]:
                try:
                    found[name] = self._templar.template(value)
                except AnsibleError as error:
                    raise _Untemplatable(
                        f"Nothing was changed: the variable {name} cannot be evaluated: {error.message}."
                        " Correct the template in the inventory."
                    ) from error
            elif name not in wanted and name.startswith(ours):
                found[name] = None
        return found


class _Untemplatable(Exception):
    """A variable with an invalid template."""
