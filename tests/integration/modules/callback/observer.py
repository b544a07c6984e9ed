# SPDX-License-Identifier: Apache-2.0
"""Tells the test of every task that starts and ends, and waits until the test has looked at the cloud.

OBSERVER_SOCKET names the test's unix socket. Each message is a line of JSON, and so is each answer.
"""

from __future__ import annotations

import json
import os
import socket

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: observer
type: aggregate
short_description: Report tasks to a test
description: Tells a test of every task that starts and ends, and waits until the test has looked at the cloud.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "observer"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self):
        super().__init__()
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(os.environ["OBSERVER_SOCKET"])
        self._stream = connection.makefile("rw")

    def _tell(self, **message):
        print(json.dumps(message, default=str), file=self._stream, flush=True)
        self._stream.readline()

    def v2_playbook_on_task_start(self, task, is_conditional):
        self._tell(event="start", task=task.get_name())

    def v2_runner_on_ok(self, result):
        self._tell(event="end", task=result.task.get_name(), failed=False, result=result.result)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._tell(event="end", task=result.task.get_name(), failed=True, result=result.result)
