# SPDX-License-Identifier: Apache-2.0
"""For the sandbox's own tests of databases: statements over a driver's connection."""

from __future__ import annotations

import contextlib
from typing import Any


def ask(connection: Any, statement: str) -> list[tuple]:
    """Run one statement over a connection of psycopg2 or PyMySQL, commit, close it, and return the rows."""
    with contextlib.closing(connection), connection.cursor() as cursor:
        cursor.execute(statement)
        rows = cursor.fetchall() if cursor.description else ()
        connection.commit()
        return list(rows)
