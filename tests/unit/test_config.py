"""The option table, the reading of file, environment, flags and keywords, and the refusal of what cannot work."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from understudy.config import (
    OPTIONS,
    Address,
    Config,
    Option,
    describe,
    format_duration,
    load,
    parse_address,
    parse_duration,
    parse_size,
    shown,
    unknown_variables,
)
from understudy.config.reading import clean_member_name
from understudy.errors import ConfigurationError

EXAMPLE = """
[cluster]
name = "shop"
member = "web1"
listen = "10.0.0.1:7400"
seeds = ["10.0.0.1:7400", "10.0.0.2:7400"]
secret_file = "keys/understudy"

[cluster.manager]
class = "BackupManager"
copies = 1
placement = "round-robin"
idle_timeout = "45m"
acknowledge = "backup"

[cookie]
name = "__Host-shop"
secure = true

[store]
bytes_max = "512MiB"
"""


def read(tmp_path: Path, file: str | None = None, environ: Mapping[str, str] | None = None, **flags: object) -> Config:
    if file is not None:
        (tmp_path / "understudy.toml").write_text(file)
    return load(environ=environ or {}, cwd=tmp_path, hostname="web9.example.com", flags=flags)


def refusal(tmp_path: Path, file: str | None = None, environ: Mapping[str, str] | None = None) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, file, environ)
    return str(caught.value)


# --- the table ---------------------------------------------------------------------------------------------------


def test_the_table_and_config_agree() -> None:
    """Every option is an attribute of Config, every typed attribute an option; no two share a variable or a key."""
    fields = set(Config.__struct_fields__) - {"values", "secret_text"}
    assert {option.attribute for option in OPTIONS} == fields
    assert len({option.variable for option in OPTIONS}) == len(OPTIONS)
    assert len({(option.file_table, option.file_key) for option in OPTIONS}) == len(OPTIONS)


def test_without_anything_the_defaults_hold(tmp_path: Path) -> None:
    """With no configuration: LocalManager, the host's first label, the documented defaults, each said to be one."""
    config = read(tmp_path)
    assert (config.manager_class, config.clustered, config.member, config.name) == (
        "LocalManager",
        False,
        "web9",
        "default",
    )
    assert (config.idle_timeout_ms, config.absolute_timeout_ms, config.forget_ms) == (1_800_000, None, 86_400_000)
    assert (config.linger_ms, config.rotation_grace_ms, config.touch_every_ms) == (60_000, 10_000, 60_000)
    assert (config.lease_ms, config.dead_ms, config.backup_timeout_ms, config.commit_timeout_ms) == (
        250,
        5000,
        100,
        2000,
    )
    assert (config.agent_timeout_ms, config.sweep_delay_ms, config.cold_start_ms) == (3000, 3000, 3000)
    assert (config.copies, config.placement, config.acknowledge, config.unprotected) == (
        1,
        "round-robin",
        "backup",
        "allow",
    )
    assert (config.cookie_name, config.cookie_path, config.cookie_domain) == ("session", "/", None)
    assert (config.cookie_secure, config.cookie_httponly, config.cookie_samesite) == ("auto", True, "Lax")
    assert (config.store_bytes_max, config.session_bytes_max, config.store_sync) == (1 << 30, 1 << 20, False)
    assert config.autostart and not config.multicast and not config.cookie_partitioned and not config.protected_header
    assert {config.source(option.name) for option in OPTIONS} == {"default"}


@pytest.mark.parametrize("option", OPTIONS, ids=[option.name for option in OPTIONS])
def test_help_shows_variable_and_default_in_one_line(option: Option) -> None:
    """The help of every option names its variable and its default."""
    line = describe(option)
    assert option.variable in line and "default: " in line and "\n" not in line


def test_help_reads_as_written() -> None:
    """Help lines read as a person would write them."""
    lines = {option.name: describe(option) for option in OPTIONS}
    assert lines["store_bytes_max"] == "size of the store's sparse map [UNDERSTUDY_STORE_BYTES_MAX; default: 1GiB]"
    assert lines["unprotected"].endswith("(allow | refuse) [UNDERSTUDY_UNPROTECTED; default: allow]")
    assert lines["touch_every"].endswith("[UNDERSTUDY_TOUCH_EVERY; default: 1/20 of idle_timeout, 1s to 60s]")
    assert lines["manager_class"].endswith(
        "[UNDERSTUDY_MANAGER_CLASS; default: BackupManager in a cluster, else LocalManager]"
    )


