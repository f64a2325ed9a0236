"""Names in certificates: which there may be, our own, and which an authority may sign for."""

from __future__ import annotations

import hashlib
import ipaddress
import re
import socket
from collections.abc import Sequence
from functools import lru_cache

from cryptography import x509

from proxy.domain.errors import BadConfig

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


def parsed(names: Sequence[str]) -> list[CertificateName]:
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


def own_names() -> list[CertificateName]:
    """The likeliest to be used first; those that cannot stand in a certificate are left out."""
    host = socket.gethostname()
    texts = [host, _full_name(host), f"{host.partition('.')[0]}.local", "localhost"]
    names = [_parse(text) for text in [*texts, "127.0.0.1", "::1"] if not _is_top_level(text)]
    return list(dict.fromkeys(name for name in names if name is not None))


def lan_address() -> str:
    """The IPv4 address that this machine has in its network; "" where it is in none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Chooses the route to an address that nobody has (RFC 5737), and sends nothing.
            probe.connect(("203.0.113.1", 9))
        except OSError:
            return ""
        return str(probe.getsockname()[0])


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


def constraints_for(names: Sequence[CertificateName]) -> x509.NameConstraints:
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


def may_sign(ca: x509.Certificate, name: CertificateName) -> bool:
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


def names_in(certificate: x509.Certificate) -> list[CertificateName]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [name for name in names if isinstance(name, x509.DNSName | x509.IPAddress)]


def common_name(login: str) -> str:
    # With no other name to look at, OpenSSL holds a common name that could be a host's against
    # the constraints.
    text = f"login {login}" if LIKE_A_HOST.fullmatch(login) else login
    if len(text.encode()) <= COMMON_NAME_LIMIT:
        return text
    digest = hashlib.sha256(login.encode()).hexdigest()[:16]
    return f"{shortened(text, COMMON_NAME_LIMIT - len(digest) - 1)}~{digest}"


def shortened(text: str, limit: int) -> str:
    """At most so many octets of UTF-8, and no half character."""
    return text.encode(errors="replace")[:limit].decode(errors="ignore")
