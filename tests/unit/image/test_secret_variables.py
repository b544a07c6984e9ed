# SPDX-License-Identifier: Apache-2.0
"""The image that reads all its secrets by name: what it makes of its environment before the entrypoint runs."""

from __future__ import annotations

import importlib
import pathlib
import re

import pytest
from ansible_collections.mlplatform.gcp.plugins.module_utils._deployment.server import ENTRYPOINT_SECRETS

FILES = pathlib.Path(__file__).parents[3] / "roles" / "mlflow_image"
SECRETS = {
    "projects/p/secrets/gateway/versions/3": "a passphrase",
    "projects/p/secrets/token/versions/latest": "a token",
    "projects/p/secrets/empty/versions/latest": "",
}


@pytest.fixture(scope="module")
def program():
    """Return the program, imported beside the entrypoint as in the image."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FILES / "secret_files"))
        yield importlib.import_module("secret_variables")


def test_further_variables_get_their_values_and_those_of_the_entrypoint_are_left_to_it(program):
    environ = {
        "GCP_PROJECT": "p",
        "DB_PASSWORD_SECRET_NAME": "projects/p/secrets/password/versions/1",
        "MLFLOW_CRYPTO_KEK_PASSPHRASE_SECRET_NAME": "projects/p/secrets/gateway/versions/3",
        "TOKEN_SECRET_NAME": "token",
        "SET_SECRET_NAME": "projects/p/secrets/not-read",
        "SET": "already",
        "UNUSED_SECRET_NAME": "",
    }
    found = program.resolved(environ, SECRETS.__getitem__)
    added = {"MLFLOW_CRYPTO_KEK_PASSPHRASE": "a passphrase", "TOKEN": "a token"}
    assert found == environ | added


def test_a_secret_that_is_empty_stops_the_server_with_its_name_and_without_a_value(program, monkeypatch, capsys):
    monkeypatch.setattr(program.entrypoint, "read_secret", SECRETS.__getitem__)
    assert program.main(["serve"], {"GCP_PROJECT": "p", "TOKEN_SECRET_NAME": "empty"}) == 1
    assert "serve is not possible. The secret empty, named by TOKEN_SECRET_NAME, is empty" in capsys.readouterr().err


def test_the_entrypoint_runs_with_the_values(program, monkeypatch):
    monkeypatch.setattr(program.entrypoint, "read_secret", SECRETS.__getitem__)
    seen = []
    monkeypatch.setattr(program.entrypoint, "main", lambda arguments, environ: seen.append((arguments, environ)) or 0)
    assert program.main(["migrate"], {"GCP_PROJECT": "p", "TOKEN_SECRET_NAME": "token"}) == 0
    assert seen == [(["migrate"], {"GCP_PROJECT": "p", "TOKEN_SECRET_NAME": "token", "TOKEN": "a token"})]


def test_what_is_left_to_the_entrypoint_is_what_it_documents(program):
    documented = program.entrypoint.__doc__.partition("Server\n")
    names = re.findall(r"([A-Z_]{4,}) \(s\)", program.entrypoint.__doc__)
    assert documented[0] and set(names) == program.LEFT == ENTRYPOINT_SECRETS


def test_the_image_differs_from_the_usual_one_in_its_program_alone():
    usual, reading = FILES / "files", FILES / "secret_files"
    for name in ("entrypoint.py", "requirements.txt", "requirements.in"):
        assert (reading / name).resolve() == usual / name
    expected = (
        (usual / "Dockerfile").read_text().replace("COPY entrypoint.py", "COPY entrypoint.py secret_variables.py")
    )
    expected = expected.replace("/app/entrypoint.py", "/app/secret_variables.py")

    def steps(text):
        return [line for line in text.splitlines() if line and not line.startswith("#")]

    assert steps((reading / "Dockerfile").read_text()) == steps(expected)