def test_every_default_may_be_written_in_the_environment(tmp_path: Path) -> None:
    """What ``shown`` prints for each option is accepted as its variable and gives the same value."""
    config = read(tmp_path, EXAMPLE.replace('"keys/', f'"{tmp_path}/keys/'))
    environ = {option.variable: shown(config, option) for option in OPTIONS if shown(config, option) != "none"}
    again = load(environ=environ, cwd=tmp_path / "elsewhere", hostname="other")
    assert replace(again, values={}) == replace(config, values={})
    assert again.source("seeds") == "environment UNDERSTUDY_SEEDS"


# --- values ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        ("30m", 1_800_000),
        ("250ms", 250),
        ("1h30m", 5_400_000),
        ("24h", 86_400_000),
        ("7d", 604_800_000),
        ("1m1ms", 60_001),
        ("1h 30m", 5_400_000),
        ("90", 90_000),
        (90, 90_000),
        (timedelta(minutes=2), 120_000),
        ("0s", 0),
        (" 5s ", 5_000),
    ],
)
def test_durations(value: object, ms: int) -> None:
    """Durations with units, bare seconds and timedeltas give milliseconds."""
    assert parse_duration(value) == ms


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "30x",
        "m30",
        "30m1h",
        "-5s",
        "1.5h",
        "3\N{ARABIC-INDIC DIGIT SEVEN}m",
        "ms",
        -1,
        True,
        1.5,
        None,
        [],
        "9" * 5000,
    ],
)
def test_bad_durations(value: object) -> None:
    """Anything else is refused with examples of what is right."""
    with pytest.raises(ValueError, match=r"30m.*number of seconds"):
        parse_duration(value)


@pytest.mark.parametrize("ms", [0, 1, 250, 60_000, 5_400_000, 90_061_001])
def test_durations_are_shown_as_they_are_read(ms: int) -> None:
    """``format_duration`` gives text that ``parse_duration`` reads as the same duration."""
    assert parse_duration(format_duration(ms)) == ms


def test_sizes() -> None:
    """Sizes are bytes, or text with a binary or decimal unit; anything else is refused with an example."""
    assert (parse_size("1GiB"), parse_size("512 MiB"), parse_size("1kB"), parse_size("77"), parse_size(5)) == (
        1 << 30,
        512 << 20,
        1000,
        77,
        5,
    )
    for wrong in ("", "1G", "GiB", "-1", "1.5GiB", -1, True, None):
        with pytest.raises(ValueError, match="512MiB"):
            parse_size(wrong)


def test_addresses() -> None:
    """Addresses are HOST:PORT with IPv6 hosts in brackets; loopback and wildcard are known without looking names up."""
    assert parse_address("10.0.0.1:7400") == Address("10.0.0.1", 7400)
    assert str(parse_address("[fd00::1]:7400")) == "[fd00::1]:7400"
    for loopback in ("127.0.0.1:1", "127.9.9.9:1", "localhost:1", "[::1]:1", "[::ffff:127.0.0.1]:1"):
        assert parse_address(loopback).loopback, loopback
    for far in ("10.0.0.1:1", "0.0.0.0:1", "[::]:1", "web1:1", "127.0.0.1.example.com:1", "[::ffff:10.0.0.1]:1"):
        assert not parse_address(far).loopback, far
    assert parse_address("0.0.0.0:1").wildcard and not parse_address("10.0.0.1:1").wildcard


@pytest.mark.parametrize(
    "text",
    [
        "",
        "web1",
        ":7400",
        "web1:",
        "web1:0",
        "web1:65536",
        "web1:http",
        "fd00::1:7400",
        "[web1]:7400",
        "10.0.0:7400",
        "a b:1",
        "http://web1:7400",
        "web1:\N{ARABIC-INDIC DIGIT SEVEN}",
        7400,
        None,
        "[::1:1",
        "-web:1",
        "web..x:1",
    ],
)
def test_bad_addresses(text: object) -> None:
    """A bad host or port is refused with an example."""
    with pytest.raises(ValueError, match=r"write it like \"10\.0\.0\.1:7400\""):
        parse_address(text)


