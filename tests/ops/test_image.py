"""The image as it is built and run: by Buildah and Podman, on a base that plays Python's."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.devices import Endpoint, Login
from tests.e2e.dovecot import Dovecot, User, free_ports
from tests.e2e.poplib_device import PoplibDevice
from tests.e2e.rig import assert_same_mails, small_mails
from tests.ops.containers import Container, Containers

pytestmark = pytest.mark.e2e

TOP = Path(__file__).parents[2]

BASE = re.findall(r"^FROM (\S+)", (TOP / "Dockerfile").read_text(), re.MULTILINE)[0]

SUITE = BASE.rpartition("-")[2]

LIKE_PYTHONS_IMAGE = """
rm -f /usr/lib/python3*/EXTERNALLY-MANAGED
ln -s /usr/bin/python3 /usr/local/bin/python3
ln -s python3 /usr/local/bin/python
"""

IMAGE = "pop3-sync-proxy"

HARDENED = ["--read-only", "--read-only-tmpfs=false", "--tmpfs=/tmp", "--cap-drop=ALL"]
HARDENED += ["--security-opt=no-new-privileges"]

SOMEBODY = "12345:23456"


@pytest.fixture(scope="session")
def image(containers: Containers) -> Containers:
    """With the image built."""

    def build() -> None:
        packages = ["python3", "python3-venv", "ca-certificates"]
        containers.debian_base(BASE, SUITE, packages, LIKE_PYTHONS_IMAGE)
        options = ["--pull-never", "--format=docker", f"--tag={IMAGE}"]
        containers.buildah("build", *options, *containers.reaching_out(), str(TOP))

    containers.make_once(IMAGE, build)
    return containers


@pytest.fixture
def user(dovecot: Dovecot) -> User:
    added = dovecot.add_user()
    dovecot.deliver(added, *small_mails(3, "contained"))
    return added


class Proxy:
    """A container of the image on the machine's own loopback, told by the environment alone."""

    def __init__(self, containers: Containers, upstream: Dovecot, folder: Path) -> None:
        self.folder = folder
        self.port, self.tls_port, http_port = free_ports(3)
        variables = {
            "POP3__LISTEN": f"127.0.0.1:{self.port}",
            "POP3__LISTEN_TLS": f"127.0.0.1:{self.tls_port}",
            "HTTP__LISTEN": f"127.0.0.1:{http_port}",
            "UPSTREAM__HOST": upstream.host,
            "UPSTREAM__PORT": str(upstream.port),
            "UPSTREAM__TLS": "none",
            # Mail is counted here.
            "ALERTS__NOTICES": "false",
        }
        self._options = [f"--env=POP3_SYNC_{name}={value}" for name, value in variables.items()]
        self._containers = containers

    def start(self, name: str, *options: str) -> Container:
        """In the proxy's own namespaces but for the network; waits until it is ready."""
        given = ["--network=host", f"--user={SOMEBODY}", *HARDENED, *self._options, *options]
        started = self._containers.start(name, IMAGE, given)
        started.wait_for("\nready ")
        return started

    def device(self, user: User, name: str, ca_file: Path) -> PoplibDevice:
        endpoint = Endpoint("localhost", self.tls_port, "implicit", ca_file)
        return PoplibDevice(endpoint, Login(f"{user.name}+{name}", user.password))


@pytest.fixture
def proxy(image: Containers, dovecot: Dovecot, tmp_path: Path) -> Proxy:
    return Proxy(image, dovecot, tmp_path)


def test_the_image_says_how_it_is_to_be_run(image: Containers) -> None:
    (found,) = json.loads(image.podman("image", "inspect", IMAGE))
    config: dict[str, Any] = found["Config"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", config["User"])
    assert config["Entrypoint"] == ["pop3-sync-proxy"]
    assert config["Cmd"] == ["serve"]
    assert config["ExposedPorts"].keys() == {"1110/tcp", "1995/tcp", "9110/tcp"}
    assert config["Volumes"].keys() == {"/data", "/keys"}
    assert config["StopSignal"] in ("SIGTERM", "15")
    assert config["Labels"]["org.opencontainers.image.title"] == "pop3-sync-proxy"
    assert found["HealthCheck" if "HealthCheck" in found else "Healthcheck"]["Test"][0] == "CMD"


def test_mail_comes_through_a_container_that_may_write_to_its_volumes_alone(
    proxy: Proxy, user: User
) -> None:
    with proxy.start("mail") as container:
        ca_file = proxy.folder / "ca.pem"
        ca_file.write_text(container.shell("cat /data/ca.pem"))
        device = proxy.device(user, "laptop", ca_file)
        device.poll()
        assert_same_mails(device.mails(), small_mails(3, "contained"))

        assert container.shell("id -u; id -g").split() == SOMEBODY.split(":")
        status = container.shell("cat /proc/1/status")
        assert re.search(r"^CapBnd:\t0+$", status, re.MULTILINE)
        assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)
        for folder in ("/", "/etc", "/opt/pop3-sync-proxy", "/home"):
            assert container.run("touch", f"{folder}/written").returncode != 0, folder
        assert user.name in container.shell("pop3-sync-proxy status")


def test_a_container_stops_cleanly_within_seconds_and_its_volume_lasts(
    proxy: Proxy, user: User, dovecot: Dovecot
) -> None:
    volumes = ["--volume=kept:/data", "--volume=kept-keys:/keys"]
    with proxy.start("before", *volumes) as container:
        ca_file = proxy.folder / "ca.pem"
        ca_file.write_text(container.shell("cat /data/ca.pem"))
        device = proxy.device(user, "laptop", ca_file)
        device.poll()
        began = time.monotonic()
        assert container.stop() == 0
        assert time.monotonic() - began < 10
    dovecot.remove_all(user)
    with proxy.start("after", *volumes):
        second = proxy.device(user, "desktop", ca_file)
        second.poll()
        assert_same_mails(second.mails(), device.mails())
        device.poll()
        assert len(device.mails()) == 3


def test_the_health_check_tells_a_proxy_that_answers_from_one_that_hangs(proxy: Proxy) -> None:
    with proxy.start("health") as container:
        assert container.is_healthy()
        container.send("STOP")
        assert not container.is_healthy()


def test_a_container_that_lacks_its_upstream_says_so_and_ends(image: Containers) -> None:
    with image.start("lacking", IMAGE, ["--network=none", *HARDENED]) as container:
        assert container.wait() == 2
        assert "POP3_SYNC_UPSTREAM__HOST" in container.output()


def test_the_image_has_the_program_and_nothing_else_of_the_repository(
    image: Containers,
) -> None:
    options = ["--network=none", "--entrypoint=find"]
    with image.start("content", IMAGE, options, ["/data", "/keys", "/src", "/opt"]) as found:
        found.wait()
        files = found.output().splitlines()
    assert any(file.endswith("/proxy/app.py") for file in files)
    assert not [file for file in files if file.startswith(("/data/", "/keys/", "/src/"))]
    assert not [file for file in files if "/bin/pip" in file]
