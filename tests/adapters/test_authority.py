"""Our own authority: what it signs is believed by those who trust one file, and by them alone."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from multiprocessing.pool import ThreadPool
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12 as pkcs12_format
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from proxy.adapters import authority as authority_module
from proxy.adapters import certificate_files, certificate_names
from proxy.adapters.authority import Authority, CertificateFiles
from proxy.adapters.certificate import client_context, device_context, server_context
from proxy.adapters.certificate_files import describe, fingerprint, pkcs12
from proxy.domain.errors import BadConfig
from tests.needs import need

NAME = "pop.example.org"
ADDRESS = "203.0.113.7"
"""A public one: inside the constraints only because it was asked for."""
GIVEN = (NAME, ADDRESS)
HOST = "attic"


@dataclass(slots=True)
class Clock:
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Gives the machine another name; it begins as `HOST`."""

    def rename(name: str, full: str) -> None:
        certificate_names._full_name.cache_clear()
        monkeypatch.setattr(socket, "gethostname", lambda: name)
        monkeypatch.setattr(socket, "getfqdn", lambda _="": full)

    rename(HOST, f"{HOST}.example.net")
    yield rename
    certificate_names._full_name.cache_clear()


@pytest.fixture
def openssl() -> str:
    return need("openssl")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def chain_of(files: CertificateFiles) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(files.certificate.read_bytes())


