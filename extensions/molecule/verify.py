# SPDX-License-Identifier: Apache-2.0
"""Print the checks of a scenario, and exit with 1 if one fails: verify.py FOLDER ARGUMENT..."""

import pathlib
import runpy
import sys


def main(folder, *arguments):
    checks = runpy.run_path(str(pathlib.Path(folder) / "checks.py"))["checks"]
    results = []
    for what, good in checks(*arguments):
        print(f"{'ok    ' if good else 'FAILED'} {what}")
        results.append(bool(good))
    return 0 if results and all(results) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
