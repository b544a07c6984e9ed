# SPDX-License-Identifier: Apache-2.0
"""Run antsibull-docs on the collection: python scripts/antsibull.py COMMAND [OPTION...]

antsibull-docs takes a redirect of an action plugin for one of the module of the same name, and would look for the
options of all our modules in a module that does not exist: meta/runtime.yml redirects their actions to one plugin.
"""

from __future__ import annotations

import sys

from antsibull_docs.cli import antsibull_docs
from antsibull_docs.docs_parsing import routing

if __name__ == "__main__":
    # Actions have no pages of their own, so their routing is only in the way.
    routing._merge_action_into_modules = lambda plugin_routing: plugin_routing.pop("action")
    sys.exit(antsibull_docs.run(["antsibull-docs", *sys.argv[1:]]))