def private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def strict_client(ca_file: Path) -> ssl.SSLContext:
    """Trusts this one file, and asks what Python 3.13 and careful programs ask."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca_file)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


def device_client(ca_file: Path, key: bytes, certificate: x509.Certificate) -> ssl.SSLContext:
    context = strict_client(ca_file)
    both = ca_file.parent / "device.pem"
    both.write_bytes(key + certificate.public_bytes(serialization.Encoding.PEM))
    context.load_cert_chain(both)
    return context


async def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> str:
    """The common name that the client has shown, "" for none; the server is called `name`."""

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        shown = writer.get_extra_info("peercert") or {}
        subject = dict(pair for part in shown.get("subject", ()) for pair in part)
        writer.write(subject.get("commonName", "").encode() + b"\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0, ssl=server) as listening:
        port = listening.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=client, server_hostname=name
        )
        try:
            line = await reader.readline()
        finally:
            writer.close()
    if not line:
        raise ConnectionResetError("the server has hung up")
    return line.decode().rstrip("\n")


def forged(data_dir: Path, *names: x509.GeneralName, common_name: str) -> CertificateFiles:
    """A server certificate that a thief of ca.key has signed, asking nobody."""
    ca = x509.load_pem_x509_certificate((data_dir / "ca.pem").read_bytes())
    ca_key = private_key(data_dir / "ca.key")
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    made = CertificateFiles(data_dir / "forged.pem", data_dir / "forged.key")
    leaf = builder.sign(ca_key, hashes.SHA256())
    made.certificate.write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    made.private_key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return made


def context_of(files: CertificateFiles) -> ssl.SSLContext:
    return server_context(files.certificate, files.private_key)


# --- Who is believed ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["localhost", "127.0.0.1", "::1", HOST, f"{HOST}.local", f"{HOST}.example.net", *GIVEN],
)
async def test_who_trusts_the_authority_alone_connects_by_every_name(
    tmp_path: Path, name: str
) -> None:
    authority = Authority(tmp_path)
    server = context_of(authority.server_certificate(GIVEN))
    await handshake(server, strict_client(authority.ca_file), name)


@pytest.mark.parametrize("name", ["pop.example.com", "www.pop.example.org", "203.0.113.8"])
async def test_another_name_is_refused(tmp_path: Path, name: str) -> None:
    authority = Authority(tmp_path)
    server = context_of(authority.server_certificate(GIVEN))
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        await handshake(server, strict_client(authority.ca_file), name)


async def test_who_trusts_the_system_s_roots_alone_refuses_us(tmp_path: Path) -> None:
    server = context_of(Authority(tmp_path).server_certificate([]))
    with pytest.raises(ssl.SSLCertVerificationError):
        await handshake(server, client_context(""), "localhost")


async def test_another_authority_s_server_is_refused(tmp_path: Path) -> None:
    server = context_of(Authority(tmp_path / "one").server_certificate([]))
    other = Authority(tmp_path / "two").ensure()
    with pytest.raises(ssl.SSLCertVerificationError):
        await handshake(server, strict_client(other), "localhost")


@pytest.mark.parametrize("how", ["-verify_hostname=localhost", f"-verify_ip={ADDRESS}"])
def test_openssl_verifies_the_chain(tmp_path: Path, openssl: str, how: str) -> None:
    authority = Authority(tmp_path)
    files = authority.server_certificate(GIVEN)
    command = [openssl, "verify", "-x509_strict", "-purpose", "sslserver", *how.split("=")]
    command += ["-no-CApath", "-no-CAstore", "-CAfile", str(authority.ca_file)]
    subprocess.run([*command, str(files.certificate)], check=True, capture_output=True)


@pytest.mark.parametrize(("name", "code"), [(NAME, 0), ("pop.example.com", 1)])
async def test_openssl_connects_by_our_names_only(
    tmp_path: Path, openssl: str, name: str, code: int
) -> None:
    authority = Authority(tmp_path)
    server = context_of(authority.server_certificate(GIVEN))

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0, ssl=server) as listening:
        port = listening.sockets[0].getsockname()[1]
        client = await asyncio.create_subprocess_exec(
            *(openssl, "s_client", "-connect", f"127.0.0.1:{port}", "-verify_return_error"),
            *("-x509_strict", "-verify_hostname", name, "-CAfile", str(authority.ca_file)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        assert await client.wait() == code


# --- What a thief of the authority's key gets --------------------------------------------------


@pytest.mark.parametrize(
    ("name", "common_name"),
    [
        (x509.DNSName("www.google.com"), "www.google.com"),
        (x509.DNSName("example.org"), "example.org"),
        (x509.DNSName("evil-pop.example.org"), "localhost"),
        (x509.IPAddress(ipaddress.ip_address("8.8.8.8")), "localhost"),
        (x509.IPAddress(ipaddress.ip_address("2001:4860:4860::8888")), "localhost"),
        (x509.IPAddress(ipaddress.ip_address("203.0.113.8")), "localhost"),
        (None, "www.google.com"),
    ],
)
async def test_the_authority_s_key_signs_for_nobody_else(
    tmp_path: Path, name: x509.DNSName | x509.IPAddress | None, common_name: str
) -> None:
    authority = Authority(tmp_path)
    authority.server_certificate(GIVEN)
    names = [name] if name is not None else []
    server = context_of(forged(tmp_path, *names, common_name=common_name))
    client = strict_client(authority.ca_file)
    called = str(name.value) if name is not None else common_name
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
        await handshake(server, client, called)


async def test_a_forgery_inside_the_constraints_is_what_they_let_through(tmp_path: Path) -> None:
    # That the forgeries above fail for their names, and for nothing else.
    authority = Authority(tmp_path)
    authority.server_certificate(GIVEN)
    server = context_of(forged(tmp_path, x509.DNSName("nas.home.arpa"), common_name="nas"))
    await handshake(server, strict_client(authority.ca_file), "nas.home.arpa")


@pytest.mark.parametrize("name", ["dev", "Zip", "io", "de"])
def test_a_computer_called_like_a_top_level_domain_does_not_open_it(
    tmp_path: Path, host: Callable[[str, str], None], name: str
) -> None:
    host(name, name)
    authority = Authority(tmp_path)
    files = authority.server_certificate([])
    assert f"{name.lower()}.local" in describe(files.certificate).names
    assert name.lower() not in describe(files.certificate).names
    with pytest.raises(BadConfig):
        authority.server_certificate([f"www.{name}"])


# --- What is in them ---------------------------------------------------------------------------


def test_the_authority_lasts_ten_years_and_signs_servers_and_devices_only(tmp_path: Path) -> None:
    clock = Clock()
    ca = x509.load_pem_x509_certificate(Authority(tmp_path, clock).ensure().read_bytes())
    assert ca.subject.rfc4514_string() == f"CN=pop3-sync-proxy on {HOST}"
    assert ca.not_valid_after_utc == clock.now.replace(microsecond=0) + timedelta(days=3650)
    basic = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
    usage = ca.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.key_cert_sign
    assert usage.value.crl_sign
    assert not usage.value.digital_signature
    assert ca.extensions.get_extension_for_class(x509.NameConstraints).critical
    purposes = ca.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(purposes) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}


def test_the_server_s_certificate_began_yesterday_and_lasts_397_days(tmp_path: Path) -> None:
    clock = Clock()
    authority = Authority(tmp_path, clock)
    files = authority.server_certificate(GIVEN)
    leaf, ca = chain_of(files)
    assert ca == x509.load_pem_x509_certificate(authority.ca_file.read_bytes())
    assert leaf.not_valid_before_utc == clock.now.replace(microsecond=0) - timedelta(days=1)
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == timedelta(days=397)
    assert leaf.subject.rfc4514_string() == f"CN={NAME}"
    key = leaf.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"


def test_its_names_are_those_asked_for_and_then_our_own(tmp_path: Path) -> None:
    files = Authority(tmp_path).server_certificate(["POP.Example.org.", "192.168.1.9", NAME])
    own = (HOST, f"{HOST}.example.net", f"{HOST}.local", "localhost", "127.0.0.1", "::1")
    assert describe(files.certificate).names == (NAME, "192.168.1.9", *own)


@pytest.mark.parametrize("name", ["grün", "my computer", "h" * 64, "", "ho\udcffst"])
def test_a_host_name_that_fits_no_certificate_is_left_out(
    tmp_path: Path, host: Callable[[str, str], None], name: str
) -> None:
    host(name, name)
    files = Authority(tmp_path).server_certificate([])
    assert describe(files.certificate).names == ("localhost", "127.0.0.1", "::1")
    context_of(files)


def test_a_host_name_that_cannot_be_looked_up_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: str) -> str:
        raise UnicodeError("label too long")

    monkeypatch.setattr(socket, "getfqdn", fail)
    files = Authority(tmp_path).server_certificate([])
    assert HOST in describe(files.certificate).names


def test_keys_are_the_owner_s_alone(tmp_path: Path) -> None:
    data_dir = tmp_path / "new" / "data"
    authority = Authority(data_dir)
    files = authority.server_certificate([])
    modes = {path.name: path.stat().st_mode & 0o777 for path in data_dir.iterdir()}
    assert modes == {
        "ca.key": 0o600,
        "ca.lock": 0o600,
        "ca.pem": 0o644,
        files.certificate.name: 0o644,
        files.private_key.name: 0o600,
    }
    assert data_dir.stat().st_mode & 0o777 == 0o700


def test_facts_and_fingerprint_are_those_openssl_shows(tmp_path: Path, openssl: str) -> None:
    files = Authority(tmp_path).server_certificate(GIVEN)
    facts = describe(files.certificate)
    command = [openssl, "x509", "-noout", "-fingerprint", "-sha256", "-in", str(files.certificate)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert facts.fingerprint == fingerprint(files.certificate) == said.strip().partition("=")[2]
    assert facts.subject == f"CN={NAME}"
    assert facts.not_after == chain_of(files)[0].not_valid_after_utc


def test_a_file_that_is_no_certificate_has_no_facts(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    for look in (describe, fingerprint):
        with pytest.raises(BadConfig, match=r"empty\.pem: not a certificate"):
            look(tmp_path / "empty.pem")
        with pytest.raises(FileNotFoundError):
            look(tmp_path / "missing.pem")


# --- When they are made anew -------------------------------------------------------------------


def test_the_second_call_changes_nothing(tmp_path: Path) -> None:
    files = Authority(tmp_path).server_certificate(GIVEN)
    before = contents(tmp_path)
    assert Authority(tmp_path).server_certificate(GIVEN) == files
    # Fewer names are covered as well.
    assert Authority(tmp_path).server_certificate([]) == files
    assert Authority(tmp_path).ensure() == tmp_path / "ca.pem"
    assert contents(tmp_path) == before


@pytest.mark.parametrize(("days_left", "renewed"), [(31, False), (29, True), (-1, True)])
def test_it_is_renewed_by_the_same_authority_near_its_end(
    tmp_path: Path, days_left: int, renewed: bool
) -> None:
    clock = Clock()
    authority = Authority(tmp_path, clock)
    files = authority.server_certificate(GIVEN)
    before, trusted = chain_of(files)[0], authority.ca_file.read_bytes()
    clock.now = before.not_valid_after_utc - timedelta(days=days_left)
    authority.server_certificate(GIVEN)
    after = chain_of(files)[0]
    assert (after != before) is renewed
    assert after.not_valid_after_utc - clock.now >= timedelta(days=30)
    assert authority.ca_file.read_bytes() == trusted
    context_of(files)


def test_one_made_while_the_clock_was_ahead_is_made_anew(tmp_path: Path) -> None:
    clock = Clock()
    authority = Authority(tmp_path, clock)
    authority.ensure()
    clock.now += timedelta(days=300)
    files = authority.server_certificate([])
    clock.now -= timedelta(days=300)
    authority.server_certificate([])
    assert chain_of(files)[0].not_valid_before_utc < clock.now


WRONG = {
    "1970": datetime(1970, 1, 1, 0, 0, 9, tzinfo=UTC),
    "before the program": datetime(2020, 1, 1, tzinfo=UTC),
    "ahead": datetime.now(UTC) + timedelta(days=400),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_an_authority_made_by_a_wrong_clock_is_good_under_the_right_one(
    tmp_path: Path, wrong: str
) -> None:
    clock = Clock(WRONG[wrong])
    authority = Authority(tmp_path, clock)
    authority.server_certificate(GIVEN)
    _, device = authority.device_certificate("alice+laptop")
    made = authority.ensure().read_bytes()
    clock.now = datetime.now(UTC)
    files = authority.server_certificate(GIVEN)
    leaf, ca = chain_of(files)
    assert authority.ensure().read_bytes() == made, "computers trust it already"
    for each in (leaf, ca, device):
        assert each.not_valid_before_utc <= clock.now
    assert min(ca.not_valid_after_utc, device.not_valid_after_utc) - clock.now > timedelta(2000)
    assert leaf.not_valid_after_utc - clock.now >= timedelta(days=30)


def test_a_certificate_is_valid_whenever_it_may_be_now(tmp_path: Path) -> None:
    clock, latest = Clock(), Clock()
    authority = Authority(tmp_path, clock, latest)
    before = chain_of(authority.server_certificate([]))[0]
    latest.now += timedelta(days=380)
    files = authority.server_certificate([])
    leaf = chain_of(files)[0]
    assert leaf != before
    assert leaf.not_valid_before_utc < clock.now
    assert leaf.not_valid_after_utc - latest.now >= timedelta(days=30)
    authority.server_certificate([])
    assert chain_of(files)[0] == leaf


@pytest.mark.parametrize("days", [100, 800, 4000, 30_000])
def test_a_certificate_stays_though_the_clock_may_be_ahead(tmp_path: Path, days: int) -> None:
    clock, latest = Clock(), Clock()
    authority = Authority(tmp_path, clock, latest)
    authority.server_certificate([])
    before = contents(tmp_path)
    latest.now += timedelta(days=days)
    authority.server_certificate([])
    assert contents(tmp_path) == before


def test_what_there_is_still_serves_when_the_authority_has_ended(tmp_path: Path) -> None:
    clock = Clock()
    authority = Authority(tmp_path, clock)
    files = authority.server_certificate([])
    before = contents(tmp_path)
    clock.now = datetime(2100, 1, 1, tzinfo=UTC)
    context_of(authority.server_certificate([]))
    authority.ensure(even_ended=True)
    assert contents(tmp_path) == before
    files.certificate.unlink()
    with pytest.raises(OSError, match="its time ended"):
        authority.server_certificate([])


def test_an_authority_that_ended_before_it_could_be_used_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As earlier versions made them in 1970."""
    clock = Clock(WRONG["1970"])
    authority = Authority(tmp_path, clock)
    with monkeypatch.context() as earlier:
        earlier.setattr(authority_module, "EARLIEST_DAY", clock.now)
        authority.server_certificate(GIVEN)
    made = authority.ca_file.read_bytes()
    clock.now += timedelta(days=5000)
    with pytest.raises(OSError, match="its time ended"):
        authority.ensure()
    clock.now = datetime.now(UTC)
    files = authority.server_certificate(GIVEN)
    assert authority.ca_file.read_bytes() != made
    leaf, ca = chain_of(files)
    leaf.verify_directly_issued_by(ca)
    assert ca.not_valid_after_utc - clock.now >= timedelta(days=3649)


