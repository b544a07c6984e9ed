# SPDX-License-Identifier: Apache-2.0
"""The command line."""


def main() -> int:
    """Entry point of `gcp-sandbox`."""
    raise SystemExit("gcp-sandbox: the commands are not written yet")
