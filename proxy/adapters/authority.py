"""A certificate authority of our own, so that a user trusts one file on each computer, once.

The server's certificate is renewed every year; what the computers trust is the authority that
signs it. Its key lies on the proxy's disk, so its certificate says for which names it counts (name
constraints, RFC 5280 §4.2.1.10): whoever steals the key can pose as this proxy, but not as a bank.
"""

from __future__ import annotations

import fcntl
import hashlib
import ipaddress
import os
import re
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12 as pkcs12_format
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from proxy.domain.errors import BadConfig

AUTHORITY_LIFETIME = timedelta(days=3650)
"""Trusting an authority is work by hand on each computer; a short life would only repeat it."""

SERVER_LIFETIME = timedelta(days=397)
"""First to last instant. Apple refuses server certificates of more than 825 days, and those of
more than 398 under the roots it ships; a day less leaves room for how the ends are counted."""

DEVICE_LIFETIME = timedelta(days=3650)
"""A device's certificate ends when its device does; nobody renews one in a mail program."""

RENEW_BEFORE = timedelta(days=30)
"""A renewal that fails has this long to be noticed and put right."""

CLOCK_SKEW = timedelta(days=1)
"""A device whose clock is behind must not find a certificate not yet valid."""

PRIVATE_SUFFIXES = ("home.arpa", "local", "lan", "home", "internal", "fritz.box")
"""Domains of home and office networks: reserved for them, or long in use there."""

PRIVATE_NETWORKS = tuple(
    ipaddress.ip_network(text)
    for text in (
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "169.254.0.0/16",
        "::1/128",
        "fc00::/7",
        "fe80::/10",
    )
)

TOP_LEVEL_DOMAINS = frozenset(
    "app apple art audio black blue box cafe cam camera cat center cloud computer cool dev digital"  # noqa: SIM905 - a column of eighty lines says no more
    " dog email family farm fun game games global green guru haus host hosting house link live"
    " media monster network ninja office one online page pet phone pink play plus prod pub red run"
    " secure security services shop site software solar space storage store stream studio support"
    " systems team tech tools top tube video vip watch wiki work world xyz zero zip zone".split()
)
"""Words that people call computers, and under which others have web sites. As a constraint such a
name would let the authority sign for all of them."""

HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*"
    r"(?!\d+\Z)[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?",
)
"""Lower case. A last label of digits alone is an address with a slip in it (RFC 1123 §2.1)."""

LIKE_A_HOST = re.compile(r"[A-Za-z0-9._-]+")

COMMON_NAME_LIMIT = 64
"""Octets (ub-common-name, RFC 5280 appendix A.1)."""

