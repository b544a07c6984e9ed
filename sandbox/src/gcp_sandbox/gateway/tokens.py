# SPDX-License-Identifier: Apache-2.0
"""JSON Web Tokens, RSA and EC key pairs and their certificates: what identities are made of, without any state."""

from __future__ import annotations

import base64
import datetime
import json
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.x509.oid import NameOID

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

# Google's certificates of user-managed keys carry this as "no expiry".
FOREVER = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)


class InvalidToken(Exception):
    """The token is malformed or its signature is not the key's."""


def b64encode(data: bytes) -> str:
    """URL-safe base64 without padding, as JWTs have it."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def b64decode(text: str) -> bytes:
    """Decode the result of `b64encode`; raises InvalidToken."""
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError as error:
        raise InvalidToken("Invalid base64") from error


def split(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return header and payload of a JWT without a check of its signature."""
    try:
        header, payload, _ = token.split(".")
        parts = json.loads(b64decode(header)), json.loads(b64decode(payload))
    except (ValueError, UnicodeDecodeError) as error:
        raise InvalidToken("Not a JSON Web Token") from error
    if not all(isinstance(part, dict) for part in parts):
        raise InvalidToken("Not a JSON Web Token")
    return parts


def encode(payload: dict[str, Any] | str, key: PrivateKey, key_id: str) -> str:
    """Return a signed JWT: RS256 with an RSA key, ES256 with an EC key. A string payload is signed as it stands."""
    algorithm = "RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256"
    header = json.dumps({"alg": algorithm, "kid": key_id, "typ": "JWT"}, separators=(",", ":"))
    text = payload if isinstance(payload, str) else json.dumps(payload, separators=(",", ":"))
    signed = f"{b64encode(header.encode())}.{b64encode(text.encode())}"
    return f"{signed}.{b64encode(sign(signed.encode(), key))}"


def verify(token: str, key: PublicKey) -> dict[str, Any]:
    """Return the payload of a JWT signed by `key`; raises InvalidToken. Claims are the caller's to check."""
    _, payload = split(token)
    signed, _, signature = token.rpartition(".")
    raw = b64decode(signature)
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(raw, signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        else:
            half = len(raw) // 2
            der = utils.encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))
            key.verify(der, signed.encode(), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise InvalidToken("Invalid signature") from error
    return payload


def sign(data: bytes, key: PrivateKey) -> bytes:
    """SHA-256 with PKCS#1 v1.5, or the raw r||s of ES256 (RFC 7518, 3.4)."""
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, padding.PKCS1v15(), hashes.SHA256())
    r, s = utils.decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def private_pem(key: PrivateKey) -> str:
    """PKCS#8, unencrypted: the form in a service account's key file."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def public_pem(key: PublicKey) -> str:
    """SubjectPublicKeyInfo."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def load_private(pem: str) -> PrivateKey:
    """Return the key of `private_pem`."""
    return serialization.load_pem_private_key(pem.encode(), None)


def load_public(pem: str) -> PublicKey:
    """Return the public key of a certificate or a SubjectPublicKeyInfo; raises ValueError."""
    if "BEGIN CERTIFICATE" in pem:
        return x509.load_pem_x509_certificate(pem.encode()).public_key()
    return serialization.load_pem_public_key(pem.encode())


def certificate(key: rsa.RSAPrivateKey, common_name: str, *, start: datetime.datetime, end: datetime.datetime) -> str:
    """Return a self-signed certificate, PEM: the form in which Google publishes the keys of service accounts."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
        .decode()
    )


def jwk(key: PublicKey, key_id: str) -> dict[str, str]:
    """Return the key as in a JWK set (RFC 7517)."""
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        modulus = numbers.n.to_bytes((key.key_size + 7) // 8, "big")
        exponent = numbers.e.to_bytes((numbers.e.bit_length() + 7) // 8, "big")
        parts = {"n": b64encode(modulus), "e": b64encode(exponent)}
        return {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": key_id, **parts}
    point = key.public_numbers()
    parts = {"x": b64encode(point.x.to_bytes(32, "big")), "y": b64encode(point.y.to_bytes(32, "big"))}
    return {"kty": "EC", "alg": "ES256", "crv": "P-256", "use": "sig", "kid": key_id, **parts}