@pytest.mark.parametrize(
    ("hostname", "member"),
    [
        ("web1.example.com", "web1"),
        ("WEB_1", "web-1"),
        ("-x-", "x"),
        ("", "member"),
        ("日本", "member"),
        ("a" * 32, "a" * 32),
    ],
)
def test_member_names_from_host_names(hostname: str, member: str) -> None:
    """A host name gives a valid member name."""
    assert clean_member_name(hostname) == member


def test_long_host_names_stay_different() -> None:
    """Two pods whose long names differ only at the end get different member names of at most 32 characters."""
    one, two = (clean_member_name("checkout-frontend-deployment-7d9f8b6c5d-" + end) for end in ("x7x2p", "x7x2q"))
    assert one != two and len(one) == len(two) == 32 and one.startswith("checkout-frontend-depl")


# --- where values come from --------------------------------------------------------------------------------------


def test_the_example_file(tmp_path: Path) -> None:
    """The documented file is read whole, and each value says where it stood; paths count from the file."""
    config = read(tmp_path, EXAMPLE)
    assert (config.name, config.member, config.listen) == ("shop", "web1", Address("10.0.0.1", 7400))
    assert config.seeds == (Address("10.0.0.1", 7400), Address("10.0.0.2", 7400))
    assert config.secret_file == tmp_path / "keys/understudy"
    assert (config.idle_timeout_ms, config.touch_every_ms, config.store_bytes_max) == (2_700_000, 60_000, 512 << 20)
    assert (config.cookie_name, config.cookie_secure) == ("__Host-shop", True)
    assert config.clustered and not config.loopback
    assert config.source("seeds") == "file understudy.toml [cluster] seeds"
    assert config.source("manager_class") == "file understudy.toml [cluster.manager] class"
    assert config.source("idle_timeout") == config.source("idle_timeout_ms")


def test_precedence(tmp_path: Path) -> None:
    """Keyword over framework over environment over file; an empty variable is none; flags win over these two."""
    file = '[cluster.manager]\nidle_timeout = "1m"\n[cluster]\nmember = "a"'
    assert read(tmp_path, file, {"UNDERSTUDY_IDLE_TIMEOUT": " "}).idle_timeout_ms == 60_000
    config = read(tmp_path, file, {"UNDERSTUDY_IDLE_TIMEOUT": "2m", "UNDERSTUDY_MEMBER": "b"}, member="c", name=None)
    assert (config.idle_timeout_ms, config.source("idle_timeout")) == (120_000, "environment UNDERSTUDY_IDLE_TIMEOUT")
    assert (config.member, config.source("member")) == ("c", "command line --member")
    framework = config.with_overrides("Flask setting PERMANENT_SESSION_LIFETIME", idle_timeout=timedelta(minutes=3))
    assert framework.source("idle_timeout") == "Flask setting PERMANENT_SESSION_LIFETIME"
    keyword = framework.with_overrides("keyword", idle_timeout="4m", cookie_name=None)
    assert (keyword.idle_timeout_ms, keyword.source("idle_timeout")) == (240_000, "keyword")
    assert (keyword.touch_every_ms, keyword.cookie_name, keyword.member) == (12_000, "session", "c")
    assert (framework.idle_timeout_ms, config.idle_timeout_ms) == (180_000, 120_000)


def test_overrides_in_milliseconds_and_by_option(tmp_path: Path) -> None:
    """An ``_ms`` keyword counts milliseconds, sources may be given by option, "none" takes a file's value away."""
    config = read(tmp_path, '[cookie]\ndomain = "example.com"')
    sources = {"cookie_name": "Flask setting SESSION_COOKIE_NAME"}
    config = config.with_overrides(sources, idle_timeout_ms=5_000, cookie_name="__Host-s", cookie_domain="none")
    assert (config.idle_timeout_ms, config.touch_every_ms, config.cookie_domain) == (5_000, 1_000, None)
    assert (config.source("cookie_name"), config.source("cookie_domain")) == (sources["cookie_name"], "keyword")


def test_pyproject(tmp_path: Path) -> None:
    """[tool.understudy] in pyproject.toml is read without an understudy.toml; other tools' tables are not ours."""
    (tmp_path / "pyproject.toml").write_text('[tool.black]\nx = 1\n[tool.understudy.cluster]\nname = "shop"\n')
    config = read(tmp_path)
    assert (config.name, config.source("name")) == ("shop", "file pyproject.toml [tool.understudy.cluster] name")
    assert read(tmp_path, '[cluster]\nmember = "m"').name == "default"