def test_nothing_outlasts_the_authority(tmp_path: Path) -> None:
    clock = Clock()
    authority = Authority(tmp_path, clock)
    authority.ensure()
    clock.now += timedelta(days=3640)
    leaf, ca = chain_of(authority.server_certificate([]))
    assert leaf.not_valid_after_utc == ca.not_valid_after_utc
    assert authority.device_certificate("a+b")[1].not_valid_after_utc == ca.not_valid_after_utc
    # Nothing better is to be had, so it stays.
    before = contents(tmp_path)
    authority.server_certificate([])
    assert contents(tmp_path) == before


def test_an_authority_at_its_end_says_what_to_do_and_stays(tmp_path: Path) -> None:
    clock = Clock()
    authority = Authority(tmp_path, clock)
    authority.server_certificate([])
    before = contents(tmp_path)
    clock.now += timedelta(days=3650)
    for ask in (authority.ensure, lambda: authority.device_certificate("a+b")):
        with pytest.raises(OSError, match=r"its time ended on .*Remove .*ca\.pem"):
            ask()
    assert contents(tmp_path) == before
    authority.ca_file.unlink()
    context_of(authority.server_certificate([]))


def test_new_names_are_taken_in_by_the_same_authority(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    files = authority.server_certificate([])
    trusted = authority.ca_file.read_bytes()
    more = ["mail.lan", "192.168.7.7", "fd00::7", "nas.fritz.box"]
    authority.server_certificate(more)
    assert set(more) <= set(describe(files.certificate).names)
    assert authority.ca_file.read_bytes() == trusted
    context_of(files)


@pytest.mark.parametrize(
    "name", ["pop.example.com", "example.org", "xpop.example.org", "8.8.8.8", "2001:db8::1", "lan2"]
)
def test_a_name_outside_what_the_authority_may_sign_for_changes_nothing(
    tmp_path: Path, name: str
) -> None:
    authority = Authority(tmp_path)
    authority.server_certificate(GIVEN)
    before = contents(tmp_path)
    with pytest.raises(BadConfig) as caught:
        authority.server_certificate(["mail.lan", name, *GIVEN])
    (problem,) = caught.value.problems
    assert problem.startswith(f"{name}: ")
    assert f"Remove {authority.ca_file}" in problem
    assert "each computer must then trust the new one" in problem
    assert contents(tmp_path) == before
    authority.ca_file.unlink()
    files = authority.server_certificate([name])
    assert name in describe(files.certificate).names


@pytest.mark.parametrize(
    "name", ["", "pop example", "grün.example", "*.example.org", "192.168.1", "a..b", "pop:995"]
)
def test_what_is_no_name_is_refused_and_nothing_is_made(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadConfig, match="neither an IP address nor a DNS name"):
        Authority(tmp_path / "data").server_certificate([NAME, name])
    assert not (tmp_path / "data").exists()


def test_the_zone_of_an_address_is_left_out(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    files = authority.server_certificate(["fe80::1%eth0"])
    before = contents(tmp_path)
    assert "fe80::1" in describe(files.certificate).names
    authority.server_certificate(["fe80::1%eth0"])
    assert contents(tmp_path) == before


def test_a_machine_with_a_new_name_outside_the_constraints_goes_on_without_it(
    tmp_path: Path, host: Callable[[str, str], None]
) -> None:
    authority = Authority(tmp_path)
    files = authority.server_certificate([])
    trusted = authority.ca_file.read_bytes()
    host("cellar", "cellar.example.com")
    authority.server_certificate([])
    names = describe(files.certificate).names
    assert "cellar.local" in names
    assert "cellar" not in names
    assert "cellar.example.com" not in names
    assert authority.ca_file.read_bytes() == trusted


# --- Accidents ---------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["certificate.pem", "private_key.pem"])
@pytest.mark.parametrize("content", [None, b"", b"rubbish", "another's"])
async def test_half_of_the_pair_lost_or_mistaken_is_made_anew(
    tmp_path: Path, lost: str, content: bytes | str | None
) -> None:
    authority = Authority(tmp_path / "data")
    files = authority.server_certificate([])
    trusted = authority.ca_file.read_bytes()
    path = tmp_path / "data" / lost
    path.unlink()
    if isinstance(content, str):
        Authority(tmp_path / "other").server_certificate([])
        shutil.copy(tmp_path / "other" / lost, path)
    elif content is not None:
        path.write_bytes(content)
    authority.server_certificate([])
    assert authority.ca_file.read_bytes() == trusted
    await handshake(context_of(files), strict_client(authority.ca_file), "localhost")


@pytest.mark.parametrize("which", ["leaf alone", "another's leaf"])
async def test_a_chain_that_is_not_whole_is_made_anew(tmp_path: Path, which: str) -> None:
    authority = Authority(tmp_path / "data")
    files = authority.server_certificate([])
    leaf, ca = chain_of(files)
    other, _ = chain_of(Authority(tmp_path / "other").server_certificate([]))
    found = [leaf] if which == "leaf alone" else [other, ca]
    pem = b"".join(one.public_bytes(serialization.Encoding.PEM) for one in found)
    files.certificate.write_bytes(pem)
    if which != "leaf alone":
        shutil.copy(tmp_path / "other" / "private_key.pem", files.private_key)
    authority.server_certificate([])
    assert chain_of(files)[1:] == [ca]
    await handshake(context_of(files), strict_client(authority.ca_file), "localhost")


def test_a_self_signed_certificate_of_an_earlier_version_is_replaced(tmp_path: Path) -> None:
    # It lay under the same names, and its key stays.
    shutil.copy(Authority(tmp_path / "old").ensure(), tmp_path / "certificate.pem")
    shutil.copy(tmp_path / "old" / "ca.key", tmp_path / "private_key.pem")
    files = Authority(tmp_path).server_certificate([])
    assert len(chain_of(files)) == 2
    context_of(files)


@pytest.mark.parametrize("content", [None, b"rubbish", "another's"])
def test_the_authority_s_key_lost_is_told_and_what_there_is_still_serves(
    tmp_path: Path, content: bytes | str | None
) -> None:
    authority = Authority(tmp_path / "data")
    files = authority.server_certificate([])
    key_file = tmp_path / "data" / "ca.key"
    key_file.unlink()
    if isinstance(content, str):
        Authority(tmp_path / "other").ensure()
        shutil.copy(tmp_path / "other" / "ca.key", key_file)
    elif content is not None:
        key_file.write_bytes(content)
    before = contents(tmp_path / "data")
    assert authority.server_certificate([]) == files
    with pytest.raises(OSError, match=r"ca\.key: missing, or not the key of .*Restore it"):
        authority.server_certificate(["mail.lan"])
    with pytest.raises(OSError, match=r"ca\.key: missing, or not the key of .*Restore it"):
        authority.device_certificate("alice+laptop")
    assert contents(tmp_path / "data") == before


@pytest.mark.parametrize("content", [b"", b"rubbish"])
def test_a_damaged_authority_is_told_and_stays(tmp_path: Path, content: bytes) -> None:
    authority = Authority(tmp_path)
    authority.server_certificate([])
    authority.ca_file.write_bytes(content)
    before = contents(tmp_path)
    with pytest.raises(OSError, match=r"ca\.pem: not a certificate"):
        authority.server_certificate([])
    assert contents(tmp_path) == before


def test_another_authority_s_files_put_in_place_are_used(tmp_path: Path) -> None:
    Authority(tmp_path / "other").ensure()
    authority = Authority(tmp_path / "data")
    files = authority.server_certificate([])
    for name in ("ca.pem", "ca.key"):
        shutil.copy(tmp_path / "other" / name, tmp_path / "data" / name)
    authority.server_certificate([])
    assert chain_of(files)[1] == x509.load_pem_x509_certificate(authority.ca_file.read_bytes())


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("lost", "number"),
    [
        *((None, number) for number in range(4)),
        *(("ca.pem", number) for number in range(3)),
        *(("private_key.pem", number) for number in range(2)),
        *(("certificate.pem", number) for number in range(1)),
    ],
)
async def test_a_crash_at_any_write_heals_at_the_next_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str | None, number: int, after: bool
) -> None:
    """When everything is made for the first time, and when one file has been lost."""
    authority = Authority(tmp_path)
    if lost:
        authority.server_certificate([])
        (tmp_path / lost).unlink()
    write, writes = certificate_files.write_durably, count()

    def crash(path: Path, content: bytes, *, mode: int) -> None:
        at_this_one = next(writes) == number
        if after or not at_this_one:
            write(path, content, mode=mode)
        if at_this_one:
            raise OSError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(authority_module, "write_durably", crash)
        with pytest.raises(OSError, match="power cut"):
            authority.server_certificate([])
    trusted = authority.ca_file.read_bytes() if authority.ca_file.exists() else None
    files = authority.server_certificate([])
    assert trusted in (None, authority.ca_file.read_bytes())
    await handshake(context_of(files), strict_client(authority.ca_file), "localhost")
    authority.device_certificate("alice+laptop")


