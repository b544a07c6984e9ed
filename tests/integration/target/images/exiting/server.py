# SPDX-License-Identifier: Apache-2.0
"""Exit with an error message; `migrate` succeeds."""

import sys

if sys.argv[1:] != ["migrate"]:
    sys.exit("the frobnicator is not configured")