def test_the_file_that_the_environment_names(tmp_path: Path) -> None:
    """UNDERSTUDY_CONFIG is read instead of understudy.toml; one that does not exist is an error."""
    (tmp_path / "other.toml").write_text('[cluster]\nname = "other"')
    config = read(tmp_path, '[cluster]\nname = "shop"', {"UNDERSTUDY_CONFIG": "other.toml"})
    assert (config.name, config.source("name")) == ("other", "file other.toml [cluster] name")
    assert "UNDERSTUDY_CONFIG: there is no file" in refusal(tmp_path, None, {"UNDERSTUDY_CONFIG": "gone.toml"})


def test_the_secret_is_never_shown(tmp_path: Path) -> None:
    """S54: a Config's repr and the error for a wrong secret's neighbour do not hold UNDERSTUDY_SECRET."""
    config = read(tmp_path, None, {"UNDERSTUDY_SECRET": "correct-horse-battery-staple"})
    assert config.secret_text == "correct-horse-battery-staple" and "horse" not in repr(config)


# --- refusals ----------------------------------------------------------------------------------------------------

WRONG_FILES = [
    ('[cluster]\nseed = ["a:1"]', ["file understudy.toml [cluster] seed:", "did you mean `seeds`?"]),
    ('[cluster]\nidle_timeout = "1m"', ["[cluster] idle_timeout:", "`idle_timeout` belongs in [cluster.manager]"]),
    ('[manager]\nclass = "BackupManager"', ["table [manager]", "[cluster.manager]"]),
    ("[cookies]\n", ["table [cookies]", "did you mean `cookie`?"]),
    ("[quantum]\n", ["table [quantum]", "the tables are [cluster], [cluster.manager], [cookie], [store]"]),
    ('seeds = ["a:1"]', ["key seeds", "`seeds` belongs in [cluster]"]),
    ("cluster = 3", ["cluster: is not a table", "write [cluster]"]),
    ("[cluster]\nmanager = 3", ["[cluster] manager: is not a table", "[cluster.manager]"]),
    ("[cluster]\nname = 3", ["[cluster] name: 3 is not text"]),
    ('[cluster]\nname = "a/b"', ["name: 'a/b' is not allowed", "A-Z"]),
    ('[cluster]\nmember = "Web_1"', ["member: 'Web_1' is not allowed", "1 to 32 of a-z, 0-9 and -"]),
    (f'[cluster]\nmember = "{"a" * 33}"', ["is not allowed"]),
    ('[cluster]\nmember = "web1\\n"', ["is not allowed"]),
    ('[cluster]\nseeds = "a:1"', ["seeds: 'a:1' is not a list of addresses"]),
    ('[cluster]\nseeds = ["a:1", "b"]', ["seeds:", "holds 'b', which is not HOST:PORT"]),
    ('[cluster]\nseeds = ["0.0.0.0:1"]', ["to which nobody can connect"]),
    ('[cluster]\nlisten = "10.0.0.1:99999"', ["listen: '10.0.0.1:99999' has no port from 1 to 65535"]),
    ('[cluster]\nmulticast = "yes"', ["multicast: 'yes' is neither true nor false", "without quotes"]),
    ("[cluster]\nsecret_file = 3", ["secret_file: 3 is not a path"]),
    ("[cluster]\nlease_ms = 1", ["lease_ms: 1 is too small; the least is 20ms"]),
    ("[cluster]\nlease_ms = 6000", ["`lease` is 6s", "`dead` is 5s (default)"]),
    ("[cluster]\nlease_ms = 2.5", ["a number with a fraction"]),
    ("[cluster]\nbackup_timeout_ms = 9000", ["`backup_timeout_ms` is 9000", "`commit_timeout_ms`, 2000 (default)"]),
    ('[cluster]\npartition = "refuse"', ["`members_expected` of at least 3", "and it is 0 (default)"]),
    ('[cluster]\npartition = "refuse"\nmembers_expected = 2', ["of two members neither alone is a majority"]),
    ('[cluster.manager]\nidle_timeout = "30x"', ["[cluster.manager] idle_timeout: '30x' is not a duration", '"30m"']),
    ("[cluster.manager]\nidle_timeout = true", ["True is a boolean, not a duration"]),
    ('[cluster.manager]\nidle_timeout = "99999d"', ["is too large; the most is 3650d"]),
    ('[cluster.manager]\ntouch_every = "1h"', ["`touch_every` is 1h", "`idle_timeout` is 30m (default)"]),
    ('[cluster.manager]\nclass = "DeltaManager"', ["DeltaManager (file", "neither `listen` nor `seeds`"]),
    (
        '[cluster]\nlisten = "a:1"\n[cluster.manager]\nclass = "DeltaManager"\ncopies = 2',
        ["`copies` is given (file", "every member holds a copy"],
    ),
    (
        '[cluster.manager]\nclass = "Manager"',
        ["'Manager' is not known", '"LocalManager" or "BackupManager" or "DeltaManager"'],
    ),
    ('[cluster.manager]\nplacement = "random"', ["'random' is not known", '"round-robin" or "rendezvous"']),
    ('[cluster]\nzone = "a b"', ["zone: 'a b'"]),
    ('[cluster.manager]\nacknowledge = "all"', ["'all' is not known", '"backup" or "local" or "none"']),
    ("[cluster.manager]\nacknowledge = true", ["is not text"]),
    ("[cluster.manager]\ncopies = 0", ["copies: 0 is too small; the least is 1"]),
    ('[cluster.manager]\ncopies = "1"', ["copies: '1' is not a whole number", "without quotes"]),
    ('[cluster.manager]\nclass = "BackupManager"', ["BackupManager (file", "neither `listen` nor `seeds`"]),
    ('[cluster]\nseeds = ["a:1"]', ["`seeds` is given (file understudy.toml [cluster] seeds) but `listen` is not"]),
    ("[cluster]\nmulticast = true", ["`multicast` is true", "`listen` is not given"]),
    ('[cluster]\ntls_cert = "a.pem"', ["`tls_cert` is given", "`tls_key`", "`tls_ca`"]),
    (
        '[cluster]\nlisten = "a:1"\nseeds = ["a:1"]\n[cluster.manager]\nclass = "LocalManager"',
        ["LocalManager (file", "`seeds` is given", "remove `listen` and `seeds`"],
    ),
    ('[cluster]\nlisten = "a:1"\n[cluster.manager]\nclass = "LocalManager"', ["`listen` is given"]),
    ('[store]\nbytes_max = "1G"', ["bytes_max: '1G' is not a size", "1GiB"]),
    ("[store]\nbytes_max = 10", ["is too small; the least is 1MiB"]),
    ('[store]\nstore_bytes_max = "1GiB"', ["store_bytes_max: there is no such option; `bytes_max` belongs in [store]"]),
    ('[cookie]\nname = "a b"', ["name: 'a b' is not allowed"]),
    ('[cookie]\npath = "shop"', ["path: 'shop' is not allowed", "begin with /"]),
    ('[cookie]\npath = "/a;b"', ["is not allowed"]),
    ('[cookie]\ndomain = "a b"', ["a domain name"]),
    ('[cookie]\nsecure = "maybe"', ["'maybe' is not known", '"auto", true or false']),
    ('[cookie]\nsamesite = "Loose"', ['"Lax" or "Strict" or "None" or "unset"']),
    ('[cookie]\nname = "__Host-s"\nsecure = false', ["`secure` is false (file", "drop a cookie named __Host-s"]),
    ('[cookie]\nname = "__Host-s"\npath = "/shop"', ["__Host-s", "change `path`"]),
    ('[cookie]\nname = "__host-s"\ndomain = "x.org"', ["change `domain`"]),
    ('[cookie]\nname = "__Secure-s"\nsecure = false', ["__Secure-s"]),
    ('[cookie]\nsamesite = "None"\nsecure = false', ["SameSite=None"]),
    ("[cookie]\npartitioned = true\nsecure = false", ["a partitioned cookie"]),
    ('[cluster]\nname = "shop\n', ["file understudy.toml: is not valid TOML:", "line 2"]),
]


