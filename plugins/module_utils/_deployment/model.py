# Copyright: (c) 2026, the mlplatform.gcp authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A deployment, computed once from its variables and from what exists.

:func:`compute` is pure: it reads nothing and changes nothing. The module ``deployment`` runs it in the controller, and
the roles carry out what it returns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment import (
    data,
    keys,
    names,
    network,
    removal,
    server,
    sizing,
    validation,
    values,
    variables,
)
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.access import Access, Account, access, accounts
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.context import Context
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.existing import Existing, Made
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.grants import grants
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.lock import Lock, lock
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.problems import Problem
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.requirements import (
    Requirements,
    encrypted,
    reading,
    requirements,
)
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.rules import cloudsql
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.rules import deployment as rules
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.targets import TARGETS
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.targets.base import Server, Target, number

# Actions of a run: ``deploy`` creates and changes, ``destroy`` removes, ``read`` (verify, status) only reads.
ACTIONS = ("deploy", "destroy", "read")


@dataclass(frozen=True)
class Observed:
    """What the pure model cannot know by itself.

    report          what ``preflight_info`` returned, or None before it ran
    made            what the run has created so far
    planned         whether the run only plans (check mode)
    content_tag     hash of what the image is built from
    image_context   folder of the build context that comes with the collection
    secret_content_tag, secret_image_context  the same of the context for an image that reads further secrets by name
    """

    report: Mapping[str, Any] | None = None
    made: Mapping[str, Any] | None = None
    planned: bool = False
    content_tag: str = ""
    image_context: str = ""
    secret_content_tag: str = ""
    secret_image_context: str = ""


@dataclass(frozen=True)
class TargetInfo:
    """The target of a deployment, or another target with a server to retire."""

    name: str
    role: str
    title: str


@dataclass(frozen=True)
class Deployment:
    """Everything that follows from a deployment's variables and from what exists.

    id        its name and its environment, the beginning of most names
    owner     labels by which it recognizes its own resources
    labels    all labels of its resources
    accounts  service accounts that the deployment creates, as the role ``service_accounts`` takes them
    encryption  rights of Google's agents on the keys that encrypt its resources
    prepares  whether APIs or these rights are missing in the project
    google       whether its data are on Google Cloud, so that there is a project to read
    lock      what lets one run at a time change the deployment; None without a lock
    retire    other targets with a server to remove after this one runs
    incomplete  whether preflight must run again once the APIs are enabled
    planned     whether the run only plans (check mode)
    server    the server on its target; see ``targets.base.Server``
    removal   what ``destroy`` does, and ``target`` in it what the target removes
    report    lines for the end of a deployment
    serving   what must answer at the address, as ``mlflow_server_info`` takes it
    referenced  roles on resources that the deployment does not create, and on the repository of the image
    grants    all roles that it grants, as ``iam_bindings_info`` takes them
    """

    name: str
    env: str
    id: str
    production: bool
    project: str
    region: str
    owner: dict[str, str]
    labels: dict[str, str]
    target: TargetInfo
    google: bool
    access: Access
    server_account: Account
    client_account: Account
    bucket: data.Bucket
    database: data.Database
    secrets: data.Secrets
    image: data.Image
    migration: data.Migration
    accounts: list[dict[str, Any]]
    encryption: keys.Keys
    prepares: bool
    server: dict[str, Any]
    requirements: Requirements
    disabled_services: list[str]
    incomplete: bool
    planned: bool
    removal: dict[str, Any]
    lock: Lock | None = None
    retire: list[TargetInfo] = field(default_factory=list)
    report: list[str] = field(default_factory=list)
    verify: dict[str, Any] = field(default_factory=dict)
    serving: dict[str, Any] = field(default_factory=dict)
    referenced: list[dict[str, Any]] = field(default_factory=list)
    grants: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Computed:
    """The outcome: a deployment, or only problems where the variables do not even name a target.

    warnings  deprecated and unknown variables
    """

    deployment: Deployment | None
    problems: list[Problem]
    warnings: list[str]

    @property
    def askable(self) -> bool:
        """Whether the variables name a project and resources that can be read from Google Cloud."""
        return self.deployment is not None and not any(item.variable in _ASKING for item in self.problems)

    def as_dict(self) -> dict[str, Any]:
        """Return the outcome in plain types."""
        return (asdict(self.deployment) if self.deployment else {}) | {
            "problems": [asdict(problem) for problem in self.problems],
        }


