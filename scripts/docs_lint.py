# SPDX-License-Identifier: Apache-2.0
"""Run antsibull-docs on the documentation of modules, plugins and roles: python scripts/docs_lint.py

antsibull-docs takes a link in plugins/action for a redirect of the module of that name, and then does not find the
module. The links are one action plugin under the names of its modules, and no redirect, so they are left out here.
"""

from __future__ import annotations

import pathlib
import sys

from antsibull_docs.cli import antsibull_docs
from antsibull_docs.docs_parsing import routing

ROOT = pathlib.Path(__file__).resolve().parent.parent
find_symlink_redirects = routing.find_symlink_redirects


def without_actions(collection_name: str, plugin_type: str, directory_path: str) -> dict[str, str]:
    if plugin_type == "action":
        return {}
    return find_symlink_redirects(collection_name, plugin_type, directory_path)


def main() -> int:
    routing.find_symlink_redirects = without_actions
    options = ["--plugin-docs", "--validate-collection-refs=self", "--skip-rstcheck"]
    return antsibull_docs.run(["antsibull-docs", "lint-collection-docs", *options, str(ROOT)])


if __name__ == "__main__":
    sys.exit(main())
