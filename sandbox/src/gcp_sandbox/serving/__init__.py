# SPDX-License-Identifier: Apache-2.0
"""What Cloud Run and App Engine share: instances kept running, and requests brought to them."""