def compute(given: Mapping[str, Any], observed: Observed, *, action: str = "deploy") -> Computed:
    """Return the deployment that follows from its variables.

    :param given: variables by name as Ansible has them, templates evaluated; unset ones are left out.
    :param action: one of :data:`ACTIONS`.
    """
    read, problems, deprecated = values.read(given)
    unknown = variables.unknown(given)
    warnings = [f"{problem.what} {problem.next}" for problem in deprecated]
    warnings += rules.doubts(read) if action == "deploy" else []
    if read["mlflow_strict_variables"]:
        problems = problems + unknown
    else:
        warnings += [f"{problem.what} {problem.next}" for problem in unknown]
    target = TARGETS.get(read["mlflow_target"])
    if target is None:
        return Computed(None, [*problems, _no_target(read["mlflow_target"])], warnings)

    named = names.derive(read)
    existing, made = Existing.from_report(observed.report), Made.from_results(observed.made, named.user)
    new = target.new(read["gcp_region"])
    context = Context(read, named, existing, made, new, action == "deploy")
    derived = target.derived(context)
    if target.google:
        derived = named.by_variable() | {"mlflow_database_version": context.database_version} | derived
    in_use = values.in_use(given, target.name)
    problems = [*problems, *validation.check(read, derived, target.name, in_use, target.check(read))]
    if not target.google:
        problems = [item for item in problems if not item.variable.startswith("gcp_")]
    problems = list(dict.fromkeys(problems))
    # Problems are reported; the rest is computed as if those variables were not set.
    context = replace(context, values=_without(read, problems, in_use))
    sized = _size(context, target)
    if action == "destroy":
        problems = removal.problems(context) + [item for item in problems if item.variable in _NAMING]
    elif action == "deploy":
        for refused, doubted in [judge(context) for judge in (_flags, _triggers, _keys) if target.google]:
            problems, warnings = [*problems, *refused], [*warnings, *doubted]
        problems = problems or _conflicts(context, target) + _network(context, target) + target.problems(context, sized)
    return Computed(_deployment(context, target, sized, observed, action), problems, warnings)


def _without(read: Mapping[str, Any], problems: Iterable[Problem], in_use: Mapping[str, str]) -> dict[str, Any]:
    """Return the values with the default of each variable that has a problem."""
    newer = {old: new for new, old in in_use.items()}
    wrong = {newer.get(problem.variable, problem.variable) for problem in problems}
    defaults, _problems, _deprecated = values.read({}) if wrong else ({}, [], [])
    return {name: defaults[name] if name in wrong else value for name, value in read.items()}


# The variables that are necessary to read the existing resources.
_ASKING = frozenset({"gcp_project", "gcp_region", "mlflow_name", "mlflow_target"})
# The variables that a removal depends on: what is wrong with others does not prevent it.
_NAMING = frozenset({"gcp_project", "gcp_region", "mlflow_name", "mlflow_env", "mlflow_target", "mlflow_destroy_data"})


def _no_target(given: Any) -> Problem:
    return Problem(
        "mlflow_target",
        f"mlflow_target is {given!r}, which is not a target of this collection.",
        f"Set it to one of {', '.join(TARGETS)}.",
    )


def _size(context: Context, target: Target) -> sizing.Sizing:
    try:
        limit = sizing.max_connections(
            context["cloudsql_tier"] or context["mlflow_database_tier"],
            context.database_version,
            context["cloudsql_flags"],
        )
    except ValueError:
        limit = sizing.RESERVED_CONNECTIONS  # reported by the rules of the flags
    return sizing.size(
        limit,
        instances=number(context["mlflow_max_instances"], target.instances[1]),
        workers=context["mlflow_workers"],
        pool_size=context["mlflow_pool_size"],
        overflow=context["mlflow_pool_overflow"],
    )


def _flags(context: Context) -> tuple[list[Problem], list[str]]:
    """Return problems and warnings about database flags. Those of an instance that is only used are not set."""
    listed = context.existing.resource("sql_flags", context.database_version) or {}
    given = {} if context.uses("database") else context["cloudsql_flags"]
    return cloudsql.check_listed(given, listed.get("flags") or {}, context.database_version)


def _conflicts(context: Context, target: Target) -> list[Problem]:
    """Return what is wrong with variables together, and with variables and what exists."""
    found = list(keys.problems(context, encrypted(context, target), target.kms_key)) if target.google else []
    version, exists = context["mlflow_database_version"], context.found_instance.get("version")
    if version and exists and version != exists:
        found.append(
            Problem(
                "mlflow_database_version",
                f"mlflow_database_version is {version}, and the instance {context.names.instance} runs {exists}.",
                "Leave mlflow_database_version out to keep it. A major upgrade is made in Cloud SQL, and another engine"
                " needs another instance.",
            )
        )
    found += _stopped(context)
    if context.existing.number and not context.existing.caller and "deployer" in context["mlflow_impersonators"]:
        found.append(
            Problem(
                "mlflow_impersonators",
                "mlflow_impersonators has deployer, and Google does not report the principal of these credentials.",
                "Name the member instead (user:EMAIL or serviceAccount:EMAIL), or use credentials with the scope"
                ' "email".',
            )
        )
    return found


