# SPDX-License-Identifier: Apache-2.0
"""How a client gets here: the certificate authority, the CONNECT proxy, the TLS port and the front door."""
