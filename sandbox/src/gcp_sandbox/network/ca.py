# SPDX-License-Identifier: Apache-2.0
"""The sandbox's certificate authority, made at first start, and a certificate for each host name that a client uses."""

from __future__ import annotations

import os
import re
import ssl
from pathlib import Path

import certifi
import trustme

from gcp_sandbox.config import Settings, write_private

# A context holds a key and a certificate; more host names than this in one run are a client that tries names.
_LIMIT = 1024
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class Authority:
    """Issues certificates; its own is `settings.ca_certificate`, and `settings.ca_bundle` adds the public CAs."""

    def __init__(self, settings: Settings) -> None:
        key = settings.ca_certificate.with_name("ca.key")
        if key.exists() and settings.ca_certificate.exists():
            self._ca = trustme.CA.from_pem(settings.ca_certificate.read_bytes(), key.read_bytes())
        else:
            self._ca = trustme.CA(
                organization_name="gcp-sandbox", organization_unit_name="local CA, trust nowhere else"
            )
            write_private(key, self._ca.private_key_pem.bytes())
            write_private(settings.ca_certificate, self._ca.cert_pem.bytes())
        bundle = b"".join([*_public(settings.ca_bundle), self._ca.cert_pem.bytes()])
        if not settings.ca_bundle.exists() or settings.ca_bundle.read_bytes() != bundle:
            write_private(settings.ca_bundle, bundle)
        self._contexts: dict[str, ssl.SSLContext] = {}

    def context(self, host: str) -> ssl.SSLContext:
        """Return a server context with a certificate for exactly this name."""
        found = self._contexts.get(host)
        if found is None:
            found = self._new_context()
            self._ca.issue_cert(host).configure_cert(found)
            if len(self._contexts) < _LIMIT:
                self._contexts[host] = found
        return found

    def server_context(self) -> ssl.SSLContext:
        """Return a context for a listening socket; it selects the certificate by the client's server name (SNI)."""
        context = self._new_context()
        self._ca.issue_cert("localhost", "127.0.0.1").configure_cert(context)

        def pick(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
            if name and name != "localhost":
                connection.context = self.context(name.lower())

        context.sni_callback = pick
        return context

    @staticmethod
    def _new_context() -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        return context


def _public(own: Path) -> list[bytes]:
    """Return the CAs that programs trust without the sandbox: certifi's, and those of the machine where it names some.

    Each once: programs read the bundle for every new session, and it takes them as long as it is large.
    """
    files = [Path(certifi.where())]
    named = os.environ.get("SSL_CERT_FILE")
    if named and Path(named) != own and Path(named).is_file():
        files.append(Path(named))
    found: dict[bytes, None] = {}
    for file in files:
        found.update(dict.fromkeys(_PEM.findall(file.read_bytes().replace(b"\r", b""))))
    return [pem + b"\n" for pem in found]