def _triggers(context: Context) -> tuple[list[Problem], list[str]]:
    """Return the problem, or the warning, that MySQL rejects the triggers of MLflow's schema (error 1419).

    The flag is set on an instance of the deployment. A database with tables may have the triggers.
    """
    flag, names, instance = "log_bin_trust_function_creators", context.names, context.found_instance
    flags = instance.get("flags", {}) | ({} if context.uses("database") else context["cloudsql_flags"])
    adopted = context.adopted("database", "sql_instance", names.instance)
    ours = context.builds and not context["mlflow_image_context"]
    fine = not (context.mysql and adopted and instance.get("binary_log")) or flags.get(flag) == "on"
    if fine or not ours or context.existing.resource("cloud_run_job", names.migration_job):
        return [], []
    command = f"gcloud sql instances patch {names.instance} --database-flags={flag}=on --project={context.project}"
    problem = Problem(
        "mlflow_ownership" if context.uses("database") else "cloudsql_flags",
        f"The instance {names.instance} writes binary logs and rejects the triggers of MLflow's schema, because its"
        f" flag {flag} is not on.",
        f"Have its owner set it, with the other flags that the instance has ({command}). It needs no restart."
        if context.uses("database")
        else f"Add {flag} with the value on to cloudsql_flags. It needs no restart.",
    )
    exists = context.existing.resource("sql_database", f"{names.instance}/{names.database}")
    return ([], [f"{problem.what} {problem.next}"]) if exists else ([problem], [])


def _keys(context: Context) -> tuple[list[Problem], list[str]]:
    """Return no problem, and a warning where MLflow encrypts with the passphrase of all installations."""
    given = context["mlflow_server_env"].keys() | context["mlflow_server_secret_env"].keys()
    if context.encryption_keys or context["mlflow_encryption_keys"] is False or server.GATEWAY_KEY in given:
        return [], []
    return [], [
        "This deployment was made without encryption keys of its own: MLflow protects the API keys of its gateway with"
        " its default passphrase, and a restart loses the secrets of webhooks. Set mlflow_encryption_keys=true for"
        " generated keys. API keys that are encrypted already must be encrypted again with `mlflow crypto rotate-kek`:"
        " see docs/server.md. With mlflow_encryption_keys=false it stays as it is, without this warning."
    ]


def _network(context: Context, target: Target) -> list[Problem]:
    return list(network.problems(context)) if target.google else []


# Cloud SQL ends these by itself.
_PASSING = ("MAINTENANCE", "REPAIRING")


def _stopped(context: Context) -> list[Problem]:
    """Return the problem that the instance is stopped, or that one which is only used is not ready, if so."""
    instance, policy = context.found_instance, "cloudsql_activation_policy"
    name, uses = context.names.instance, context.uses("database")
    if instance.get("activation_policy") == "NEVER" and (uses or context[policy] != "ALWAYS"):
        command = f"gcloud sql instances patch {name} --activation-policy=ALWAYS --project={context.project}"
        by_us = "" if uses else f", or set {policy}=ALWAYS for this and later runs"
        return [Problem(policy, f"The Cloud SQL instance {name} is stopped.", f"Start it ({command}){by_us}.")]
    if uses and instance.get("state") in _PASSING:
        what = f"The Cloud SQL instance {name} is in the state {instance['state']}, which ends by itself."
        command = f"gcloud sql instances describe {name} --project={context.project}"
        return [Problem("mlflow_ownership", what, f"Wait until it is RUNNABLE ({command}), and run again.")]
    return []


