"""Seeds and their mutations pass every target; an oracle that could not object proves nothing."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest

from proxy.wire import mechanisms
from proxy.wire import pop3_events as pop3
from proxy.wire.pop3 import NEVER, Expire
from proxy.wire.pop3_server import Offer, Pop3Server, State
from proxy.wire.proxy_header import ProxyHeader, ProxyHeaderError, ProxyHeaderReader
from proxy.wire.sasl import SaslError
from proxy.wire.scram import ClientFirst, ScramKeys, ScramServer
from tests.fuzz import corpus, sasl_run, targets
from tests.fuzz.checks import Violation
from tests.fuzz.plan import plan_octets, read_plan
from tests.fuzz.pop3_run import Run
from tests.needs import cannot

MUTATIONS = {"server_machine": 10_000, "sasl_layer": 8_000, "proxy_header": 2_000}
RUNS = 20_000


@pytest.mark.parametrize("target", targets.TARGETS)
def test_every_seed_passes(target: str) -> None:
    for seed in corpus.seeds(target):
        targets.TARGETS[target](seed)


@pytest.mark.parametrize("target", targets.TARGETS)
def test_mutated_seeds_pass(target: str) -> None:
    rng = random.Random(20)
    seeds, tokens = corpus.seeds(target), corpus.tokens(target)
    for _ in range(MUTATIONS[target]):
        octets = mutated(rng, seeds, tokens)
        try:
            targets.TARGETS[target](octets)
        except Exception as error:
            error.add_note(f"input: {octets!r}")
            raise


@pytest.mark.parametrize("target", targets.TARGETS)
def test_no_input_is_too_short(target: str) -> None:
    for length in range(30):
        targets.TARGETS[target](bytes(length))


def test_the_seeds_reach_every_event() -> None:
    seen = {
        type(event)
        for seed in corpus.seeds("server_machine")
        for event in Run(read_plan(seed)).play().events
    }
    assert seen == set(pop3.Event.__args__)


@pytest.mark.parametrize("target", targets.TARGETS)
def test_atheris_finds_nothing_in_a_short_run(target: str, tmp_path: Path) -> None:
    if find_spec("atheris") is None:
        cannot("atheris is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", target, "--runs", str(RUNS), "--seed", "1"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr
    assert f"{target}: {RUNS} inputs" in done.stdout


def caught(target: str, attempt: Callable[[bytes], None]) -> bool:
    """Whether the oracle objects to any seed."""
    for seed in corpus.seeds(target):
        try:
            attempt(seed)
        except Violation:
            return True
    return False


# --- mutations ----------------------------------------------------------------------------------


def mutated(rng: random.Random, seeds: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    octets = bytearray(rng.choice(seeds))
    for _ in range(rng.randint(1, 5)):
        at = rng.randint(0, len(octets))
        end = at + rng.choice([0, 0, 1, 2, 20])
        match rng.randrange(4):
            case 0:
                octets[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                octets[at:end] = rng.choice(tokens)
            case 2:
                octets[at:end] = b""
            case _:
                other = rng.choice(seeds)
                octets[at:] = other[rng.randint(0, len(other)) :]
    return bytes(octets)


# --- server machines the oracle must object to --------------------------------------------------


class BareLineFeed(Pop3Server):
    def _put(self, data: bytes) -> None:
        super()._put(data.replace(b"\r\n", b"\n"))


class RepliesTwice(Pop3Server):
    def _refuse(self, text: str) -> None:
        super()._refuse(text)
        super()._put(b"-ERR once more\r\n")


class RepliesNever(Pop3Server):
    def _refuse(self, text: str) -> None:
        self._errors += 1


class SaysMoreThanALine(Pop3Server):
    def _refuse(self, text: str) -> None:
        super()._refuse(text.ljust(600, "."))


class EchoesWhatIsNotPrintable(Pop3Server):
    def _refuse(self, text: str) -> None:
        super()._refuse(text + " \u202e")


class ForgetsTheDot(Pop3Server):
    def _listing(self, text: str, lines: Sequence[str]) -> None:
        self._put("\r\n".join([f"+OK {text}", *lines, ""]).encode())


class TakesLoginsInClear(Pop3Server):
    @property
    def _login_allowed(self) -> bool:
        return True


class KeepsWhatCameInClear(Pop3Server):
    def start_tls(self) -> None:
        self.ok("begin TLS")

    def tls_started(self, *, certificate: bool = False, end_point: bytes | None = None) -> None:
        self.tls = True


class KeepsTheUserOfTheClear(Pop3Server):
    def tls_started(self, *, certificate: bool = False, end_point: bytes | None = None) -> None:
        user = self._username
        super().tls_started(certificate=certificate, end_point=end_point)
        self._username = user


class OpensTheMaildropUnasked(Pop3Server):
    def err(self, text: str, code: str = "") -> None:
        super().err(text, code)
        self.state = State.TRANSACTION


class TakesASecondLogin(Pop3Server):
    def logged_in(self, text: str, expire: Expire = NEVER) -> None:
        self.ok(text)


class BelievesEveryCertificate(Pop3Server):
    def tls_started(self, *, certificate: bool = False, end_point: bytes | None = None) -> None:
        super().tls_started(certificate=True, end_point=end_point)


class NeverGivesUp(Pop3Server):
    def _refuse(self, text: str) -> None:
        super()._refuse(text)
        self._errors = 0


class AsksTwice(Pop3Server):
    def next_event(self) -> pop3.Event | None:
        return self._owed or super().next_event()


class KeepsLongLines(Pop3Server):
    def __init__(self, offer: Offer) -> None:
        super().__init__(offer)
        self._offer = Offer(
            stls=offer.stls,
            plaintext_login=offer.plaintext_login,
            implementation=offer.implementation,
            max_errors=offer.max_errors,
            line_limit=10**6,
        )


class LosesOctets(Pop3Server):
    def receive(self, data: bytes) -> None:
        super().receive(data.lstrip())


class DependsOnThePieces(Pop3Server):
    def receive(self, data: bytes) -> None:
        super().receive(data)
        if len(data) > 30:
            self._expire = Expire(1)


class Crashes(Pop3Server):
    def _answer(self, data: bytes) -> None:
        super()._answer(data)
        data[len(b"+OK\r\n")]


class AltersBodies(Pop3Server):
    def body_part(self, stuffed: bytes) -> None:
        super().body_part(stuffed.replace(b"\r\n..", b"\r\n."))


class MistakesTheUpdate(Pop3Server):
    def next_event(self) -> pop3.Event | None:
        event = super().next_event()
        return pop3.Quit(update=True) if isinstance(event, pop3.Quit) else event


class TakesAnotherName(Pop3Server):
    def next_event(self) -> pop3.Event | None:
        event = super().next_event()
        match event:
            case pop3.PasswordLogin(username, password):
                return pop3.PasswordLogin(username.upper(), password)
        return event


@pytest.mark.parametrize(
    "machine",
    [
        BareLineFeed,
        RepliesTwice,
        RepliesNever,
        SaysMoreThanALine,
        EchoesWhatIsNotPrintable,
        ForgetsTheDot,
        TakesLoginsInClear,
        KeepsWhatCameInClear,
        KeepsTheUserOfTheClear,
        OpensTheMaildropUnasked,
        TakesASecondLogin,
        BelievesEveryCertificate,
        NeverGivesUp,
        AsksTwice,
        KeepsLongLines,
        LosesOctets,
        DependsOnThePieces,
        AltersBodies,
        MistakesTheUpdate,
        TakesAnotherName,
    ],
)
def test_a_broken_server_machine_is_caught(machine: type[Pop3Server]) -> None:
    assert caught("server_machine", lambda seed: targets.server_machine(seed, machine))


def test_an_exception_of_the_server_machine_comes_through() -> None:
    with pytest.raises(IndexError):
        targets.server_machine(plan_octets(b"USER a\r\nPASS b\r\nSTAT\r\n"), Crashes)


# --- SASL ---------------------------------------------------------------------------------------


class BelievesEveryProof(ScramServer):
    def final(self, message: bytes, candidates: Sequence[ScramKeys]) -> tuple[int | None, bytes]:
        found, answer = super().final(message, candidates)
        return found or 0, answer


class BelievesNoProof(ScramServer):
    def final(self, message: bytes, candidates: Sequence[ScramKeys]) -> tuple[int | None, bytes]:
        super().final(message, candidates)
        return None, b"e=invalid-proof"


class ForgetsTheChannel(ScramServer):
    def __init__(self, *, plus: bool, plus_announced: bool, end_point: bytes | None) -> None:
        super().__init__(plus=plus, plus_announced=plus_announced, end_point=end_point)
        self._end_point = end_point and b""


class LetsItselfBeDeceived(ScramServer):
    def __init__(self, *, plus: bool, plus_announced: bool, end_point: bytes | None) -> None:
        super().__init__(plus=plus, plus_announced=False, end_point=end_point)


class MistakesTheName(ScramServer):
    def first(self, message: bytes) -> ClientFirst:
        return ClientFirst(super().first(message).username.lower())


class RefusesTheGood(ScramServer):
    def first(self, message: bytes) -> ClientFirst:
        if b"=2C" in message:
            raise SaslError("no commas")
        return super().first(message)


@pytest.mark.parametrize(
    "server",
    [
        BelievesEveryProof,
        BelievesNoProof,
        ForgetsTheChannel,
        LetsItselfBeDeceived,
        MistakesTheName,
        RefusesTheGood,
    ],
)
def test_a_broken_scram_server_is_caught(server: type[ScramServer]) -> None:
    def make(plus: bool, announced: bool, end_point: bytes | None) -> ScramServer:
        return server(plus=plus, plus_announced=announced, end_point=end_point)

    assert caught("sasl_layer", lambda seed: targets.sasl_layer(seed, server=make))


class MixesUpThePassword(mechanisms.Plain):
    def step(self, response: bytes | None) -> mechanisms.Step:
        step = super().step(response)
        match step:
            case pop3.PasswordLogin(username):
                return pop3.PasswordLogin(username, b"another")
        return step


class LetsALineEndThrough(mechanisms.Plain):
    def step(self, response: bytes | None) -> mechanisms.Step:
        if response is None:
            return mechanisms.Challenge(b"")
        return pop3.PasswordLogin("alice", response.rpartition(b"\0")[2])


class SkipsTheProof(mechanisms.Scram):
    def step(self, response: bytes | None) -> mechanisms.Step:
        step = super().step(response)
        return mechanisms.Challenge(b"v=") if isinstance(step, pop3.ScramLogin) else step


@pytest.mark.parametrize(
    ("mechanism", "octets"),
    [
        (MixesUpThePassword(), b"\0\0\0alice\0secret"),
        (LetsALineEndThrough(), b"\0\0\0alice\0x\r\nDELE 1"),
        (
            SkipsTheProof(plus=False, end_point=None),
            b"\0\3" + sasl_run.SEPARATOR.join(corpus.scram_messages(password=b"a guess")),
        ),
    ],
)
def test_a_broken_mechanism_is_caught(mechanism: mechanisms.Mechanism, octets: bytes) -> None:
    with pytest.raises(Violation):
        targets.sasl_layer(octets, mechanism=lambda flags: mechanism)


# --- PROXY protocol -----------------------------------------------------------------------------


class ReadsOnlyOnePiece(ProxyHeaderReader):
    def feed(self, data: bytes) -> tuple[ProxyHeader, bytes] | None:
        read = super().feed(data)
        if read is None:
            raise ProxyHeaderError("not whole")
        return read


class KeepsAZone(ProxyHeaderReader):
    def feed(self, data: bytes) -> tuple[ProxyHeader, bytes] | None:
        if b"%eth0" in data:
            self._end()
            return ProxyHeader("fe80::1%eth0"), b""
        return super().feed(data)


class KeepsMappedAddresses(ProxyHeaderReader):
    def feed(self, data: bytes) -> tuple[ProxyHeader, bytes] | None:
        read = super().feed(data)
        if read is None or read[0].address != "192.0.2.7":
            return read
        return ProxyHeader("::ffff:192.0.2.7"), read[1]


class LosesWhatFollows(ProxyHeaderReader):
    def feed(self, data: bytes) -> tuple[ProxyHeader, bytes] | None:
        read = super().feed(data)
        return read and (read[0], read[1][1:])


class ReadsASecondHeader(ProxyHeaderReader):
    def _end(self) -> None:
        self._data.clear()


class WaitsForEver(ProxyHeaderReader):
    def feed(self, data: bytes) -> tuple[ProxyHeader, bytes] | None:
        return None


@pytest.mark.parametrize(
    "reader",
    [
        ReadsOnlyOnePiece,
        KeepsAZone,
        KeepsMappedAddresses,
        LosesWhatFollows,
        ReadsASecondHeader,
    ],
)
def test_a_broken_header_reader_is_caught(reader: type[ProxyHeaderReader]) -> None:
    assert caught("proxy_header", lambda seed: targets.proxy_header(seed, reader))


def test_a_header_reader_that_waits_for_ever_is_caught() -> None:
    with pytest.raises(Violation):
        targets.proxy_header(bytes(5000), WaitsForEver)
