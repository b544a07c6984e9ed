# SPDX-License-Identifier: Apache-2.0
"""The firewall of an application: rules by priority, and a default rule that is always there."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

from gcp_sandbox.gateway import errors, masks
from gcp_sandbox.gateway.service import method
from gcp_sandbox.services.appengine.base import RULE_KIND, on_project
from gcp_sandbox.services.appengine.common import Common
from gcp_sandbox.services.appengine.runtime import matches

if TYPE_CHECKING:
    from gcp_sandbox.gateway.call import Call

Json = dict[str, Any]

# Int32.MaxValue, the priority of the default rule.
DEFAULT = 2**31 - 1
DEFAULT_RULE: Json = {"priority": DEFAULT, "action": "ALLOW", "sourceRange": "*", "description": "The default action."}
MAX_RULES, MAX_DESCRIPTION = 1000, 400
# A new rule without a priority goes to the end of the list, before the default rule (google.cloud's module sends none:
# https://github.com/ansible-collections/google.cloud/pull/484). The distance is the sandbox's.
STEP = 1000

READ, WRITE = "appengine.applications.get", "appengine.applications.update"


class Firewall(Common):
    """apps.firewall.ingressRules."""

    @method("apps.firewall.ingressRules.list", permission=READ, on=on_project)
    def list_rules(self, call: Call) -> Json:
        rules = self._rules(self.application(call))
        if address := call.query.get("matchingAddress"):
            try:
                ip_address(address)
            except ValueError:
                raise errors.invalid(f"'{address}' is not a valid IP address.") from None
            rules = [rule for rule in rules if matches(rule, address)]
        return call.page(rules, key="ingressRules", default=100, maximum=1000)

    @method("apps.firewall.ingressRules.get", permission=READ, on=on_project)
    def get_rule(self, call: Call) -> Json:
        return self._rule(call)

    @method("apps.firewall.ingressRules.create", permission=WRITE, on=on_project)
    def create_rule(self, call: Call) -> Json:
        app = self.application(call)
        last = max((rule["priority"] for rule in self._rules(app) if rule["priority"] != DEFAULT), default=0)
        rule = self._checked({"priority": min(last + STEP, DEFAULT - 1), **call.body})
        if any(other["priority"] == rule["priority"] for other in self._rules(app)):
            raise errors.already_exists(f"A firewall rule with priority {rule['priority']} already exists.")
        if len(self._rules(app)) >= MAX_RULES:
            raise errors.invalid(f"An application may have at most {MAX_RULES} firewall rules.")
        self._save(app, rule)
        return rule

    @method("apps.firewall.ingressRules.patch", permission=WRITE, on=on_project)
    def patch_rule(self, call: Call) -> Json:
        app, existing = self.application(call), self._rule(call)
        mask = call.query.get("updateMask", "")
        if mask == "*":
            mask = "action,description,sourceRange"
        asked = {key: value for key, value in call.body.items() if mask or key != "priority"}
        rule = self._checked(masks.merge_mask(existing, asked, mask))
        if rule["priority"] != existing["priority"]:
            raise errors.invalid("The priority of a firewall rule cannot be changed.")
        if rule["priority"] == DEFAULT and rule["sourceRange"] != "*":
            raise errors.invalid("The default rule applies to all addresses: only its action can be changed.")
        self._save(app, rule)
        return rule

    @method("apps.firewall.ingressRules.delete", permission=WRITE, on=on_project)
    def delete_rule(self, call: Call) -> Json:
        app, rule = self.application(call), self._rule(call)
        if rule["priority"] == DEFAULT:
            raise errors.invalid("The default firewall rule cannot be deleted.")
        self.store.delete(RULE_KIND, _name(app, rule))
        self.store.after_commit(self.runtime.refresh)
        return {}

    @method("apps.firewall.ingressRules.batchUpdate", permission=WRITE, on=on_project)
    def replace_rules(self, call: Call) -> Json:
        """Replace all rules. Without a last rule for all addresses, one that allows them is added."""
        app = self.application(call)
        rules = sorted((self._checked(rule) for rule in call.body.get("ingressRules", [])), key=lambda r: r["priority"])
        priorities = [rule["priority"] for rule in rules]
        if len(set(priorities)) < len(priorities):
            raise errors.invalid("Two firewall rules have the same priority.")
        if not rules or rules[-1]["sourceRange"] != "*":
            rules.append(dict(DEFAULT_RULE))
        for name, _ in self.store.list(RULE_KIND, parent=app["name"]):
            self.store.delete(RULE_KIND, name)
        for rule in rules:
            self._save(app, rule)
        return {"ingressRules": self._rules(app)}

    # -- private

    def _rules(self, app: Json) -> list[Json]:
        """By priority; the default rule last."""
        rules = [rule for _, rule in self.store.list(RULE_KIND, parent=app["name"])]
        return rules if rules and rules[-1]["priority"] == DEFAULT else [*rules, dict(DEFAULT_RULE)]

    def _rule(self, call: Call) -> Json:
        id = call.params["ingressRulesId"]
        rules = self._rules(self.application(call))
        priority = str(DEFAULT) if id == "default" else id
        found = next((rule for rule in rules if str(rule["priority"]) == priority), None)
        if found is None:
            raise errors.not_found(f"Could not find the firewall rule with priority {id}.")
        return found

    def _save(self, app: Json, rule: Json) -> None:
        self.store.put(RULE_KIND, _name(app, rule), rule, parent=app["name"])
        self.store.after_commit(self.runtime.refresh)

    @staticmethod
    def _checked(asked: Json) -> Json:
        rule = dict(asked)
        if not 1 <= rule.get("priority", 0) <= DEFAULT:
            raise errors.invalid(f"The priority of a firewall rule must be between 1 and {DEFAULT}.")
        if rule.get("action") not in ("ALLOW", "DENY"):
            raise errors.invalid("The action of a firewall rule must be ALLOW or DENY.")
        if len(rule.get("description", "")) > MAX_DESCRIPTION:
            raise errors.invalid(f"The description of a firewall rule may have {MAX_DESCRIPTION} characters.")
        source = rule.get("sourceRange", "")
        if source in ("*", "0/0", "0.0.0.0/0"):
            rule["sourceRange"] = "*" if source == "0/0" else source
            return rule
        try:
            network = ip_network(source, strict=False)
        except ValueError:
            raise errors.invalid(f"The source range '{source}' is neither an IP address nor a range of them.") from None
        # Addresses that are not properly truncated are truncated, as the field's documentation says.
        rule["sourceRange"] = str(network) if "/" in source else source
        return rule


def _name(app: Json, rule: Json) -> str:
    """Names sort as the priorities do."""
    return f"{app['name']}/firewall/{rule['priority']:010d}"
