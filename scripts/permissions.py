# SPDX-License-Identifier: Apache-2.0
"""Write docs/permissions.md from the deployment model: python scripts/permissions.py [--check | --update]

--check writes nothing: exit status 1 when the page is out of date. --update first writes the predefined roles that a
deployer can use, plugins/module_utils/_deployment/_predefined_roles.py, from Google's roles in ../shared/iam.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import re
import subprocess
import sys
import textwrap

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment import deployer_roles, permissions
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.targets import TARGETS

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCE = ROOT.parent / "shared" / "iam" / "roles.json"
DATA = ROOT / "plugins" / "module_utils" / "_deployment" / "_predefined_roles.py"
PAGE = ROOT / "docs" / "permissions.md"

# Roles that do not suit a deployer: basic roles, agents of Google's services, roles on single buckets, roles of the
# account that a build runs as, roles for a person's job, which hold permissions of many services, and roles that give
# access to data.
UNSUITABLE = re.compile(
    r"roles/(owner|editor|viewer|browser|.*[sS]ervice(Agent|Input|Output)|.*CollectorService|.*GeneratorService"
    r"|storage\.legacy.*|cloudbuild\.(builds\.builder|integrations.*)|run\.(builder|source.*)"
    r"|artifactregistry\.containerRegistryMigrationAdmin|iam\.(?!serviceAccount|securityReviewer).*"
    r"|compute\.(?!network(User|Viewer)).*"
    r"|cloudsql\.(client|instanceUser|studioUser)|appengine\.memcacheDataAdmin|serviceusage\.apiKeysAdmin)"
)

HEAD = '''\
# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Predefined roles that a deployer can be granted. Written by ``scripts/permissions.py --update``.

The roles are those of https://github.com/iann0036/iam-dataset (MIT licence) as of August 2026.
"""

from __future__ import annotations

