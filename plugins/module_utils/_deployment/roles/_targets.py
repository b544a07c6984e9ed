# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The entry points that the role of each target has: what the playbooks call."""

from __future__ import annotations

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.spec import EntryPoint

_PREPARED = "Needs C(deployment), which the entry point C(prepare) of the role C(mlflow) registers."
_READ = "Needs C(deployment), which the entry point C(read) of the role C(mlflow) registers."
_REMOVAL = "Needs C(deployment), which the entry point C(removal) of the role C(mlflow) registers."

ENTRY_POINTS = (
    EntryPoint("run", "Run the server and grant access", (_PREPARED,)),
    EntryPoint("access", "Grant exactly the members of the deployment access", (_PREPARED,)),
    EntryPoint("verify", "Verify the server with MLflow's client and with unauthorized requests", (_READ,)),
    EntryPoint("status", "Report the server", (_READ, "Sets C(mlflow_status).")),
    EntryPoint("restart", "Restart the server", (_READ, "Settings stay as they are.")),
    EntryPoint(
        "retire",
        "Remove the server alone",
        (_PREPARED, "Everything else stays. The playbook calls it after the deployment runs on another target."),
    ),
    EntryPoint("absent", "Remove the deployment", (_REMOVAL,)),
)
