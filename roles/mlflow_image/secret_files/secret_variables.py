# SPDX-License-Identifier: Apache-2.0
"""Read every variable that is given by the name of a secret, and run the entrypoint with its value.

`NAME_SECRET_NAME` adds `NAME` with the payload of the secret, unless `NAME` is set. The variables that the
entrypoint reads by name itself are left to it.
"""

import os
import sys

import entrypoint

SUFFIX = "_SECRET_NAME"
# entrypoint.py documents them with (s).
LEFT = {
    "DB_PASSWORD",
    "DB_USERNAME",
    "MLFLOW_AUTH_ADMIN_PASSWORD",
    "MLFLOW_AUTH_ADMIN_USERNAME",
    "MLFLOW_AUTH_DATABASE_URI",
    "MLFLOW_BACKEND_STORE_URI",
    "MLFLOW_FLASK_SERVER_SECRET_KEY",
}


def resolved(environ, read_secret):
    """Return an environment with the payloads of its secrets.

    Raises entrypoint.Refusal for a secret that cannot be read or is empty.
    """
    settings, found = entrypoint.Settings(environ, read_secret), dict(environ)
    for variable in sorted(environ):
        name = variable.removesuffix(SUFFIX)
        if variable.endswith(SUFFIX) and name not in LEFT and environ[variable]:
            found[name] = settings.secret(name, purpose=f"the value of {name}")
    return found


def main(arguments, environ):
    try:
        environ = resolved(environ, entrypoint.read_secret)
    except entrypoint.Refusal as refusal:
        entrypoint.log(f"{' '.join(arguments) or 'serve'} is not possible. {refusal}")
        return 1
    return entrypoint.main(arguments, environ)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], dict(os.environ)))
