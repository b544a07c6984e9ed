# SPDX-License-Identifier: Apache-2.0
"""What all services share: routing and checking by Google's discovery documents, identity, operations, errors."""
