# SPDX-License-Identifier: Apache-2.0
"""What makes services real: databases, objects, processes. A backend is built with the sandbox and has start() and stop()."""
