"""Loading: every problem is one line that names its place, and no secret is in any."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.config import environment
from proxy.config.load import load
from proxy.config.values import WrongValue, size
from proxy.domain.errors import BadConfig
from tests.config.reading import HOST, problems


def test_a_host_is_all_that_a_file_needs(file: Path) -> None:
    file.write_text(HOST)
    settings = load(file, {})
    assert settings.upstream.host == "pop.example.com"
    assert settings.sync.interval == 300.0
    assert settings.accounts.pass_through
    assert settings.data_dir == file.parent / "data"


def test_without_a_file_the_environment_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load(None, {"POP3_SYNC_UPSTREAM__HOST": "pop.example.com"})
    assert settings.upstream.host == "pop.example.com"
    assert settings.data_dir == tmp_path / "data"


def test_without_anything_the_host_is_asked_for() -> None:
    with pytest.raises(BadConfig, match=r"^upstream\.host: needed"):
        load(None, {})


def test_a_problem_names_file_key_value_and_what_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("proxy.toml").write_text(HOST + '[sync]\ninterval = "5 minutes"\n')
    with pytest.raises(BadConfig) as caught:
        load(Path("proxy.toml"), {})
    assert caught.value.problems == [
        'proxy.toml: sync.interval: "5 minutes" is not a time such as "30s", "5m", "2h" or "30d"'
    ]


def test_all_problems_are_reported_at_once(file: Path) -> None:
    text = """
    [pop3]
    lissten = []
    listen = ["127.0.0.1"]
    [upstream]
    port = 70000
    tls = "implict"
    [[account]]
    name = "alice"
    password_file = 5
    sync = { intervall = "5m" }
    """
    assert problems(file, text, {"POP3_SYNC_LOG__LEVEL": "chatty"}) == [
        'pop3.listen: "127.0.0.1" is not "host:port" such as "127.0.0.1:1110" or "[::1]:1110", '
        '"unix:PATH" or "systemd:NAME"',
        'pop3.lissten: unknown key; did you mean "listen"?',
        "upstream.port: 70000 is not a port from 1 to 65535",
        'upstream.tls: "implict" is not one of "implicit", "starttls", "none"',
        'POP3_SYNC_LOG__LEVEL: "chatty" is not one of "debug", "info", "warning", "error"',
        "account.alice.password_file: 5 is not text in quotes",
        'account.alice.sync.intervall: unknown key; did you mean "interval"?',
    ]


KEYS = sorted(path for path, _ in environment.variables().values())


@pytest.mark.parametrize("value", ["2024-02-20T10:00:00Z", "1.5", "{}", "nan"])
@pytest.mark.parametrize("path", KEYS, ids=".".join)
def test_a_value_of_the_wrong_kind_is_one_problem_that_names_its_key(
    file: Path, path: tuple[str, ...], value: str
) -> None:
    text = f"{'.'.join(path)} = {value}\n"
    if path != ("upstream", "host"):
        text = 'upstream.host = "pop.example.com"\n' + text
    (problem,) = problems(file, text)
    assert problem.startswith(f"{'.'.join(path)}: ")
    assert " is not " in problem


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("upstream.port", "true"),
        ("upstream.port", "0"),
        ("upstream.host", '"pop.example.com:995"'),
        ("upstream.host", '"pop3s://pop.example.com"'),
        ("upstream.ca_file", '"no-such.pem"'),
        ("sync.max_sessions_per_host", "0"),
        ("sync.interval", '"0s"'),
        ("sync.interval", f'"{"9" * 500}d"'),
        ("sync.interval", f'"{"9" * 5000}d"'),
        ("pop3.listen", '"127.0.0.1:1110"'),
        ("pop3.listen", '["::1:1110"]'),
        ("pop3.listen", '["127.0.0.1:65536"]'),
        ("pop3.certificate", '"no-such.pem"'),
        ("devices.backlog", '"30"'),
        ("devices.separator", '"++"'),
        ("devices.separator", '"@"'),
        ("devices.separator", '"-"'),
        ("devices.separator", '""'),
        ("accounts.pass_through", '"yes"'),
        ("http.listen", '"9110"'),
        ("data_dir", '""'),
    ],
)
def test_a_value_out_of_bounds_is_one_problem_that_names_its_key(
    file: Path, key: str, value: str
) -> None:
    host = "" if key == "upstream.host" else 'upstream.host = "pop.example.com"\n'
    (problem,) = problems(file, f"{host}{key} = {value}\n")
    assert problem.startswith(f"{key}: ")
    assert len(problem) < 300


def test_http_can_be_switched_off(file: Path) -> None:
    file.write_text(HOST + '[http]\nlisten = ""\n')
    assert load(file, {}).http.listen == ""


def test_a_table_that_is_none_is_a_problem(file: Path) -> None:
    assert problems(file, "log = 5\n" + HOST) == ["log: 5 is not a table"]


def test_an_account_that_is_not_a_list_of_tables_is_a_problem(file: Path) -> None:
    (problem,) = problems(file, HOST + '[account]\nname = "a"\npassword = "x"\n')
    assert problem == "account: not a list of tables; write [[account]] above each"


def test_bad_toml_is_reported_with_line_and_column(file: Path) -> None:
    (problem,) = problems(file, HOST + "[sync\n")
    assert problem.startswith("not TOML: ")
    assert "line 3, column" in problem


def test_a_missing_file_is_a_problem(file: Path) -> None:
    with pytest.raises(BadConfig, match=r"proxy\.toml: cannot be read: No such file"):
        load(file, {})


def test_a_file_that_is_not_utf8_is_a_problem(file: Path) -> None:
    file.write_bytes(b"# caf\xe9\n")
    with pytest.raises(BadConfig, match=r"not UTF-8 text, at octet 5"):
        load(file, {})


# --- The environment ---------------------------------------------------------------------------


def test_the_environment_wins_over_the_file(file: Path) -> None:
    file.write_text(HOST + "port = 995\n[accounts]\npass_through = false\n")
    settings = load(
        file,
        {
            "POP3_SYNC_UPSTREAM__PORT": "110",
            "POP3_SYNC_ACCOUNTS__PASS_THROUGH": "true",
            "POP3_SYNC_POP3__LISTEN": '["127.0.0.1:1"]',
            "POP3_SYNC_POP3__LISTEN_TLS": "127.0.0.1:2, [::1]:3",
            "POP3_SYNC_SYNC__INTERVAL": "7m",
            "POP3_SYNC_DATA_DIR": "mail",
            "POP3_SYNC_CONFIG": "elsewhere.toml",
            "PATH": "/bin",
        },
    )
    assert settings.upstream.port == 110
    assert settings.accounts.pass_through
    assert settings.pop3.listen == ("127.0.0.1:1",)
    assert settings.pop3.listen_tls == ("127.0.0.1:2", "[::1]:3")
    assert settings.sync.interval == 420.0
    assert settings.data_dir == file.parent / "mail"


@pytest.mark.parametrize("value", ["995x", "true", "995\nhost = 'evil'", "", '"995"'])
def test_a_variable_of_the_wrong_kind_is_reported_by_its_name(file: Path, value: str) -> None:
    (problem,) = problems(file, HOST, {"POP3_SYNC_UPSTREAM__PORT": value})
    assert problem.startswith("POP3_SYNC_UPSTREAM__PORT: ")


def test_an_unknown_variable_is_a_problem_with_the_nearest_name(file: Path) -> None:
    assert problems(file, HOST, {"POP3_SYNC_POP3__LISSTEN": "127.0.0.1:1"}) == [
        "POP3_SYNC_POP3__LISSTEN: unknown variable; did you mean POP3_SYNC_POP3__LISTEN?"
    ]


# --- Keys that depend on each other ------------------------------------------------------------


def test_files_are_found_beside_the_configuration(file: Path) -> None:
    for name in ("ca.pem", "cert.pem", "key.pem"):
        (file.parent / name).touch()
    file.write_text(
        HOST + 'ca_file = "ca.pem"\n[pop3]\ncertificate = "cert.pem"\nprivate_key = "key.pem"\n'
    )
    settings = load(file, {})
    assert settings.upstream.ca_file == str(file.parent / "ca.pem")
    assert settings.pop3.certificate == str(file.parent / "cert.pem")
    assert settings.pop3.private_key == str(file.parent / "key.pem")


def test_a_certificate_without_its_key_is_a_problem(file: Path) -> None:
    (file.parent / "cert.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    (problem,) = problems(file, HOST + '[pop3]\ncertificate = "cert.pem"\n')
    assert problem.startswith("pop3.private_key: needed")


def test_a_certificate_file_may_hold_the_key(file: Path) -> None:
    (file.parent / "both.pem").write_text("-----BEGIN PRIVATE KEY-----\n")
    file.write_text(HOST + '[pop3]\ncertificate = "both.pem"\n')
    assert load(file, {}).pop3.private_key == ""


def test_a_key_without_its_certificate_is_a_problem(file: Path) -> None:
    (file.parent / "key.pem").touch()
    (problem,) = problems(file, HOST + '[pop3]\nprivate_key = "key.pem"\n')
    assert problem.startswith("pop3.certificate: needed")


def test_a_proxy_that_listens_nowhere_is_a_problem(file: Path) -> None:
    (problem,) = problems(file, HOST + "[pop3]\nlisten = []\n")
    assert problem.startswith("pop3.listen: at least one address")


@pytest.mark.parametrize(
    ("text", "octets"), [("512B", 512), ("64KiB", 65536), ("25MiB", 26214400), ("1GiB", 1 << 30)]
)
def test_sizes_are_read_with_their_unit(text: str, octets: int) -> None:
    assert size(text) == octets


@pytest.mark.parametrize("value", [64, "64", "64KB", "KiB", "-1KiB", "1.5MiB"])
def test_a_size_without_a_known_unit_is_refused(value: object) -> None:
    with pytest.raises(WrongValue, match="not a size"):
        size(value)
