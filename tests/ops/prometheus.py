"""A Prometheus of our own that scrapes one proxy, and its HTTP API."""

from __future__ import annotations

import json
import math
import re
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Self

from tests.e2e.processes import bound
from tests.e2e.waiting import eventually
from tests.needs import need

JOB = "pop3-sync-proxy"

STOP_TIMEOUT = 30.0

_LISTENS = re.compile(r'msg="Listening on" address=(\S+)')

_CONFIG = """\
global:
  scrape_interval: 1s
  scrape_timeout: 1s
scrape_configs:
  - job_name: {job}
    static_configs:
      - targets: ["{target}"]
"""


class BadQuery(Exception):
    """Prometheus answered a query with an error or a warning; says which."""


class Prometheus:
    """Started by its constructor; `close` it, or use it as a context manager."""

    def __init__(self, folder: Path, target: str) -> None:
        """`folder` must not exist yet; `target` is the host:port with /metrics."""
        program = need("prometheus")
        folder.mkdir()
        config = folder / "prometheus.yml"
        config.write_text(_CONFIG.format(job=JOB, target=target))
        self._log = folder / "log"
        self._api = ""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                bound(
                    [
                        program,
                        f"--config.file={config}",
                        f"--storage.tsdb.path={folder / 'data'}",
                        "--web.listen-address=127.0.0.1:0",
                    ]
                ),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            eventually(self._has_scraped, what="Prometheus to scrape", otherwise=self.log)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def log(self) -> str:
        return self._log.read_text(errors="replace")[-5000:]

    def _has_scraped(self) -> bool:
        assert self._process.poll() is None, f"Prometheus ended:\n{self.log()}"
        listens = _LISTENS.search(self._log.read_text(errors="replace"))
        if listens is None:
            return False
        self._api = f"http://{listens[1]}/api/v1/"
        try:
            return self.numbers(f'up{{job="{JOB}"}}') == [1.0]
        except OSError:
            return False

    # --- questions ------------------------------------------------------------------------------

    def numbers(self, query: str) -> list[float]:
        """The values of an instant query now, without NaN.

        Raises:
            BadQuery: it cannot be evaluated.
        """
        result = self._get("query", query=query)["result"]
        values = [float(series["value"][1]) for series in result]
        return [value for value in values if not math.isnan(value)]

    def label_values(self, label: str, selector: str = "") -> list[str]:
        """What a label has for values, in the series of a selector if one is given."""
        chosen = {"match[]": selector} if selector else {}
        values: list[str] = self._get(f"label/{label}/values", **chosen)
        return values

    def metrics(self) -> set[str]:
        """The names of all series that it has."""
        return set(self.label_values("__name__"))

    def _get(self, path: str, **parameters: str) -> Any:
        url = f"{self._api}{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                content = json.load(answer)
        except urllib.error.HTTPError as error:
            # Before it has read its old data it answers 503, and the body is no JSON.
            if error.code == 503:
                raise ConnectionError("Prometheus is not ready") from None
            raise BadQuery(error.read().decode(errors="replace")) from None
        if content.get("warnings"):
            raise BadQuery(f"{content['warnings']}")
        return content["data"]
