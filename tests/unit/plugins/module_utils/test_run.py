# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.run import merged_containers

CONTAINER = {
    "image": "i",
    "env": [{"name": "A", "value": "1"}],
    "ports": [{"name": "http1", "containerPort": 8080}],
    "resources": {"limits": {"cpu": "1", "memory": "2Gi"}, "cpuIdle": True},
    "startupProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 240},
}


def test_what_the_task_does_not_set_is_kept():
    new = {"env": [{"name": "B", "value": "2"}], "resources": {"limits": {"cpu": "2"}}}
    assert merged_containers([new], [CONTAINER]) == [
        {**CONTAINER, **new, "resources": {"limits": {"cpu": "2", "memory": "2Gi"}, "cpuIdle": True}}
    ]


def test_a_probe_is_replaced_whole():
    probe = {"httpGet": {"path": "/health"}}
    assert merged_containers([{"startupProbe": probe}], [CONTAINER])[0]["startupProbe"] == probe


def test_the_probe_that_cloud_run_made_goes_with_its_port():
    ports = [{"containerPort": 9090}]
    assert "startupProbe" not in merged_containers([{"ports": ports}], [CONTAINER])[0]
    own = {**CONTAINER, "startupProbe": {"tcpSocket": {"port": 8081}}}
    assert merged_containers([{"ports": ports}], [own])[0]["startupProbe"] == own["startupProbe"]


def test_another_number_of_containers_is_sent_as_it_is():
    assert merged_containers([{"image": "a"}], [CONTAINER, {"image": "sidecar"}]) == [{"image": "a"}]
