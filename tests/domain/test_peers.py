from __future__ import annotations

import pytest

from proxy.domain.model import is_valid_device_name
from proxy.domain.peers import device_of_address, device_of_host, is_loopback, neighbourhood


@pytest.mark.parametrize(
    ("peer", "place"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("local", "local"),
    ],
)
def test_an_ipv6_household_is_one_peer(peer: str, place: str) -> None:
    assert neighbourhood(peer) == place


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "local"])
def test_loopback_is_known_in_all_its_forms(peer: str) -> None:
    assert is_loopback(peer)


@pytest.mark.parametrize("peer", ["192.0.2.7", "::ffff:192.0.2.7", "unknown", "", "127.0.0.1.x"])
def test_nothing_else_is_loopback(peer: str) -> None:
    assert not is_loopback(peer)


@pytest.mark.parametrize(
    ("peer", "name"),
    [
        ("192.168.1.20", "192.168.1.20"),
        ("::ffff:192.168.1.20", "192.168.1.20"),
        ("fe80::1%eth0", "fe800000000000000000000000000001"),
        ("local", None),
    ],
)
def test_an_address_names_a_device(peer: str, name: str | None) -> None:
    assert device_of_address(peer) == name
    assert name is None or is_valid_device_name(name)


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("Laptop.home.arpa.", "laptop.home.arpa"),
        ("pc." + "x" * 60 + ".example.com", "pc"),
        ("x" * 40 + ".example.com", None),
        ("sch\xf6n.example.com", None),
        ("", None),
    ],
)
def test_a_host_name_names_a_device(host: str, name: str | None) -> None:
    assert device_of_host(host) == name
