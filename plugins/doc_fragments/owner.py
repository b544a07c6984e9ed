# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    # Ownership: the option group OWNER of module_utils/_options.py.
    DOCUMENTATION = r"""
options:
  owner:
    description:
      - Labels that mark the resources of one owner, for example C(managed-by=mlplatform-gcp),
        C(mlflow-deployment=mlflow) and C(mlflow-env=dev).
      - A new resource gets them. A kind without labels is marked elsewhere - a service account in its description, a
        version of App Engine in its environment variable C(MLFLOW_DEPLOYMENT).
      - An existing resource that has them is managed. One that lacks them belongs to another owner, and is neither
        changed nor deleted unless O(adopt=true); the task fails.
      - Without O(owner) the owner of a resource is not checked.
    type: dict
    version_added: 0.3.0
  adopt:
    description:
      - Whether an existing resource of another owner is adopted. Its settings become what the options say. It keeps its
        labels, its description, its display name, the values of secrets, the passwords of users, and the access that
        others have; it is never deleted.
      - With a secret or a database user and without O(owner), a value or password that this collection did not set is
        kept.
    type: bool
    default: false
"""