def _deployment(context: Context, target: Target, sized: sizing.Sizing, observed: Observed, action: str) -> Deployment:
    bucket = data.bucket(context, target.bindings(context))
    server_account, client_account = accounts(context)
    built = observed.content_tag, observed.image_context
    if not target.mounts_secrets and server.reads_further_secrets(context):
        built = observed.secret_content_tag, observed.secret_image_context
    image = data.image(context, *built, target.pullers(context))
    secrets, database = data.secrets(context, bucket.uri), data.database(context, target.clients(context))
    others = [other for other in TARGETS.values() if other is not target]
    others = others if context["mlflow_retire_other_targets"] else []
    running = target.server(context, bucket.uri, sized)
    encryption = keys.keys(context, encrypted(context, target))
    who = access(context)
    removed = target.removal(context)
    if action == "deploy":
        needed = requirements(context, target, others, image)
    else:
        needed = removal.requirements(context, target) if action == "destroy" else reading(context, target)
    own = [(item["type"], item["name"]) for item in target.resources(context)]
    steps = removal.removal(context, image, own)
    retired = [other for other in others if other.api in context.existing.enabled and other.removal(context).exists]
    return Deployment(
        name=context["mlflow_name"],
        env=context["mlflow_env"],
        id=context.names.deployment,
        production=context.production,
        project=context.project,
        region=context.region,
        owner=context.owner,
        labels=context.labels,
        target=_info(target),
        google=target.google,
        access=who,
        server_account=server_account,
        client_account=client_account,
        bucket=bucket,
        database=database,
        secrets=secrets,
        image=image,
        migration=data.migration(context),
        server=asdict(running) | {"image": context.made.image or image.reference},
        accounts=[_account(item) for item in (server_account, client_account) if item.managed],
        encryption=encryption,
        prepares=bool(context.existing.disabled or encryption.bindings),
        requirements=needed,
        disabled_services=list(context.existing.disabled),
        incomplete=context.existing.incomplete,
        planned=observed.planned,
        removal=asdict(steps)
        | {
            "target": asdict(removed),
            "retired": {other.name: asdict(other.removal(context)) for other in retired},
            "report": [*steps.report, *removed.report],
        },
        lock=lock(context, action, steps, removes_server=removed.exists) if target.google else None,
        retire=[_info(other) for other in retired],
        report=_report(context, target, running, who, client_account.email, bucket.uri, planned=observed.planned),
        verify=_verify(context, target, who, client_account.email),
        serving=_serving(context, running, client_account),
        referenced=[{"resource": name, "bindings": secrets.readers} for name in secrets.referenced] + image.read_by,
        grants=grants(
            context,
            bucket=bucket,
            database=database,
            secrets=secrets,
            image=image,
            client=client_account,
            encryption=encrypted(context, target),
            more=running.grants,
        ),
    )


def _account(account: Account) -> dict[str, Any]:
    fields = {"account_id": account.account_id, "display_name": account.display_name, "adopt": account.adopt}
    return fields if account.impersonators is None else fields | {"impersonators": account.impersonators}


def _info(target: Target) -> TargetInfo:
    return TargetInfo(target.name, target.role, target.title)


def _report(
    context: Context, target: Target, running: Server, who: Access, client: str, uri: str, *, planned: bool
) -> list[str]:
    direct = context["mlflow_artifacts"] == "direct"
    most = f", at most {target.request_mib} MiB each" if target.request_mib else ""
    written = "written by clients" if direct else f"through the server{most}"
    lines = [
        ("Access", who.summary),
        ("Programs", f"as {client}, by impersonation"),
        ("Artifacts", f"{uri}, {written}"),
        *running.report,
    ]
    # Without the last slash MLflow redirects browsers to an address that begins with http://.
    address = f"{running.url}/" if running.prefix else running.url
    first = f"MLflow would be deployed at {address}" if planned else f"{'Address:':<13}{address}"
    return [first, *(f"{title + ':':<13}{text}" for title, text in lines)]


def _serving(context: Context, running: Server, client: Account) -> dict[str, Any]:
    skip = running.unreachable
    if not context["mlflow_check_server"]:
        skip = "mlflow_check_server is false"
    # Only what is built from the collection's own files is known to have the version.
    own = not any(context[f"mlflow_image{name}"] for name in ("", "_tag", "_context", "_build_args"))
    return {
        "client_required": client.managed and context.existing.caller in (client.impersonators or []),
        "version": context["mlflow_version"] if own else "",
        "skip": skip,
        "wait_timeout": context["mlflow_verify_timeout"],
    }


def _verify(context: Context, target: Target, who: Access, client: str) -> dict[str, Any]:
    names_ = context.names
    return {
        "access": who.kind,
        "members": list(context["mlflow_access_members"]),
        "client_account": client,
        "username_secret": names_.secret(names_.login_username_secret),
        "password_secret": names_.secret(names_.login_password_secret),
        "oauth_client_id_secret": who.client_id_secret,
        "artifacts": context["mlflow_artifacts"],
        "request_mib": target.request_mib,
        "response_mib": target.response_mib,
    }