@pytest.mark.parametrize(
    ("file", "says"), WRONG_FILES, ids=lambda part: part.replace("\n", " ")[:60] if isinstance(part, str) else ""
)
def test_wrong_files(tmp_path: Path, file: str, says: list[str]) -> None:
    """Each kind of wrong file is refused with a message that says what, where, and what to do."""
    message = refusal(tmp_path, file)
    assert [part for part in says if part not in message] == [], message


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("UNDERSTUDY_COPIES", "two", "environment UNDERSTUDY_COPIES: 'two' is not a whole number"),
        ("UNDERSTUDY_SEEDS", "a:1,b", "environment UNDERSTUDY_SEEDS: 'a:1,b' holds 'b', which is not HOST:PORT"),
        ("UNDERSTUDY_STORE_SYNC", "maybe", "is neither true nor false; write true or false"),
        ("UNDERSTUDY_LEASE_MS", "soon", "is not a duration"),
        ("UNDERSTUDY_SEED", "a:1", "there is no such variable; did you mean `UNDERSTUDY_SEEDS`?"),
        ("UNDERSTUDY_SECRETS", "x", "did you mean `UNDERSTUDY_SECRET`?"),
    ],
)
def test_wrong_variables(tmp_path: Path, variable: str, value: str, says: str) -> None:
    """A malformed or misspelt variable is refused by its name."""
    assert says in refusal(tmp_path, None, {variable: value})