CertificateName = x509.DNSName | x509.IPAddress


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    certificate: Path
    """PEM, the chain after it; of our own making: leaf, then the authority."""
    private_key: Path


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """What people compare when they look at a certificate."""

    subject: str
    """RFC 4514 text; "" when it names nobody."""
    names: tuple[str, ...]
    """DNS names and IP addresses, in the certificate's order."""
    not_after: datetime
    fingerprint: str
    """See `fingerprint`."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Authority:
    """The authority in `data_dir`: ca.pem (may be handed out) and ca.key (0600).

    Any number of them, in any number of processes, may work on one directory. Names are looked up
    with the system's resolver the first time in a process; that can take seconds.
    """

    def __init__(self, data_dir: Path, clock: Callable[[], datetime] = _utc_now) -> None:
        self._data_dir = data_dir
        self._clock = clock
        self.ca_file = data_dir / "ca.pem"
        self._ca_key_file = data_dir / "ca.key"
        self._server = CertificateFiles(data_dir / "certificate.pem", data_dir / "private_key.pem")

    def ensure(self, names: Sequence[str] = ()) -> Path:
        """The authority's certificate; made at the first call, and then good for `names` as well.

        Raises:
            OSError: the directory cannot be written, or the authority in it cannot be used.
            BadConfig: one of `names` is neither a DNS name nor an IP address.
        """
        asked = _parsed(names)
        with self._alone():
            self._authority(asked)
        return self.ca_file

    def server_certificate(self, names: Sequence[str]) -> CertificateFiles:
        """The server's certificate for our own host names, loopback, and `names` (DNS names or IP
        addresses); made at the first call, and anew, by the same authority, when it is near its
        end, does not cover these names, or does not belong to its key or to the authority.

        Raises:
            OSError: the directory cannot be written, or the authority in it cannot be used.
            BadConfig: one of `names` is neither a DNS name nor an IP address, or lies outside what
                the authority may sign for. Nothing has changed.
        """
        asked = _parsed(names)
        with self._alone():
            ca = self._authority(asked)
            if outside := [name for name in asked if not _may_sign(ca, name)]:
                raise BadConfig([self._outside(name) for name in outside])
            own = [name for name in _own_names() if _may_sign(ca, name)]
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
        builder = _builder(_common_name(login), key.public_key(), issuer=ca.subject)
        builder = self._for_the_time(builder, DEVICE_LIFETIME, ca)
        builder = _end_entity(builder, ca_key, ExtendedKeyUsageOID.CLIENT_AUTH)
        return _pem(key), builder.sign(ca_key, hashes.SHA256())

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """`serve` and the commands may come at the same time; the files have to match."""
        self._data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self._data_dir / "ca.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _authority(self, asked: Sequence[CertificateName]) -> x509.Certificate:
        try:
            ca = x509.load_pem_x509_certificate(self.ca_file.read_bytes())
        except FileNotFoundError:
            return self._make_authority(asked)
        except ValueError:
            raise OSError(f"{self.ca_file}: not a certificate. {self._advice}") from None
        # Not made anew by itself: the clock may be what is wrong, and the loss would be for good.
        if ca.not_valid_after_utc <= self._clock():
            end = f"{ca.not_valid_after_utc:%Y-%m-%d}"
            raise OSError(f"{self.ca_file}: its time ended on {end}. {self._advice}")
        return ca

    def _make_authority(self, asked: Sequence[CertificateName]) -> x509.Certificate:
        key = ec.generate_private_key(ec.SECP256R1())
        common_name = _cut(f"pop3-sync-proxy on {socket.gethostname()}", COMMON_NAME_LIMIT)
        builder = _builder(common_name, key.public_key(), issuer=None)
        now = self._clock()
        ca = (
            builder.not_valid_before(now - CLOCK_SKEW)
            .not_valid_after(now + AUTHORITY_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(authority=True), critical=True)
            # The names bind servers; this keeps the key from signing programs and mail.
            .add_extension(
                x509.ExtendedKeyUsage(
                    [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
                ),
                critical=False,
            )
            .add_extension(_constraints([*asked, *_own_names()]), critical=True)
            .sign(key, hashes.SHA256())
        )
        # The certificate comes last: whoever finds it finds the key that belongs to it.
        _write(self._ca_key_file, _pem(key), mode=0o600)
        _write(self.ca_file, ca.public_bytes(serialization.Encoding.PEM), mode=0o644)
        return ca

    def _signing_key(self, ca: x509.Certificate) -> ec.EllipticCurvePrivateKey:
        key = _read_key(self._ca_key_file)
        # A new authority would be one that no computer trusts: the operator has to know.
        if key is None or key.public_key() != ca.public_key():
            raise OSError(
                f"{self._ca_key_file}: missing, or not the key of {self.ca_file}. Restore it from"
                f" a backup, or give the authority up: {self._advice}"
            )
        return key

    def _serves(self, ca: x509.Certificate, wanted: Sequence[CertificateName]) -> bool:
        """Whether the server's certificate may stay as it is."""
        try:
            pem = self._server.certificate.read_bytes()
            leaf, *chain = x509.load_pem_x509_certificates(pem)
            leaf.verify_directly_issued_by(ca)
            names = _names_in(leaf)
        except (FileNotFoundError, ValueError, TypeError, InvalidSignature):
            return False
        key = _read_key(self._server.private_key)
        now, end = self._clock(), leaf.not_valid_after_utc
        return (
            chain == [ca]
            and key is not None
            and key.public_key() == leaf.public_key()
            # One that was made while the clock was ahead.
            and leaf.not_valid_before_utc <= now
            # One that lasts as long as the authority cannot be had any longer.
            and (end - now >= RENEW_BEFORE or end >= ca.not_valid_after_utc)
            and set(wanted) <= set(names)
        )

    def _make_server_certificate(
        self, ca: x509.Certificate, names: Sequence[CertificateName]
    ) -> None:
        ca_key = self._signing_key(ca)
        # A key that is there stays: then one write changes all, and nobody, at no instant, finds
        # a certificate with another one's key.
        key = _read_key(self._server.private_key)
        if key is None:
            key = ec.generate_private_key(ec.SECP256R1())
            _write(self._server.private_key, _pem(key), mode=0o600)
        texts = (str(name.value) for name in names)
        common_name = next(text for text in texts if len(text) <= COMMON_NAME_LIMIT)
        builder = _builder(common_name, key.public_key(), issuer=ca.subject)
        builder = self._for_the_time(builder, SERVER_LIFETIME, ca)
        builder = _end_entity(builder, ca_key, ExtendedKeyUsageOID.SERVER_AUTH)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        leaf = builder.sign(ca_key, hashes.SHA256())
        chain = b"".join(one.public_bytes(serialization.Encoding.PEM) for one in (leaf, ca))
        _write(self._server.certificate, chain, mode=0o644)

    def _for_the_time(
        self, builder: x509.CertificateBuilder, lifetime: timedelta, ca: x509.Certificate
    ) -> x509.CertificateBuilder:
        begin = self._clock() - CLOCK_SKEW
        end = min(begin + lifetime, ca.not_valid_after_utc)
        return builder.not_valid_before(begin).not_valid_after(end)

    def _outside(self, name: CertificateName) -> str:
        return f"{name.value}: {self.ca_file} may not sign for this name. {self._advice}"

    @property
    def _advice(self) -> str:
        return (
            f"Remove {self.ca_file}, and a new one is made at the next start; each computer must"
            " then trust the new one, and devices with a certificate need a new one"
        )


