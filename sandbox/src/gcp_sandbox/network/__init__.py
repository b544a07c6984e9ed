# SPDX-License-Identifier: Apache-2.0
"""The network side: certificate authority, CONNECT proxy, TLS port, reverse proxy for browsers, control socket."""
