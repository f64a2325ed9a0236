"""A certificate authority of our own, so that a user trusts one file on each computer, once.

The server's certificate is renewed every year; what the computers trust is the authority that
signs it. Its key lies on the proxy's disk, so its certificate says for which names it counts (name
constraints, RFC 5280 §4.2.1.10): whoever steals the key can pose as this proxy, but not as a bank.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from proxy.adapters.certificate_files import key_pem, read_key, write_durably
from proxy.adapters.certificate_names import (
    COMMON_NAME_LIMIT,
    CertificateName,
    common_name,
    constraints_for,
    may_sign,
    names_in,
    own_names,
    parsed,
    shortened,
)
from proxy.domain.errors import BadConfig
from proxy.domain.timekeeping import EARLIEST

AUTHORITY_LIFETIME = timedelta(days=3650)
"""Trusting an authority is work by hand on each computer; a short life would only repeat it."""

SERVER_LIFETIME = timedelta(days=397)
"""First to last instant. Apple refuses server certificates of more than 825 days, and those of
more than 398 under the roots it ships; a day less leaves room for how the ends are counted."""

RENEW_BEFORE = timedelta(days=30)
"""A renewal that fails has this long to be noticed and put right."""

EARLIEST_DAY = datetime.fromtimestamp(EARLIEST, UTC)
"""No clock that is right says earlier."""

LONGEST_LIFETIME = timedelta(days=824)
"""Of a server certificate that is made while it is in doubt what time it is."""

CLOCK_SKEW = timedelta(days=1)
"""A device whose clock is behind must not find a certificate not yet valid."""


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    certificate: Path
    """PEM, the chain after it; of our own making: leaf, then the authority."""
    private_key: Path


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Authority:
    """The authority in `data_dir`: ca.pem (may be handed out) and ca.key (0600).

    Any number of them, in any number of processes, may work on one directory. Names are looked up
    with the system's resolver the first time in a process; that can take seconds.
    """

    def __init__(
        self,
        data_dir: Path,
        clock: Callable[[], datetime] = _utc_now,
        latest: Callable[[], datetime] | None = None,
    ) -> None:
        """`latest`: what the time may be as well, where `clock` is not sure of it."""
        self._data_dir = data_dir
        self._clock = clock
        self._latest = latest or clock
        self.ca_file = data_dir / "ca.pem"
        self._ca_key_file = data_dir / "ca.key"
        self._server = CertificateFiles(data_dir / "certificate.pem", data_dir / "private_key.pem")

    def ensure(self, names: Sequence[str] = (), *, even_ended: bool = False) -> Path:
        """The authority's certificate; made at the first call, and then good for `names` as well.

        `even_ended`: its end is no error.

        Raises:
            OSError: the directory cannot be written, or the authority in it cannot be used.
            BadConfig: one of `names` is neither a DNS name nor an IP address.
        """
        asked = parsed(names)
        with self._alone():
            self._authority(asked, even_ended=even_ended)
        return self.ca_file

    def server_certificate(self, names: Sequence[str]) -> CertificateFiles:
        """The server's certificate for our own host names, loopback, and `names` (DNS names or IP
        addresses); made at the first call, and anew, by the same authority, when it is near its
        end, does not cover these names, or does not belong to its key or to the authority. When the
        authority has ended, it stays as it is.

        Raises:
            OSError: the directory cannot be written, or the authority in it cannot be used.
            BadConfig: one of `names` is neither a DNS name nor an IP address, or lies outside what
                the authority may sign for. Nothing has changed.
        """
        asked = parsed(names)
        with self._alone():
            ca = self._authority(asked, even_ended=True)
            if self._has_ended(ca):
                if self._leaf(ca) is None:
                    self._authority(asked)
                return self._server
            if outside := [name for name in asked if not may_sign(ca, name)]:
                raise BadConfig([self._outside(name) for name in outside])
            own = [name for name in own_names() if may_sign(ca, name)]
            wanted = list(dict.fromkeys([*asked, *own]))
            if not self._serves(ca, wanted):
                self._make_server_certificate(ca, wanted)
        return self._server

    def device_certificate(self, login: str) -> tuple[bytes, x509.Certificate]:
        """A key (PEM, PKCS #8, not encrypted) and its certificate for TLS client authentication.

        `login` is ACCOUNT+DEVICE. It becomes the common name, which is there for people to read:
        it is changed where it is too long, or would be taken for a host name. Nothing is kept.

        Raises:
            OSError: the directory cannot be written, or the authority in it cannot be used.
        """
        with self._alone():
            ca = self._authority(())
            ca_key = self._signing_key(ca)
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(common_name(login), key.public_key(), issuer=ca.subject)
        # It ends when its device does, since nobody renews one in a mail program; no clock has a
        # say in that.
        builder = builder.not_valid_before(ca.not_valid_before_utc)
        builder = builder.not_valid_after(ca.not_valid_after_utc)
        builder = _end_entity(builder, ca_key, ExtendedKeyUsageOID.CLIENT_AUTH)
        return key_pem(key), builder.sign(ca_key, hashes.SHA256())

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """`serve` and the commands may come at the same time; the files have to match."""
        self._data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(
            self._data_dir / "ca.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600
        )
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _authority(
        self, asked: Sequence[CertificateName], *, even_ended: bool = False
    ) -> x509.Certificate:
        try:
            ca = x509.load_pem_x509_certificate(self.ca_file.read_bytes())
        except FileNotFoundError:
            return self._make_authority(asked)
        except ValueError:
            raise OSError(f"{self.ca_file}: not a certificate. {self._advice}") from None
        if not self._has_ended(ca):
            return ca
        if ca.not_valid_before_utc < EARLIEST_DAY <= self._clock():
            # A wrong clock has made it, so that no computer could ever trust it for long.
            return self._make_authority(asked)
        if even_ended:
            return ca
        # Not made anew by itself: the clock may be what is wrong, and the loss would be for good.
        end = f"{ca.not_valid_after_utc:%Y-%m-%d}"
        raise OSError(f"{self.ca_file}: its time ended on {end}. {self._advice}")

    def _has_ended(self, ca: x509.Certificate) -> bool:
        return ca.not_valid_after_utc <= self._clock()

    def _make_authority(self, asked: Sequence[CertificateName]) -> x509.Certificate:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = shortened(f"pop3-sync-proxy on {socket.gethostname()}", COMMON_NAME_LIMIT)
        builder = _builder(subject, key.public_key(), issuer=None)
        now = self._clock()
        # Valid under the right clock as well, should this one be wrong: trust is given only once.
        ca = (
            builder.not_valid_before(min(now - CLOCK_SKEW, EARLIEST_DAY))
            .not_valid_after(max(now, EARLIEST_DAY) + AUTHORITY_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(authority=True), critical=True)
            # The names bind servers; this keeps the key from signing programs and mail.
            .add_extension(
                x509.ExtendedKeyUsage(
                    [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
                ),
                critical=False,
            )
            .add_extension(constraints_for([*asked, *own_names()]), critical=True)
            .sign(key, hashes.SHA256())
        )
        # The certificate comes last: whoever finds it finds the key that belongs to it.
        write_durably(self._ca_key_file, key_pem(key), mode=0o600)
        write_durably(self.ca_file, ca.public_bytes(serialization.Encoding.PEM), mode=0o644)
        return ca

    def _signing_key(self, ca: x509.Certificate) -> ec.EllipticCurvePrivateKey:
        key = read_key(self._ca_key_file)
        # A new authority would be one that no computer trusts: the operator has to know.
        if key is None or key.public_key() != ca.public_key():
            raise OSError(
                f"{self._ca_key_file}: missing, or not the key of {self.ca_file}. Restore it from"
                f" a backup, or give the authority up: {self._advice}"
            )
        return key

    def _leaf(self, ca: x509.Certificate) -> x509.Certificate | None:
        """The server's certificate, if it belongs to its key and to the authority."""
        try:
            pem = self._server.certificate.read_bytes()
            leaf, *chain = x509.load_pem_x509_certificates(pem)
            leaf.verify_directly_issued_by(ca)
        except (FileNotFoundError, ValueError, TypeError, InvalidSignature):
            return None
        key = read_key(self._server.private_key)
        belongs = chain == [ca] and key is not None and key.public_key() == leaf.public_key()
        return leaf if belongs else None

    def _serves(self, ca: x509.Certificate, wanted: Sequence[CertificateName]) -> bool:
        """Whether the server's certificate may stay as it is."""
        leaf = self._leaf(ca)
        if leaf is None:
            return False
        try:
            names = names_in(leaf)
        except (ValueError, TypeError):
            return False
        end = leaf.not_valid_after_utc
        return (
            # One that was made while the clock was ahead.
            leaf.not_valid_before_utc <= self._clock()
            # One that lasts as long as the authority cannot be had any longer.
            and (end - self._late() >= RENEW_BEFORE or end >= ca.not_valid_after_utc)
            and set(wanted) <= set(names)
        )

    def _late(self) -> datetime:
        """The latest that it may be now, as far as one certificate can be valid all the while."""
        now, latest = self._clock(), self._latest()
        return latest if latest - now <= LONGEST_LIFETIME - SERVER_LIFETIME else now

    def _make_server_certificate(
        self, ca: x509.Certificate, names: Sequence[CertificateName]
    ) -> None:
        ca_key = self._signing_key(ca)
        # A key that is there stays: then one write changes all, and nobody, at no instant, finds
        # a certificate with another one's key.
        key = read_key(self._server.private_key)
        if key is None:
            key = ec.generate_private_key(ec.SECP256R1())
            write_durably(self._server.private_key, key_pem(key), mode=0o600)
        texts = (str(name.value) for name in names)
        subject = next(text for text in texts if len(text) <= COMMON_NAME_LIMIT)
        builder = _builder(subject, key.public_key(), issuer=ca.subject)
        builder = builder.not_valid_before(self._clock() - CLOCK_SKEW)
        end = self._late() - CLOCK_SKEW + SERVER_LIFETIME
        builder = builder.not_valid_after(min(end, ca.not_valid_after_utc))
        builder = _end_entity(builder, ca_key, ExtendedKeyUsageOID.SERVER_AUTH)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        leaf = builder.sign(ca_key, hashes.SHA256())
        chain = b"".join(one.public_bytes(serialization.Encoding.PEM) for one in (leaf, ca))
        write_durably(self._server.certificate, chain, mode=0o644)

    def _outside(self, name: CertificateName) -> str:
        return f"{name.value}: {self.ca_file} may not sign for this name. {self._advice}"

    @property
    def _advice(self) -> str:
        return (
            f"Remove {self.ca_file}, and a new one is made at the next start; each computer must"
            " then trust the new one, and devices with a certificate need a new one"
        )


def _builder(
    common_name: str, public_key: ec.EllipticCurvePublicKey, *, issuer: x509.Name | None
) -> x509.CertificateBuilder:
    """`issuer` None: it signs itself."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _end_entity(
    builder: x509.CertificateBuilder,
    ca_key: ec.EllipticCurvePrivateKey,
    purpose: x509.ObjectIdentifier,
) -> x509.CertificateBuilder:
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    return (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(identifier, critical=False)
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


# --- Files -------------------------------------------------------------------------------------