def fingerprint(certificate_pem_path: Path) -> str:
    """SHA-256 of the first certificate (DER), as browsers show it: AB:CD:…

    Raises:
        OSError: the file cannot be read.
        BadConfig: it holds no certificate.
    """
    return _colons(_first(certificate_pem_path))


def describe(path: Path) -> CertificateFacts:
    """The first certificate of a PEM file.

    Raises:
        OSError: the file cannot be read.
        BadConfig: it holds no certificate.
    """
    certificate = _first(path)
    try:
        names = tuple(str(name.value) for name in _names_in(certificate))
    except ValueError as error:
        raise BadConfig([f"{path}: names that cannot be read: {error}"]) from None
    return CertificateFacts(
        subject=certificate.subject.rfc4514_string(),
        names=names,
        not_after=certificate.not_valid_after_utc,
        fingerprint=_colons(certificate),
    )


def pkcs12(private_key: str, certificate: str, authority: str, password: str) -> bytes:
    """One file, under a password, that mail programs import (RFC 7292); the rest is PEM.

    Triple DES and SHA-1 are what every program reads: Windows before 10 and macOS before 15 know
    nothing newer here. What protects the key is the password, which has to be a random one.
    """
    key = serialization.load_pem_private_key(private_key.encode(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("not a key of a device certificate")
    leaf = x509.load_pem_x509_certificate(certificate.encode())
    encryption = (
        serialization.PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(50_000)
        .key_cert_algorithm(pkcs12_format.PBES.PBESv1SHA1And3KeyTripleDESCBC)
        .hmac_hash(hashes.SHA1())  # noqa: S303 - see above
        .build(password.encode())
    )
    (common_name,) = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    ca = x509.load_pem_x509_certificate(authority.encode())
    name = str(common_name.value).encode()
    return pkcs12_format.serialize_key_and_certificates(name, key, leaf, [ca], encryption)


def _first(path: Path) -> x509.Certificate:
    pem = path.read_bytes()
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError:
        raise BadConfig([f"{path}: not a certificate"]) from None


def _colons(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


# --- Names -------------------------------------------------------------------------------------


def _parsed(names: Sequence[str]) -> list[CertificateName]:
    """Raises:
    BadConfig: with every one that is neither a DNS name nor an IP address.
    """
    parsed = [(text, _parse(text)) for text in names]
    if wrong := [text for text, name in parsed if name is None]:
        raise BadConfig(
            [f"{text!r}: neither an IP address nor a DNS name in ASCII" for text in wrong]
        )
    return [name for _, name in parsed if name is not None]


def _parse(text: str) -> CertificateName | None:
    try:
        # A zone (fe80::1%eth0) means something on one machine alone, and has no place in there.
        return x509.IPAddress(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        name = text.lower().removesuffix(".")
        return x509.DNSName(name) if HOST_NAME.fullmatch(name) else None


def _own_names() -> list[CertificateName]:
    """The likeliest to be used first; those that cannot stand in a certificate are left out."""
    host = socket.gethostname()
    texts = [host, _full_name(host), f"{host.partition('.')[0]}.local", "localhost"]
    names = [_parse(text) for text in [*texts, "127.0.0.1", "::1"] if not _is_top_level(text)]
    return list(dict.fromkeys(name for name in names if name is not None))


@lru_cache(maxsize=1)
def _full_name(host: str) -> str:
    # Remembered, since it may ask the network, and the caller has a loop to keep running.
    try:
        return socket.getfqdn(host)
    except UnicodeError:  # Not ASCII, or a label too long to ask for.
        return host


def _is_top_level(name: str) -> bool:
    # Every code of two letters is a country's, or may become one's.
    label = name.lower().removesuffix(".")
    return label in TOP_LEVEL_DOMAINS or (len(label) == 2 and label.isalpha())


def _constraints(names: Sequence[CertificateName]) -> x509.NameConstraints:
    private: list[x509.GeneralName] = [
        *(x509.DNSName(suffix) for suffix in PRIVATE_SUFFIXES),
        *(x509.IPAddress(network) for network in PRIVATE_NETWORKS),
    ]
    permitted = x509.NameConstraints(private, None)
    more = [_as_subtree(name) for name in dict.fromkeys(names) if not _within(permitted, name)]
    return x509.NameConstraints([*private, *more], None)


def _as_subtree(name: CertificateName) -> CertificateName:
    if isinstance(name, x509.DNSName):
        return name
    return x509.IPAddress(ipaddress.ip_network(name.value))


def _may_sign(ca: x509.Certificate, name: CertificateName) -> bool:
    try:
        constraints = ca.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return True
    return _within(constraints, name)


def _within(constraints: x509.NameConstraints, name: CertificateName) -> bool:
    """Only what we make ourselves is looked at: permitted DNS names and networks."""
    return any(_holds(permitted, name) for permitted in constraints.permitted_subtrees or ())


def _holds(permitted: x509.GeneralName, name: CertificateName) -> bool:
    if isinstance(name, x509.DNSName):
        domain = permitted.value if isinstance(permitted, x509.DNSName) else None
        return domain is not None and f".{name.value}".endswith(f".{domain}")
    network = permitted.value if isinstance(permitted, x509.IPAddress) else None
    if isinstance(network, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return name.value in network
    return False


def _names_in(certificate: x509.Certificate) -> list[CertificateName]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [name for name in names if isinstance(name, x509.DNSName | x509.IPAddress)]


def _common_name(login: str) -> str:
    # With no other name to look at, OpenSSL holds a common name that could be a host's against
    # the constraints.
    text = f"login {login}" if LIKE_A_HOST.fullmatch(login) else login
    if len(text.encode()) <= COMMON_NAME_LIMIT:
        return text
    digest = hashlib.sha256(login.encode()).hexdigest()[:16]
    return f"{_cut(text, COMMON_NAME_LIMIT - len(digest) - 1)}~{digest}"


def _cut(text: str, limit: int) -> str:
    """At most so many octets of UTF-8, and no half character."""
    return text.encode(errors="replace")[:limit].decode(errors="ignore")


# --- Certificates ------------------------------------------------------------------------------


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


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey | None:
    """None: there is none that we could have made."""
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (FileNotFoundError, ValueError, TypeError):  # TypeError: it needs a passphrase.
        return None
    return key if isinstance(key, ec.EllipticCurvePrivateKey) else None


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write(path: Path, content: bytes, *, mode: int) -> None:
    """Whole or not at all, also after a crash."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
