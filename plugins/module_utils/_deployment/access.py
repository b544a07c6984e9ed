# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Access to a deployment, and its service accounts."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.context import Context

# Stands for the principal that runs the playbook.
DEPLOYER = "deployer"
_NO_MEMBERS = "no principal yet: set mlflow_access_members"


@dataclass(frozen=True)
class Account:
    """A service account without keys.

    impersonators  the only members that may act as it; None where the policy of the account is left alone
    """

    account_id: str
    email: str
    member: str
    display_name: str
    adopt: bool
    managed: bool
    impersonators: list[str] | None = None


@dataclass(frozen=True)
class Access:
    """Access to the server.

    kind       iap, iam or password
    members    principals that Identity-Aware Proxy or the invoker role lets through, the client account among them
    summary    one line for the report
    """

    kind: str
    iap: bool
    login: bool
    members: list[str]
    summary: str
    custom_client: bool = False
    client_id_secret: str = ""
    client_secret_secret: str = ""


def access(context: Context) -> Access:
    """Return the access to the server."""
    members = list(context["mlflow_access_members"])
    listed = ", ".join(members) or _NO_MEMBERS
    summaries = {
        "iap": f"{listed}, after signing in with Google",
        "iam": f"{listed}, with an identity token",
        "password": f"all users with the password in the secret {context.names.login_password_secret}",
    }
    id_secret, secret_secret = context["mlflow_oauth_client_id_secret"], context["mlflow_oauth_client_secret_secret"]
    return Access(
        kind=context["mlflow_access"],
        iap=context.iap,
        login=context.login,
        members=[*members, context.names.member(context.names.client_account)],
        summary=summaries.get(context["mlflow_access"], ""),
        custom_client=context.custom_client,
        client_id_secret=context.existing.usable_secret(id_secret),
        client_secret_secret=context.existing.usable_secret(secret_secret),
    )


def impersonators(context: Context) -> list[str]:
    """Return the members that may act as the client account, with the deployer's own name for ``deployer``."""
    wanted = context["mlflow_impersonators"]
    named = list(dict.fromkeys(item for item in wanted if item != DEPLOYER))
    return named + ([context.existing.caller] if DEPLOYER in wanted and context.existing.caller else [])


def accounts(context: Context) -> tuple[Account, Account]:
    """Return the server's account and the clients'."""
    names = context.names
    title = f"{context['mlflow_name']} ({context['mlflow_env']})"

    def account(part: str, account_id: str, display_name: str, may_act: list[str] | None = None) -> Account:
        return Account(
            account_id=account_id,
            email=names.email(account_id),
            member=names.member(account_id),
            display_name=display_name,
            adopt=context.adopts(part),
            managed=not context.uses(part),
            impersonators=may_act,
        )

    return (
        account("server_account", names.server_account, f"MLflow server of {title}"),
        account("client_account", names.client_account, f"MLflow clients of {title}", impersonators(context)),
    )
