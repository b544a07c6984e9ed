# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Properties of a resource kind in addition to reading and changing one resource."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

ANYWHERE = "*"


def by_name(project, name, location):
    """Return the names of a resource that has a name, and a location if its path has one."""
    return {"project": project, "name": name, "location": location}


def inside(parent, last="name"):
    """Return a function for names such as ``INSTANCE/DATABASE``."""

    def names(project, name, location):
        first, _slash, second = name.rpartition("/")
        return {"project": project, parent: first, last: second, "location": location}

    return names


@dataclass(frozen=True)
class Kind:
    """One kind of resource.

    resource  its :class:`Resource`: paths, IAM permissions, owner mark
    items     field of a list's answer that holds the resources; empty where they cannot be listed
    names     (project, name, location) -> names that fill the resource's paths
    location  body -> where the resource is; None for a kind without locations
    place     normalises a location for comparison
    state     body -> (state or None, whether the state is a problem)
    facts     (remote, body) -> more facts about an existing resource; may send requests
    shared    whether the resource belongs to the project and not to one deployment
    moving    the way out when the resource is in another location
    create    permission that a new one needs, where not every deployment creates one
    policy    template of the full resource name by which its IAM policy is found; empty where it has none
    iap       the same for the policy of Identity-Aware Proxy, where ``{number}`` is the project's number
    related   name -> function (remote, body) that returns the address of what belongs to a resource, or None
    governed  template of the full name of the resource with the IAM policy that grants access to it; empty for none
    above     the same for resources between it and its project
    readers   predefined roles that read it
    granted   permission to set the policy of ``governed``, where a deployment grants access to it; empty where not
    unlisted  remote -> why it may exist although the API does not list it, or an empty string; may send requests
    """

    resource: Any
    items: str = ""
    names: Callable = by_name
    location: Callable | None = None
    place: Callable = str.lower
    state: Callable = lambda body: (None, False)
    facts: Callable = lambda remote, body: {}
    shared: bool = False
    moving: str = "choose another name"
    create: str = ""
    policy: str = ""
    iap: str = ""
    related: Mapping[str, Callable] = field(default_factory=dict)
    governed: str = ""
    above: tuple = ()
    readers: tuple = ()
    granted: str = ""
    unlisted: Callable = lambda remote: ""

    @property
    def service(self):
        """The API that has the resource, such as ``run.googleapis.com``."""
        return self.resource.base.split("/")[2]

    @property
    def lenient(self):
        """Whether a resource may belong to this owner though it is inside something of another owner."""
        return getattr(self.resource.mark, "lenient", False)

    def policy_name(self, kind, names):
        """Return the full resource name of the ``policy`` or ``iap_policy`` of one resource; empty where it has none.

        https://cloud.google.com/iam/docs/full-resource-names
        """
        return {"policy": self.policy, "iap_policy": self.iap}[kind].format(**names)


def from_name(body):
    """Return the location in a name such as ``projects/p/locations/l/services/s``."""
    return body["name"].split("/")[3]


def state_in(name, *, bad=()):
    """Return a ``Kind.state`` that reads one field."""

    def state(body):
        value = body.get(name)
        return value, value in bad

    return state
