# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options ``bindings`` and ``bindings_authoritative`` of a module for a resource with an IAM policy."""

from __future__ import annotations

from ansible_collections.mlplatform.gcp.plugins.module_utils import _policy
from ansible_collections.mlplatform.gcp.plugins.module_utils._catalogue.kinds import policy_name


def ensure(task, remote, result):
    """Make the policy of a resource agree with the task's bindings, after the resource itself. Return its result.

    :param remote: the resource, as its own ``ensure`` has left it: with its relation to the task's owner.
    :param result: what became of the resource; the changes of the policy are added.
    """
    bindings = task.params["bindings"]
    if not bindings:
        return result
    policy = _policy.ensure(
        task,
        policy_name(remote),
        bindings,
        authoritative=task.params["bindings_authoritative"],
        relation=remote.relation,
    )
    return result.add(policy)
