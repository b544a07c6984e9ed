# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Groups of options that many modules share. Each has a documentation fragment; a test holds the two together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ansible.module_utils.basic import env_fallback


@dataclass(frozen=True)
class Options:
    """An argument spec with the rules that belong to it. ``a + b`` has the options and the rules of both."""

    arguments: Mapping[str, dict] = field(default_factory=dict)
    mutually_exclusive: tuple = ()
    required_together: tuple = ()
    required_one_of: tuple = ()
    required_if: tuple = ()
    required_by: Mapping[str, tuple] = field(default_factory=dict)

    def __add__(self, other):
        return Options(
            dict(self.arguments, **other.arguments),
            self.mutually_exclusive + tuple(other.mutually_exclusive),
            self.required_together + tuple(other.required_together),
            self.required_one_of + tuple(other.required_one_of),
            self.required_if + tuple(other.required_if),
            dict(self.required_by, **other.required_by),
        )

    def rules(self):
        """The rules as keyword arguments of AnsibleModule and of ArgumentSpecValidator."""
        return {
            "mutually_exclusive": [list(rule) for rule in self.mutually_exclusive],
            "required_together": [list(rule) for rule in self.required_together],
            "required_one_of": [list(rule) for rule in self.required_one_of],
            "required_if": [list(rule) for rule in self.required_if],
            "required_by": {key: list(value) for key, value in self.required_by.items()},
        }


def _option(env=None, **spec):
    """One option; ``env`` are the environment variables that it falls back on, the first that is set wins."""
    if env:
        spec["fallback"] = (env_fallback, list(env))
    return spec


# Documented in the fragment mlplatform.gcp.gcp. The variables are those of the google.cloud collection (GCP_*) and of
# AWX's Google credential type (GCE_*); the project also from where Google's own tools look.
GCP = Options(
    {
        "project": _option(["GCP_PROJECT", "GCE_PROJECT", "GOOGLE_CLOUD_PROJECT"], type="str"),
        "auth_kind": _option(
            ["GCP_AUTH_KIND"],
            type="str",
            choices=["application", "serviceaccount", "accesstoken", "machineaccount"],
        ),
        "service_account_file": _option(["GCP_SERVICE_ACCOUNT_FILE", "GCE_CREDENTIALS_FILE_PATH"], type="path"),
        "service_account_contents": _option(["GCP_SERVICE_ACCOUNT_CONTENTS"], type="jsonarg", no_log=True),
        "service_account_email": _option(["GCP_SERVICE_ACCOUNT_EMAIL", "GCE_EMAIL"], type="str"),
        "access_token": _option(["GCP_ACCESS_TOKEN"], type="str", no_log=True),
        "scopes": _option(["GCP_SCOPES"], type="list", elements="str"),
        "impersonate_service_account": _option(
            ["GCP_IMPERSONATE_SERVICE_ACCOUNT", "GOOGLE_IMPERSONATE_SERVICE_ACCOUNT"], type="str"
        ),
        "quota_project": _option(["GCP_QUOTA_PROJECT", "GOOGLE_CLOUD_QUOTA_PROJECT"], type="str"),
        "lock": _option(type="dict"),
    },
)

# Documented in the fragment mlplatform.gcp.wait.
WAIT = Options({"wait": {"type": "bool", "default": True}, "wait_timeout": {"type": "int", "default": 1800}})

# Documented in the fragment mlplatform.gcp.state.
STATE = Options({"state": {"type": "str", "choices": ["present", "absent"], "default": "present"}})

# Documented in the fragment mlplatform.gcp.labels.
LABELS = Options({"labels": {"type": "dict"}})

# Documented in the fragment mlplatform.gcp.owner.
OWNER = Options({"owner": {"type": "dict"}, "adopt": {"type": "bool", "default": False}})

# Documented in the fragment mlplatform.gcp.use.
USE = Options({"use": {"type": "bool", "default": False}})

# Documented in the fragment mlplatform.gcp.bindings.
BINDINGS = {
    "role": {"type": "str", "required": True},
    "members": {"type": "list", "elements": "str", "default": []},
    "condition": {
        "type": "dict",
        "options": {
            "title": {"type": "str", "required": True},
            "expression": {"type": "str", "required": True},
            "description": {"type": "str"},
        },
    },
}

# Documented in the fragments mlplatform.gcp.bindings and mlplatform.gcp.policy.
POLICY = Options(
    {
        "bindings": {"type": "list", "elements": "dict", "options": BINDINGS},
        "bindings_authoritative": {"type": "bool", "default": False},
    }
)
