"""Real containers by Buildah and Podman, in a storage of their own, on bases made from Debian.

No image is pulled from anywhere: `debian_base` makes one, under the name a Dockerfile asks for.
All workers of a test run share the storage, so that each image is made once.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.e2e.processes import bound
from tests.e2e.waiting import eventually
from tests.needs import cannot, need

PATIENCE = 240.0
"""Seconds for the slowest step."""

CA_FOLDERS = ("/etc/ssl/certs", "/usr/local/share/ca-certificates", "/usr/share/ca-certificates")
"""What this machine trusts; a build has to trust the same to reach the same package index."""

RUNTIMES = (("runc",), ("crun", "--cgroups=disabled"))
"""With the options they need. There are machines with which only one of them is content."""

LIMITS = ("--ulimit=nofile=4096:4096", "--ulimit=nproc=1024:1024")
"""Podman's own are more than a machine without the right to raise limits can give."""


class Containers:
    """Buildah and Podman on the storage of this test run; the last `close` removes all of it."""

    def __init__(self) -> None:
        for program in ("buildah", "podman", "mmdebstrap"):
            need(program)
        if os.getuid() != 0:
            cannot("containers with their own users and mounts are made by root here")
        run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
        # Podman wants a short path.
        self.folder = Path(tempfile.gettempdir()) / f"ctr{run[:10]}"
        self._in_use = self.folder.with_suffix(".lock").open("w")
        fcntl.flock(self._in_use, fcntl.LOCK_SH)
        self.folder.mkdir(exist_ok=True)
        self._runtime: Sequence[str] = ()
        self._driver = next(filter(self._can_store, ("overlay", "vfs")), "")
        if not self._driver:
            cannot("buildah cannot store anything here")

    def _can_store(self, driver: str) -> bool:
        self._driver = driver
        return self._run(["buildah", *self._storage(), "info"]).returncode == 0

    def _storage(self) -> list[str]:
        root = self.folder / self._driver
        places = [f"--root={root}", f"--runroot={root}-run"]
        return [*places, f"--storage-driver={self._driver}"]

    @staticmethod
    def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            bound(list(command)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            # Build steps run by chroot: that asks nothing of the machine.
            env={**os.environ, "BUILDAH_ISOLATION": "chroot"},
        )

    def buildah(self, *arguments: str) -> str:
        """It must succeed; returns what it printed."""
        done = self._run(["buildah", *self._storage(), *arguments])
        assert done.returncode == 0, f"buildah {arguments}: {done.stdout[-3000:]}{done.stderr}"
        return done.stdout.strip()

    def try_podman(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self._run(["podman", *self._storage(), *arguments])

    def podman(self, *arguments: str) -> str:
        """It must succeed; returns what it printed."""
        done = self.try_podman(*arguments)
        assert done.returncode == 0, f"podman {arguments}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    # --- images ---------------------------------------------------------------------------------

    def make_once(self, name: str, make: Callable[[], None]) -> None:
        """Have the image `name` made, unless another worker has, or is about to."""
        with (self.folder / "making").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self.try_podman("image", "exists", name).returncode:
                make()

    def debian_base(
        self, name: str, suite: str, packages: Sequence[str], script: str, *options: str
    ) -> None:
        """A minimal Debian with these packages, changed by a shell script, as the image `name`.

        `options` are Buildah's for the run of the script.
        """
        archive = self.folder / "base.tar"
        done = self._run(
            ["mmdebstrap", "--variant=apt", f"--include={','.join(packages)}", suite, str(archive)]
        )
        if done.returncode:
            cannot(f"mmdebstrap cannot make a Debian here: {done.stderr[-1000:]}")
        container = self.buildah("from", "scratch")
        self.buildah("add", "--quiet", container, str(archive), "/")
        archive.unlink()
        self.buildah("run", *self.reaching_out(), *options, container, "--", "sh", "-euc", script)
        self.buildah("config", "--env=PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", container)
        self.buildah("commit", "--quiet", "--rm", container, name)

    @staticmethod
    def reaching_out() -> list[str]:
        """Options of a build step that installs from the package index."""
        folders = [folder for folder in CA_FOLDERS if Path(folder).is_dir()]
        return ["--network=host", *(f"--volume={folder}:{folder}:ro" for folder in folders)]

    # --- containers -----------------------------------------------------------------------------

    def start(
        self, name: str, image: str, options: Sequence[str], command: Sequence[str] = ()
    ) -> Container:
        """Attached to a process of ours, so that it gets SIGTERM when the tests are killed."""
        if not self._runtime:
            self._runtime = self._find_runtime(image)
        name += f"-{os.getpid()}"  # Another worker may have one like it.
        output = self.folder / f"{name}.output"
        run = [*self._run_command(self._runtime), f"--name={name}", *options, image, *command]
        with output.open("wb") as file:
            process = subprocess.Popen(
                bound(run), stdin=subprocess.DEVNULL, stdout=file, stderr=file
            )
        return Container(self, name, output, process)

    def _find_runtime(self, image: str) -> Sequence[str]:
        said = ""
        for runtime in RUNTIMES:
            probe = ["--rm", "--network=none", "--entrypoint=/bin/true", image]
            done = self._run([*self._run_command(runtime), *probe])
            if done.returncode == 0:
                return runtime
            said += done.stderr
        cannot(f"no container runs here: {said[-2000:]}")
        raise AssertionError

    def _run_command(self, runtime: Sequence[str]) -> list[str]:
        storage = [*self._storage(), "--cgroup-manager=cgroupfs", f"--runtime={runtime[0]}"]
        return ["podman", *storage, "run", *runtime[1:], *LIMITS]

    def close(self) -> None:
        try:
            fcntl.flock(self._in_use, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._in_use.close()
            return
        self._run(["podman", *self._storage(), "rm", "--all", "--force", "--volumes", "--time=0"])
        self._run(["buildah", *self._storage(), "rm", "--all"])
        # The overlay driver leaves its folder mounted on itself.
        self._run(["umount", "--lazy", str(self.folder / self._driver / self._driver)])
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.with_suffix(".lock").unlink()
        self._in_use.close()


class Container:
    """A running container; made by `Containers.start`."""

    def __init__(
        self, containers: Containers, name: str, output: Path, process: subprocess.Popen[bytes]
    ) -> None:
        self._containers = containers
        self._name = name
        self._output = output
        self._process = process

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *exc: object) -> None:
        self._containers.try_podman("rm", "--force", "--volumes", "--time=0", self._name)
        self._process.wait(PATIENCE)

    def output(self) -> str:
        """All that it has printed and logged."""
        return self._output.read_text(errors="replace")

    def wait_for(self, text: str) -> None:
        """Until it has printed this."""

        def printed() -> bool:
            assert text in self.output() or self._process.poll() is None, self.output()
            return text in self.output()

        eventually(printed, what=f"the container to print {text!r}", otherwise=self.output)

    def wait_for_success(self, script: str) -> None:
        """Until the script succeeds in it."""
        eventually(
            lambda: self.run("sh", "-c", script).returncode == 0,
            what=script,
            otherwise=self.output,
        )

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        return self._process.wait(PATIENCE)

    def stop(self) -> int:
        """As `docker stop` does; the exit code, 137 when it had to be killed."""
        self._containers.podman("stop", "--time=30", self._name)
        return self.wait()

    def send(self, signal: str) -> None:
        self._containers.podman("kill", f"--signal={signal}", self._name)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Another process in it, as its own user."""
        return self._containers.try_podman("exec", self._name, *command)

    def shell(self, script: str) -> str:
        """The same for a script that must succeed; returns what it printed."""
        done = self.run("sh", "-euc", script)
        assert done.returncode == 0, f"{script}: {done.stdout}{done.stderr}"
        return done.stdout

    def is_healthy(self) -> bool:
        """By its own health check."""
        done = self._containers.try_podman("healthcheck", "run", self._name)
        assert done.returncode in (0, 1), done.stderr
        return done.returncode == 0