def test_foreign_variables_are_left_alone(tmp_path: Path) -> None:
    """What Kubernetes sets for a service of our name is no error; a stranger of our prefix is only reported."""
    kubernetes = {
        "UNDERSTUDY_SERVICE_HOST": "10.1.1.1",
        "UNDERSTUDY_PORT": "tcp://10.1.1.1:80",
        "UNDERSTUDY_PORT_80_TCP": "x",
    }
    environ = kubernetes | {"UNDERSTUDY_STORE_SERVICE_PORT_HTTP": "80", "UNDERSTUDY_WEATHER": "rain"}
    assert read(tmp_path, None, environ) == read(tmp_path)
    assert unknown_variables(environ) == (("UNDERSTUDY_WEATHER", None),)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A file that is a directory, is no UTF-8, or is far too large is refused by its name."""
    path = tmp_path / "understudy.toml"
    path.write_bytes(b"[cluster]\nname = '\xff'")
    assert "is not UTF-8 (at line 2)" in refusal(tmp_path)
    path.write_bytes(b"#" * (1 << 20) + b"\n")
    assert "is larger than 1048576 bytes" in refusal(tmp_path)
    path.unlink()
    path.mkdir()
    assert "file understudy.toml: cannot be read (Is a directory)" in refusal(tmp_path)


def test_a_pyproject_part_that_is_no_table(tmp_path: Path) -> None:
    """[tool] understudy = 3 is refused; an unknown key below [tool.understudy] is named with its whole table."""
    (tmp_path / "pyproject.toml").write_text("[tool]\nunderstudy = 3\n")
    assert "pyproject.toml [tool] understudy: is not a table" in refusal(tmp_path)
    (tmp_path / "pyproject.toml").write_text("[tool.understudy.cluster.manager]\ncopys = 3\n")
    assert "[tool.understudy.cluster.manager] copys: there is no such option; did you mean `copies`?" in refusal(
        tmp_path
    )


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"seeds": ["a:1"]}, "keyword seeds: the agent must know this option too"),
        (
            {"manager_class": "LocalManager"},
            "set `class` in [cluster.manager] of understudy.toml, or UNDERSTUDY_MANAGER_CLASS",
        ),
        ({"idle_timout": 5}, "keyword idle_timout: there is no such option; did you mean `idle_timeout`?"),
        ({"idle_timeout": "30x"}, "keyword idle_timeout: '30x' is not a duration"),
        ({"idle_timeout": 0}, "keyword idle_timeout: 0 is too small"),
        ({"cookie_httponly": "true"}, "is neither true nor false"),
        ({"cookie_name": "__Host-s", "cookie_path": "/x"}, "cookie name __Host-s (keyword)"),
    ],
)
def test_wrong_overrides(tmp_path: Path, values: dict[str, object], says: str) -> None:
    """A keyword for what the agent must know, an unknown one, and a malformed value are refused by name."""
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path).with_overrides("keyword", **values)
    assert says in str(caught.value)


def test_a_wrong_flag_names_the_flag(tmp_path: Path) -> None:
    """A malformed value on the command line is refused by its flag."""
    with pytest.raises(ConfigurationError, match="command line --secret-file: '' is not a path"):
        read(tmp_path, None, None, secret_file="")
