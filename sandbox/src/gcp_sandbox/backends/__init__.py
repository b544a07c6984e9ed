# SPDX-License-Identifier: Apache-2.0
"""What makes services real: databases, objects, processes. A backend takes the sandbox and has start() and stop()."""
