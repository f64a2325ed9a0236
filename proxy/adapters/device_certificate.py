"""Our certificate as devices see it: the configured one, or one of our own authority."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from proxy.adapters.authority import Authority, CertificateFiles
from proxy.adapters.certificate import DeviceContext, device_context
from proxy.domain.errors import StoreUnavailable
from proxy.interfaces.world import IssuedCertificate


def system_times() -> tuple[float, float]:
    now = time.time()
    return now, now


@dataclass(frozen=True, slots=True)
class CertificateSource:
    """Where the certificate comes from, and how it is to be used."""

    data_dir: Path
    certificate: Path | None
    """None: our own authority makes one."""
    private_key: Path | None
    """None: it is in the certificate's file."""
    names: tuple[str, ...]
    """What the one that is made is for, beside the machine's own names."""
    asks_devices: bool
    """Whether devices are asked for certificates of our own authority."""
    clock: Callable[[], tuple[float, float]] = system_times
    """The earliest and the latest that it may be, in Unix time: a wrong clock must not make a
    certificate that is not valid."""

    @property
    def authority(self) -> Authority:
        return Authority(self.data_dir, self._now, self._latest)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.clock()[0], UTC)

    def _latest(self) -> datetime:
        return datetime.fromtimestamp(self.clock()[1], UTC)

    def files(self) -> CertificateFiles:
        """The files, made or renewed if they are our own.

        Raises:
            OSError: the data directory cannot be written.
            BadConfig: our own authority cannot sign for these names.
        """
        if self.certificate is None:
            return self.authority.server_certificate(self.names)
        return CertificateFiles(self.certificate, self.private_key or self.certificate)

    def load(self) -> DeviceContext:
        """Raises:
        OSError, BadConfig: as `files`, or the files are no certificate with its key.
        """
        files = self.files()
        client_ca = None
        if self.asks_devices:
            client_ca = self.authority.ensure(self.names, even_ended=True)
        return device_context(files.certificate, files.private_key, client_ca)

    def state(self) -> object:
        """Something that differs when `load` may give something else than before."""
        if self.certificate is None:
            # Renewed ahead of its end, so once a day is often enough to look.
            return self._now().date(), self._latest().date()
        return [_stamp(path) for path in (self.certificate, self.private_key) if path]


def _stamp(path: Path) -> object:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


class OwnIssuer:
    """See `interfaces.world.Issuer`."""

    def __init__(self, data_dir: Path) -> None:
        self._authority = Authority(data_dir)

    def issue(self, login: str) -> IssuedCertificate:
        try:
            key, certificate = self._authority.device_certificate(login)
            authority = self._authority.ca_file.read_text()
        except OSError as error:
            raise StoreUnavailable(f"the certificate authority: {error}") from None
        return IssuedCertificate(
            private_key=key.decode(),
            certificate=certificate.public_bytes(Encoding.PEM).decode(),
            authority=authority,
            fingerprint=certificate.fingerprint(SHA256()),
        )
