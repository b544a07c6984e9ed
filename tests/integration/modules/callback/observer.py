# SPDX-License-Identifier: Apache-2.0
"""Report the start and end of each task to the test, and wait until the test has read the state of the cloud.

OBSERVER_SOCKET is the path of the test's Unix socket. Each message and each response is a line of JSON.
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
description: Reports the start and end of each task to a test, and waits until the test has read the state of the cloud.
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

    def _report(self, **message):
        print(json.dumps(message, default=str), file=self._stream, flush=True)
        self._stream.readline()

    def v2_playbook_on_task_start(self, task, is_conditional):
        self._report(event="start", task=task.get_name())

    def v2_runner_on_ok(self, result):
        self._report(event="end", task=result.task.get_name(), failed=False, result=result.result)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._report(event="end", task=result.task.get_name(), failed=True, result=result.result)
