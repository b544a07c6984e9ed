# SPDX-License-Identifier: Apache-2.0
"""Run a module of the test as Ansible's task executor does, by the action plugin. The fixtures are in conftest.py."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from unittest import mock

from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.mlplatform.gcp.plugins.module_utils._options import GCP, Options
from ansible_collections.mlplatform.gcp.plugins.module_utils._resource import Result
from ansible_collections.mlplatform.gcp.plugins.plugin_utils import controller

NAME = "probe"


def probe(monkeypatch):
    """Add a module with the test's ``run``; ``seen`` is the task that it got."""
    seen = SimpleNamespace(task=None, result=Result(resource={"a": 1}))

    def run(task):
        seen.task = task
        seen.environment = dict(os.environ)
        result = seen.result(task) if callable(seen.result) else seen.result
        return result

    options = GCP + Options(
        {
            "name": {"type": "str", "required": True},
            "password": {"type": "str", "no_log": True},
            "size": {"type": "int"},
            "old": {
                "type": "str",
                "aliases": ["older"],
                "removed_in_version": "9.0.0",
                "removed_from_collection": "x.y",
            },
        },
        mutually_exclusive=(("size", "password"),),
    )
    module = SimpleNamespace(OPTIONS=options, run=run)
    for name in (NAME, f"{NAME}_info"):
        monkeypatch.setitem(sys.modules, f"{controller.MODULES}.{name}", module)
    return seen


def actor():
    """Return a function that runs the module; its ``as_module`` is what would run it elsewhere."""

    def act(
        args,
        *,
        variables=None,
        transport="local",
        become=None,
        async_val=0,
        check_mode=False,
        environment=None,
        defaults=(),
        module=NAME,
    ):
        connection = SimpleNamespace(
            transport=transport,
            become=become,
            has_native_async=False,
            _shell=SimpleNamespace(tmpdir="/tmp/x", env_prefix=lambda **values: ""),
        )
        task = SimpleNamespace(
            action=f"mlplatform.gcp.{module}",
            args=args,
            async_val=async_val,
            check_mode=check_mode,
            diff=False,
            environment=environment,
            module_defaults=list(defaults),
            delegate_to=None,
            get_play=lambda: SimpleNamespace(_uuid="play-1"),
        )
        action = controller.ActionModule(
            task=task,
            connection=connection,
            play_context=SimpleNamespace(),
            loader=DataLoader(),
            templar=Templar(DataLoader(), variables or {}),
            shared_loader_obj=None,
        )
        action._execute_module = mock.Mock(return_value={"as_module": True})
        action._remove_tmp_path = mock.Mock()
        result = action.run(task_vars=variables or {})
        act.as_module = action._execute_module
        return result

    return act
