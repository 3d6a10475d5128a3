"""The keys and certificates of a test cluster: one authority, and what it signs."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = datetime.timedelta(days=7)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Files of a private key and of its certificate (or bare public key)."""

    key: Path
    certificate: Path


class Authority:
    """Signs certificates that expire in a week; everything it knows is in one folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _build_name("loam-test-authority")
        authority = (
            self._start(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_allow_signing(), critical=True)
        )
        self.certificate = folder / "authority.crt"
        self.certificate.write_bytes(_to_pem(authority.sign(self._key, hashes.SHA256())))

    def sign_server(self, name: str, hosts: list[str]) -> KeyPair:
        """A certificate for a server that is reached by these names and addresses."""
        names = x509.SubjectAlternativeName([_to_general_name(host) for host in hosts])
        return self._sign(name, _build_name(name), ExtendedKeyUsageOID.SERVER_AUTH, names)

    def sign_client(self, name: str, group: str) -> KeyPair:
        """A certificate by which Kubernetes knows a user and the user's group."""
        subject = _build_name(name, group)
        return self._sign(name, subject, ExtendedKeyUsageOID.CLIENT_AUTH, None)

    def create_token_keys(self) -> KeyPair:
        """What the API server signs ServiceAccount tokens with: a key and its public half."""
        key = ec.generate_private_key(ec.SECP256R1())
        pair = KeyPair(self._folder / "tokens.key", self._folder / "tokens.pub")
        _write_key(key, pair.key)
        pair.certificate.write_bytes(
            key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
        return pair

    def _sign(
        self,
        name: str,
        subject: x509.Name,
        usage: x509.ObjectIdentifier,
        names: x509.SubjectAlternativeName | None,
    ) -> KeyPair:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._start(subject, key).add_extension(
            x509.ExtendedKeyUsage([usage]), critical=False
        )
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        pair = KeyPair(self._folder / f"{name}.key", self._folder / f"{name}.crt")
        _write_key(key, pair.key)
        pair.certificate.write_bytes(_to_pem(builder.sign(self._key, hashes.SHA256())))
        return pair

    def _start(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + LIFETIME)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )


def _build_name(common_name: str, organization: str = "") -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organization:
        parts.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(parts)


def _allow_signing() -> x509.KeyUsage:
    return x509.KeyUsage(
        key_cert_sign=True,
        crl_sign=True,
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _to_general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _to_pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _write_key(key: ec.EllipticCurvePrivateKey, path: Path) -> None:
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
