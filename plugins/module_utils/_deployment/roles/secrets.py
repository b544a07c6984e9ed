# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role secrets."""

from __future__ import annotations

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.roles import _shared
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.spec import RoleSpec, Variable

ROLE = RoleSpec(
    name="secrets",
    short_description="Secrets in Secret Manager, given or generated",
    description=(
        "Creates secrets with a payload that is given, read from a file, generated, or filled into a template.",
        "A generated payload is written to Secret Manager and to no other place.",
        "Registers C(secrets_managed). Its C(results) have the C(version) of each secret, never its payload.",
    ),
    registers=("secrets_managed",),
    variables=(
        _shared.state("Whether the secrets should exist.", "secrets"),
        Variable(
            "secrets_list",
            "list",
            ("The secrets. Each has one of C(payload), C(payload_file), C(generate) and C(template).",),
            required=True,
            elements="dict",
            rule="secret_source",
            options=(
                Variable("name", "str", ("Name of the secret.",), required=True, rule="secret_id"),
                Variable(
                    "payload",
                    "str",
                    ("The payload, which is kept out of all output. A change makes a new version.",),
                    no_log=True,
                ),
                Variable("payload_file", "path", ("Path of a file with the payload.",)),
                Variable(
                    "generate",
                    "dict",
                    ("How to generate the payload, once.",),
                    options=(
                        Variable("length", "int", ("Number of characters.",), minimum=8, maximum=65536),
                        Variable("alphabet", "str", ("The characters to choose from.",)),
                        Variable(
                            "encoding",
                            "str",
                            ("With V(base64url), C(length) random bytes in URL-safe Base64.",),
                            choices=("base64url",),
                        ),
                    ),
                ),
                Variable(
                    "template",
                    "str",
                    (
                        "The payload, with placeholders like C({name}), or C({name:url}) for a value that is quoted for"
                        " a URL.",
                        "Without placeholders it is a payload that may be shown, such as an address.",
                    ),
                ),
                Variable(
                    "template_secrets",
                    "dict",
                    ("The secret, or the version of one, that fills each placeholder.",),
                    elements="str",
                    rule="secret",
                ),
                Variable(
                    "bindings",
                    "list",
                    ("Roles on the secret.",),
                    elements="dict",
                    options=_shared.BINDING,
                ),
            ),
        ),
        Variable(
            "secrets_labels",
            "dict",
            ("Labels of the secrets, besides those of their owner.",),
            default={},
            elements="str",
            rule="labels",
        ),
        Variable(
            "secrets_replication_locations",
            "list",
            (
                "Regions of the payloads. Empty leaves that to Google.",
                "In a deployment the default for new secrets is where its existing secrets are, or else C(gcp_region).",
            ),
            elements="str",
            rule="region",
        ),
        Variable(
            "secrets_kms_keys",
            "list",
            (
                "Keys of Cloud KMS that encrypt new versions, one in each of O(secrets_replication_locations), or one"
                " in C(global) where that is empty.",
                "In a deployment the default is C(mlflow_kms_key).",
            ),
            default=[],
            elements="str",
            no_log=False,
            rule="kms_key",
        ),
        *_shared.ownership("secrets", "the secrets"),
    ),
)