def test_a_write_that_fails_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="no space left"):
            Authority(tmp_path).ensure()
    assert [path.name for path in tmp_path.iterdir()] == ["ca.lock"]


def test_all_who_come_first_get_the_same_authority(tmp_path: Path) -> None:
    def come(number: int) -> bytes:
        authority = Authority(tmp_path)
        context_of(authority.server_certificate([f"pc{number}.lan"]))
        return authority.ca_file.read_bytes()

    with ThreadPool(4) as pool:
        assert len(set(pool.map(come, range(8)))) == 1
    Authority(tmp_path).device_certificate("alice+laptop")


# --- Devices -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("login", "common_name"),
    [
        ("alice@example.com+laptop", "alice@example.com+laptop"),
        ("älice+laptop", "älice+laptop"),
        ("alice", "login alice"),
        ("example.com", "login example.com"),
        ("alice.2", "login alice.2"),
        ("a" * 56 + "+desktop", "a" * 56 + "+desktop"),
        ("a" * 57 + "+desktop", "a" * 47 + "~"),
        ("a." * 31 + "a", "login " + "a." * 20 + "a~"),
        ("ä" * 40, "ä" * 23 + "~"),
    ],
)
async def test_a_device_shows_who_it_is_with_its_certificate(
    tmp_path: Path, login: str, common_name: str
) -> None:
    authority = Authority(tmp_path)
    files = authority.server_certificate([])
    key, certificate = authority.device_certificate(login)
    server = device_context(files.certificate, files.private_key, authority.ca_file).ssl["pop3"]
    client = device_client(authority.ca_file, key, certificate)
    assert server.verify_mode == ssl.CERT_OPTIONAL
    server.verify_flags |= ssl.VERIFY_X509_STRICT
    if common_name.endswith("~"):
        common_name += hashlib.sha256(login.encode()).hexdigest()[:16]
    assert await handshake(server, client, "localhost") == common_name
    assert await handshake(server, strict_client(authority.ca_file), "localhost") == ""


