# SPDX-License-Identifier: Apache-2.0
"""`python -m gcp_sandbox` is `gcp-sandbox`."""

import sys

from gcp_sandbox.cli import main

if __name__ == "__main__":
    sys.exit(main())