# Role -> (number of its permissions in the services of this collection, those that a deployer can need). A role is left
# out where another one holds the same of these permissions, and no more in all.
ROLES = {
'''


def predefined() -> dict[str, tuple[int, tuple[str, ...]]]:
    """Return the roles of ``_predefined_roles.py`` as ../shared/iam has them."""
    wanted = set(permissions.everything(TABLES))
    services = {name.split(".")[0] for name in wanted}
    found = {}
    for name, role in json.loads(SOURCE.read_text()).items():
        held = tuple(sorted(wanted & set(role["permissions"])))
        service = name.removeprefix("roles/").split(".")[0]
        if held and role["stage"] == "GA" and service in services and not UNSUITABLE.fullmatch(name):
            found[name] = (len(role["permissions"]), held)
    return {name: found[name] for name in sorted(found) if not any(_better(found, other, name) for other in found)}


def _better(found: dict[str, tuple[int, tuple[str, ...]]], one: str, other: str) -> bool:
    """Return whether a role serves at least as well as another one in every set; of equal ones, the first by name."""
    (size, held), (other_size, other_held) = found[one], found[other]
    if one == other or size > other_size or not set(held) >= set(other_held):
        return False
    return size < other_size or held != other_held or one < other


def module() -> str:
    """Return the text of ``_predefined_roles.py``."""
    lines = []
    for name, (size, held) in predefined().items():
        rows = textwrap.wrap(" ".join(held), 106, break_on_hyphens=False)
        texts = [json.dumps(row + " " * (row is not rows[-1])) for row in rows]
        if len(texts) == 1 and len(f'    "{name}": ({size}, {texts[0]}),') <= 120:
            lines.append(f'    "{name}": ({size}, {texts[0]}),')
        else:
            lines += [f'    "{name}": (', f"        {size},", *(f"        {text}" for text in texts[:-1])]
            lines += [f"        {texts[-1]},", "    ),"]
    return HEAD + "\n".join(lines) + "\n}\n"


# --- the page

TITLES = {
    "deploy": "Deploy",
    "verify": "Verify",
    "destroy": "Destroy, keep the data",
    "destroy_data": "Destroy the data too",
}
PLAYBOOKS = {
    "deploy": "`playbooks/deploy.yml`",
    "verify": "`playbooks/verify.yml`",
    "destroy": "`playbooks/destroy.yml`",
    "destroy_data": "`playbooks/destroy.yml` with `mlflow_destroy_data=true`",
}
TABLES = [target.permissions for target in TARGETS.values()]
USUAL = {"iap": True}
# Difference from a usual deployment -> (the actions' parameters, the targets that have the choice)
CHOICES = {
    "`mlflow_image` is set: no image is built": ({"builds": False}, TARGETS),
    "`mlflow_image` is in Artifact Registry: the role on its repository is enough": (
        {"builds": False, "custom_image": True},
        TARGETS,
    ),
    "`mlflow_image_engine` is not `cloud_build`": ({"engine": "docker"}, TARGETS),
    "`mlflow_access: iam` (destroy: and the API of Identity-Aware Proxy is disabled)": ({"iap": False}, ["cloudrun"]),
    "`mlflow_access: password` (destroy: likewise)": ({"iap": False, "login": True}, TARGETS),
    "`mlflow_oauth_client_id_secret` is set": ({"custom_client": True}, TARGETS),
    "`cloudsql_private_network` or `mlflow_network` is a network of the project": ({"network": True}, TARGETS),
    "`mlflow_kms_key` is set, or the key of a part: the roles on the keys, in their project": ({"keys": True}, TARGETS),
    "All APIs are enabled already": ({"enables": False}, TARGETS),
    "All APIs are enabled already, and `mlflow_access: iam`": ({"enables": False, "iap": False}, ["cloudrun"]),
    "The project has no App Engine application yet": ({"creates_application": True}, ["appengine"]),
    "The deployment ran on another target before": ({"retires": TABLES}, TARGETS),
}

INTRODUCTION = """\
# Permissions of the deployer

<!-- Written by scripts/permissions.py from plugins/module_utils/_deployment. Do not edit. -->

The deployer is the user or the service account that runs the playbooks. This page lists the smallest set of
predefined roles for each target and playbook. A principal with `roles/owner` needs none of them.

Each playbook tests its permissions before anything is changed. Where some are missing, it prints the commands that
grant the smallest set of roles for the missing ones.

The tables hold for a deployment with default values: the image is built, Identity-Aware Proxy protects MLflow with
Google's OAuth client, and APIs are still disabled. [What depends on variables](#what-depends-on-variables) lists the
differences.
"""
BEYOND = """\
## Further notes

- **Verification** signs in as the deployment's client account. It needs `roles/iam.serviceAccountTokenCreator` on that
  account. The deployment grants it to the members of `mlflow_impersonators`, by default the deployer. No role on the
  project is needed for it, and `roles/owner` does not include it.
- **A quota project** (`gcp_quota_project`) needs `serviceusage.services.use` on that project, which is in
  `roles/serviceusage.serviceUsageConsumer`.
- **`roles/resourcemanager.projectIamAdmin`** lets the deployer grant any role. A
  [condition](https://cloud.google.com/iam/docs/setting-limits-on-granting-roles) limits it to the roles that a
  deployment grants on the project: `roles/cloudsql.client`, and on App Engine `roles/logging.logWriter` and
  `roles/monitoring.metricWriter`. On Cloud Run write, instead of `--condition=None`:
  `--condition='^;^title=mlflow;expression=api.getAttribute("iam.googleapis.com/modifiedGrantsByRole",
  []).hasOnly(["roles/cloudsql.client"])'`.
- **Logs.** The error of a job, a service or a version that failed has the end of its container's output if the deployer
  has `roles/logging.viewer`. Otherwise it has the command that shows the output. No playbook requires the role.
- **The lock** of a deployment ([locking.md](locking.md)) needs `storage.objects.create`, `storage.objects.get` and
  `storage.objects.update` on its bucket, which are in `roles/storage.admin`. Without them a run has no lock and warns.
- **Billing** is checked where the deployer may read it. Nothing depends on it.
- **A custom image** (`mlflow_image`) in Artifact Registry needs `roles/artifactregistry.reader` on its repository: for
  the deployer, for Cloud Run's service agent (`service-NUMBER@serverless-robot-prod.iam.gserviceaccount.com`) if it is
  in another project, and for the server's account on App Engine. You grant the first one. The
  deployment grants the others if the deployer has `artifactregistry.repositories.setIamPolicy` on the repository.
  Without it, preflight reports a missing role before anything has changed.
- **A network of another project** (Shared VPC) needs `roles/compute.networkUser` on its subnetwork for Cloud Run's
  service agent, and on App Engine for the agent of the flexible environment. The deployer needs
  `roles/compute.networkViewer` on the host project for preflight to check it. You grant these roles. See
  [network.md](network.md).
- **A secret in another project** needs `roles/secretmanager.secretAccessor` for the server's account, which you grant,
  and `roles/secretmanager.viewer` for the deployer. Without the latter, preflight cannot check the secret and warns.
"""


def table(head: list[str], body: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *body))


def roles(action: str, target: str, **choices: object) -> deployer_roles.RoleSet:
    return deployer_roles.smallest(permissions.needed(action, TARGETS[target].permissions, **(USUAL | choices)))


def overview() -> str:
    body = [
        [f"`{target}`", TITLES[action], "<br>".join(f"`{name}`" for name in roles(action, target).roles)]
        for target in TARGETS
        for action in permissions.ACTIONS
    ]
    return "## Roles\n\n" + table(["target", "action", "roles on the project"], body)


def differences() -> str:
    """Return how the roles depend on variables and on the project."""
    body = []
    for title, (choices, targets) in CHOICES.items():
        found: dict[tuple[str, str], list[str]] = {}
        for target in targets:
            for action in permissions.ACTIONS:
                usual, other = set(roles(action, target).roles), set(roles(action, target, **choices).roles)
                if usual != other:
                    where = found.setdefault((_names(other - usual), _names(usual - other)), [])
                    where.append(f"{TITLES[action]} (`{target}`)")
        body += [[title, "<br>".join(where), *pair] for pair, where in found.items()]
    head = ["what", "action", "roles in addition", "roles that are not needed"]
    return "## What depends on variables\n\n" + table(head, body)


def _names(names: set[str]) -> str:
    return "<br>".join(f"`{name}`" for name in sorted(names)) or "none"


def details(target: str) -> str:
    """Return the section of a target: commands and permissions."""
    parts = [
        f"## {TARGETS[target].title}",
        "`PROJECT` is the id of the project, `MEMBER` for example `serviceAccount:EMAIL`.",
    ]
    for action in permissions.ACTIONS:
        lines = deployer_roles.commands("PROJECT", "MEMBER", roles(action, target))
        parts.append(f"### {TITLES[action]} ({TARGETS[target].title})")
        parts.append("\n".join([f"{PLAYBOOKS[action]}:", "", "```shell", *lines, "```"]))
    rows = {action: permissions.rows(action, TARGETS[target].permissions, **USUAL) for action in permissions.ACTIONS}
    body = []
    for name in sorted(set().union(*rows.values())):
        method = next((found[name] for found in rows.values() if found.get(name)), "")
        body.append([f"`{name}`", f"`{method}`" if method else "", *("x" if name in rows[a] else "" for a in rows)])
    head = ["permission", "method that needs it", *(action.replace("_", " ") for action in rows)]
    parts += [f"### Permissions ({TARGETS[target].title})", table(head, body)]
    return "\n\n".join(parts)


def page() -> str:
    """Return the text of docs/permissions.md."""
    parts = [INTRODUCTION.strip(), overview(), differences(), BEYOND.strip(), *(details(target) for target in TARGETS)]
    return "\n\n".join(parts) + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--check", action="store_true", help="write nothing; exit status 1 when the page is out of date")
    group.add_argument("--update", action="store_true", help="write the predefined roles from ../shared/iam as well")
    options = parser.parse_args(arguments)
    if options.update:
        if not SOURCE.is_file():
            sys.exit("../shared/iam/roles.json does not exist")
        DATA.write_text(module())
        # The page is made of the new roles, which this process has not read.
        return subprocess.run([sys.executable, __file__], check=False).returncode
    text = page()
    if options.check:
        if not PAGE.is_file() or PAGE.read_text() != text:
            print(f"{PAGE.relative_to(ROOT)} is out of date: run scripts/permissions.py")
            return 1
        return 0
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