def test_two_long_logins_have_two_common_names(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    subjects = {
        authority.device_certificate("a" * 100 + f"+{device}")[1].subject
        for device in ("laptop", "phone", "laptop")
    }
    assert len(subjects) == 2


async def test_a_device_s_certificate_makes_no_server(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    key, certificate = authority.device_certificate("localhost")
    (tmp_path / "device.key").write_bytes(key)
    (tmp_path / "device.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    server = server_context(tmp_path / "device.pem", tmp_path / "device.key")
    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        await handshake(server, strict_client(authority.ca_file), "localhost")


async def test_the_server_s_certificate_makes_no_device(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    files = authority.server_certificate([])
    server = device_context(files.certificate, files.private_key, authority.ca_file).ssl["pop3"]
    client = strict_client(authority.ca_file)
    client.load_cert_chain(files.certificate, files.private_key)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await handshake(server, client, "localhost")


async def test_a_device_of_another_authority_is_refused(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "data")
    files = authority.server_certificate([])
    server = device_context(files.certificate, files.private_key, authority.ca_file).ssl["pop3"]
    stranger = Authority(tmp_path / "other").device_certificate("alice+laptop")
    client = device_client(authority.ca_file, *stranger)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await handshake(server, client, "localhost")


def test_a_device_s_certificate_lasts_ten_years_and_is_kept_nowhere(tmp_path: Path) -> None:
    clock = Clock()
    authority = Authority(tmp_path, clock)
    authority.ensure()
    before = contents(tmp_path)
    key, certificate = authority.device_certificate("alice+laptop")
    assert contents(tmp_path) == before
    assert key.startswith(b"-----BEGIN PRIVATE KEY-----")
    lasts = certificate.not_valid_after_utc - clock.now
    assert timedelta(days=3640) < lasts <= timedelta(days=3650)
    again, other = authority.device_certificate("alice+laptop")
    assert again != key
    assert other.serial_number != certificate.serial_number


def test_a_device_s_certificate_can_be_made_before_the_server_s(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.device_certificate("alice+laptop")
    trusted = authority.ca_file.read_bytes()
    authority.server_certificate([])
    assert authority.ca_file.read_bytes() == trusted


def test_mail_programs_get_all_of_it_in_one_file_under_a_password(
    tmp_path: Path, openssl: str
) -> None:
    authority = Authority(tmp_path)
    key, certificate = authority.device_certificate("alice@example.com+laptop")
    leaf = certificate.public_bytes(serialization.Encoding.PEM).decode()
    made = pkcs12(key.decode(), leaf, authority.ensure().read_text(), "secret")
    loaded = pkcs12_format.load_pkcs12(made, b"secret")
    assert loaded.key is not None
    assert loaded.key.public_key() == certificate.public_key()
    assert loaded.cert is not None
    assert loaded.cert.certificate == certificate
    assert loaded.cert.friendly_name == b"alice@example.com+laptop"
    assert [one.certificate for one in loaded.additional_certs] == [
        x509.load_pem_x509_certificate(authority.ca_file.read_bytes())
    ]
    with pytest.raises(ValueError, match="password"):
        pkcs12_format.load_pkcs12(made, b"guessed")
    command = [openssl, "pkcs12", "-noout", "-passin", "pass:secret"]
    subprocess.run(command, input=made, check=True, capture_output=True)
