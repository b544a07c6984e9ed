# SPDX-License-Identifier: Apache-2.0
"""`migrate` works; the server ends at once and says why."""

import sys

if sys.argv[1:] != ["migrate"]:
    sys.exit("the frobnicator is not configured")
