# SPDX-License-Identifier: Apache-2.0
"""Test the oldest MLflow that the image is documented to work with. The other tests use the newest."""

from __future__ import annotations

import pytest
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.rules.server import OLDEST
from ansible_collections.mlplatform.gcp.tests.integration.target._target import DEPLOY, VERIFY

pytestmark = pytest.mark.usefixtures("instant")


def test_the_oldest_release_is_built_migrated_and_serves(new_project, controller):
    project = new_project()
    hosts = {"oldest": project.variables | {"mlflow_version": OLDEST}}
    controller.run(DEPLOY, hosts=hosts).check()
    controller.collect(project)
    found = project.anonymous.get(f"{project.address('oldest-dev')}/version", headers=_token(project))
    assert (found.status_code, found.text) == (200, OLDEST)
    controller.run(VERIFY, hosts=hosts).check()


def _token(project):
    signed = project.signed("oldest-dev-client", f"{project.address('oldest-dev')}/*")
    return {"Authorization": f"Bearer {signed}"}
