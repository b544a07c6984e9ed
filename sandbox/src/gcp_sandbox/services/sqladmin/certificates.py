# SPDX-License-Identifier: Apache-2.0
"""The certificate authority of an instance, in the form of cloud.google.com/sql/docs/postgres/manage-ssl-instance.

No server here speaks TLS: clients only read the certificate, and nothing is signed with its key.
"""

from __future__ import annotations

import datetime
import functools
import uuid
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from gcp_sandbox.gateway.times import timestamp

LIFETIME = datetime.timedelta(days=3650)


def server_ca(connection_name: str, created: str) -> dict[str, Any]:
    """Return the fields of `serverCaCert` that the certificate decides.

    :param connection_name: project:region:instance.
    :param created: when the instance was created, RFC 3339.
    """
    start = datetime.datetime.fromisoformat(created).replace(microsecond=0)
    qualifier = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{connection_name} {created}"))
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.DN_QUALIFIER, qualifier),
            x509.NameAttribute(NameOID.COMMON_NAME, "Google Cloud SQL Server CA"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Google, Inc"),
            x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
        ]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(_key().public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(_key(), hashes.SHA256())
    )
    return {
        "cert": certificate.public_bytes(serialization.Encoding.PEM).decode(),
        "certSerialNumber": "0",
        "commonName": name.rfc4514_string(),
        "createTime": timestamp(start.timestamp()),
        "expirationTime": timestamp((start + LIFETIME).timestamp()),
        "sha1Fingerprint": certificate.fingerprint(hashes.SHA1()).hex(),
    }


@functools.cache
def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)
