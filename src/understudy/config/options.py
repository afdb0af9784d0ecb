"""Decides which settings exist: one row per option, from which file keys, variables, keywords and help are derived."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from understudy import limits
from understudy.config.parse import format_size

Table = Literal["cluster", "manager", "cookie", "store"]
Kind = Literal[
    "str",
    "bool",
    "int",
    "milliseconds",
    "duration",
    "size",
    "choice",
    "address",
    "addresses",
    "path",
    "secure",
    "regex",
]
Scope = Literal["member", "request"]

FILE_TABLES: dict[Table, str] = {
    "cluster": "cluster",
    "manager": "cluster.manager",
    "cookie": "cookie",
    "store": "store",
}
"""Table of the option -> table in the file (below ``tool.understudy`` in ``pyproject.toml``)."""

DURATION_MS_MAX = 10 * 365 * 86_400_000
"""Ten years: longer than any session or memory of one is meant to live, and far inside a 64-bit integer."""
STORE_BYTES_CEILING = 1 << 44
"""16 TiB: above it the map no longer fits the address space that processors of 47 bits give, beside anything else."""

NAME_PATTERN = rf"[a-z0-9-]{{1,{limits.MEMBER_NAME_CHARS_MAX}}}"
CLUSTER_PATTERN = rf"[A-Za-z0-9_-]{{1,{limits.CLUSTER_NAME_CHARS_MAX}}}"
ZONE_PATTERN = rf"[A-Za-z0-9._-]{{1,{limits.MEMBER_NAME_CHARS_MAX}}}"
APPLICATION_PATTERN = rf"[A-Za-z0-9_.:/-]{{1,{limits.APPLICATION_NAME_CHARS_MAX}}}"
COOKIE_NAME_PATTERN = r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}"
COOKIE_PATH_PATTERN = r"/[\x21-\x3a\x3c-\x7e]{0,1023}"
COOKIE_DOMAIN_PATTERN = r"\.?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*"


class Option(Struct, frozen=True):
    """One setting: its name, where it may be set, what it may be, and what it is when nobody sets it.

    ``name`` is the keyword and, in capitals after ``UNDERSTUDY_``, the variable; ``key`` is the key in the file's
    table. ``scope`` "member" means that the agent must know it, so that only file, environment and the command
    line of ``understudy`` may set it; "request" options may also be keywords or the framework's own settings.
    """

    name: str
    table: Table
    kind: Kind
    default: object
    help: str
    key: str = ""
    scope: Scope = "member"
    optional: bool = False
    """May be "none", in the environment and as a keyword."""
    choices: tuple[str, ...] = ()
    minimum: int | None = None
    maximum: int | None = None
    pattern: str | None = None
    rule: str = ""
    """The pattern in words, for the message."""
    default_note: str = ""
    """The default in words where it is computed."""

    @property
    def file_key(self) -> str:
        return self.key or self.name

    @property
    def variable(self) -> str:
        return "UNDERSTUDY_" + self.name.upper()

    @property
    def file_table(self) -> str:
        return FILE_TABLES[self.table]

    @property
    def attribute(self) -> str:
        """Name on ``Config``: durations carry their unit there."""
        return self.name + "_ms" if self.kind == "duration" else self.name


class Variable(Struct, frozen=True):
    """A variable that is no option: it says where to look, or is too secret for a file of settings."""

    name: str
    help: str


def _milliseconds(name: str, default: int, help: str, minimum: int = 1) -> Option:
    return Option(name, "cluster", "milliseconds", default, help, minimum=minimum, maximum=DURATION_MS_MAX)


def _duration(
    name: str, table: Table, default: str | None, help: str, minimum_ms: int, scope: Scope = "member", note: str = ""
) -> Option:
    return Option(
        name,
        table,
        "duration",
        default,
        help,
        scope=scope,
        optional=default is None,
        minimum=minimum_ms,
        maximum=DURATION_MS_MAX,
        default_note=note,
    )


_CLUSTER = (
    Option(
        "name",
        "cluster",
        "str",
        "default",
        "name of the cluster; members of another name are not talked to",
        pattern=CLUSTER_PATTERN,
        rule=f"1 to {limits.CLUSTER_NAME_CHARS_MAX} of A-Z, a-z, 0-9, - and _",
    ),
    Option(
        "member",
        "cluster",
        "str",
        None,
        "name of this member, also the route in its cookies",
        pattern=NAME_PATTERN,
        rule=f"1 to {limits.MEMBER_NAME_CHARS_MAX} of a-z, 0-9 and -",
        default_note="the first label of the host name",
    ),
    Option(
        "zone",
        "cluster",
        "str",
        None,
        "what fails together with this member (a rack, a hall): copies go to another zone where there is one",
        optional=True,
        pattern=ZONE_PATTERN,
        rule=f"1 to {limits.MEMBER_NAME_CHARS_MAX} of A-Z, a-z, 0-9 and . _ -",
    ),
    Option("listen", "cluster", "address", None, "HOST:PORT at which the other members reach this one", optional=True),
    Option("seeds", "cluster", "addresses", (), "HOST:PORT of members to join, comma separated in the variable"),
    Option("multicast", "cluster", "bool", False, "find members by multicast, beside the seeds"),
    Option(
        "direct",
        "cluster",
        "bool",
        True,
        "send small messages to members that can be reached over connections of their own",
    ),
    Option(
        "direct_listen",
        "cluster",
        "address",
        None,
        "HOST:PORT of those connections; if unset, a free port of the host of listen",
        optional=True,
    ),
    Option(
        "secret_file",
        "cluster",
        "path",
        None,
        "file with the cluster's secret, one per line, the first mints",
        optional=True,
    ),
    Option(
        "tls_cert",
        "cluster",
        "path",
        None,
        "this member's certificate: traffic between members is encrypted, and both ends show one",
        optional=True,
    ),
    Option("tls_key", "cluster", "path", None, "the certificate's private key", optional=True),
    Option("tls_ca", "cluster", "path", None, "certificates of who signs the members' certificates", optional=True),
    Option(
        "tls_verify_names",
        "cluster",
        "bool",
        True,
        "a member's certificate must name the address at which it was dialled",
    ),
    Option(
        "application",
        "cluster",
        "str",
        "default",
        "name that separates this application's sessions from others' on the same cluster",
        scope="request",
        pattern=APPLICATION_PATTERN,
        rule=f"1 to {limits.APPLICATION_NAME_CHARS_MAX} of A-Z, a-z, 0-9 and _ . : / -",
    ),
    Option("autostart", "cluster", "bool", True, "the first worker that needs the agent starts it"),
    _duration("linger", "cluster", "60s", "how long an autostarted agent stays when no worker is attached", 0),
    _milliseconds("lease_ms", 250, "silence after which a member is suspect, and the length of a lease", 20),
    _milliseconds("dead_ms", 5000, "silence after which a member is dead"),
    Option(
        "partition",
        "cluster",
        "choice",
        "serve",
        "what a side of a cut without the majority of `members_expected` does: go on, or refuse changes",
        choices=("serve", "refuse"),
    ),
    Option(
        "members_expected",
        "cluster",
        "int",
        0,
        'how many members the whole cluster has, for partition = "refuse"',
        minimum=0,
        maximum=limits.MEMBERS_MAX,
    ),
    _milliseconds("claim_ms", 100, "how long a request waits for a silent member before it asks the backup"),
    _milliseconds("backup_timeout_ms", 100, "how long a commit waits for its backup before another one is taken"),
    _milliseconds("commit_timeout_ms", 2000, "how long a commit waits for any backup; then `unprotected` decides"),
    _milliseconds("agent_timeout_ms", 3000, "how long a worker waits for its agent to start or come back"),
    _milliseconds("sweep_delay_ms", 3000, "delay after a loss before sessions without requests are promoted", 0),
    _milliseconds("cold_start_ms", 3000, "how long the first member waits for the others after a stop of all", 0),
    _duration("patrol_every", "cluster", "60s", "from one comparison of all copies to the next; 0s: none", 0),
    _duration(
        "lost_after",
        "cluster",
        "5m",
        "how long sessions whose holders all vanished are answered 503, where it may be this member that is cut off",
        1000,
    ),
    _duration("forget", "cluster", "24h", "how long deletions and ended incarnations are remembered", 1000),
)

_MANAGER = (
    Option(
        "manager_class",
        "manager",
        "choice",
        None,
        "who holds copies: nobody (LocalManager), `copies` other members (BackupManager), or every member, which then"
        " reads in place (DeltaManager); the same on all members",
        key="class",
        choices=("LocalManager", "BackupManager", "DeltaManager"),
        default_note="BackupManager in a cluster, else LocalManager",
    ),
    Option(
        "copies",
        "manager",
        "int",
        1,
        "backups of each session under BackupManager",
        minimum=1,
        maximum=limits.MEMBERS_MAX - 1,
    ),
    Option(
        "placement",
        "manager",
        "choice",
        "round-robin",
        "how backups are chosen: in turn, or by key and name, so that no member keeps a note of each session;"
        " the same on all members",
        choices=("round-robin", "rendezvous"),
    ),
    Option(
        "move_after",
        "manager",
        "int",
        2,
        "times in a row that a member serves a session before it becomes its primary; 0: never",
        minimum=0,
        maximum=1000,
    ),
    _duration("idle_timeout", "manager", "30m", "a session unused for this long expires", 1000, "request"),
    _duration(
        "absolute_timeout", "manager", None, "a session older than this expires, however active", 1000, "request"
    ),
    Option(
        "acknowledge",
        "manager",
        "choice",
        "backup",
        "a response leaves when its changes are on the backup, on this member, or without waiting",
        scope="request",
        choices=("backup", "local", "none"),
    ),
    Option(
        "unprotected",
        "manager",
        "choice",
        "allow",
        "what happens to a change for which no backup answers",
        scope="request",
        choices=("allow", "refuse"),
    ),
    _duration("rotation_grace", "manager", "10s", "how long the previous id still opens a session after rotate()", 0),
    _duration(
        "touch_every",
        "manager",
        None,
        "how old the recorded last access may be before it is recorded again",
        1000,
        "request",
        note="1/20 of idle_timeout, 1s to 60s",
    ),
    Option(
        "session_bytes_max",
        "manager",
        "size",
        limits.SESSION_BYTES_MAX,
        "largest session; a larger one is refused",
        minimum=1024,
        maximum=limits.FRAME_BYTES_MAX // 2,  # a whole session travels in one frame, beside its names and header
    ),
    Option(
        "read_only_paths",
        "manager",
        "regex",
        None,
        "regular expression of whole paths whose requests neither change nor renew their session",
        scope="request",
        optional=True,
    ),
    Option(
        "attribute_filter",
        "manager",
        "regex",
        None,
        "regular expression of whole attribute names; attributes of other names end with their request",
        scope="request",
        optional=True,
    ),
    Option(
        "primary_indicator",
        "manager",
        "str",
        None,
        "name of a request attribute (environ, scope) that says whether this member is the session's primary",
        scope="request",
        optional=True,
    ),
    Option(
        "protected_header",
        "manager",
        "bool",
        False,
        "for tests: responses say X-Understudy-Protected",
        scope="request",
    ),
)

_COOKIE = (
    Option(
        "cookie_name",
        "cookie",
        "str",
        "session",
        "name of the cookie",
        key="name",
        scope="request",
        pattern=COOKIE_NAME_PATTERN,
        rule="1 to 128 letters, digits and !#$%&'*+-.^_`|~",
    ),
    Option(
        "cookie_path",
        "cookie",
        "str",
        "/",
        "path of the cookie",
        key="path",
        scope="request",
        pattern=COOKIE_PATH_PATTERN,
        rule="begin with / and have no spaces and no ;",
    ),
    Option(
        "cookie_domain",
        "cookie",
        "str",
        None,
        "domain of the cookie; none: this host only",
        key="domain",
        scope="request",
        optional=True,
        pattern=COOKIE_DOMAIN_PATTERN,
        rule="a domain name, without port",
    ),
    Option(
        "cookie_secure",
        "cookie",
        "secure",
        "auto",
        "Secure flag: auto (when the request is https), true or false",
        key="secure",
        scope="request",
    ),
    Option("cookie_httponly", "cookie", "bool", True, "HttpOnly flag", key="httponly", scope="request"),
    Option(
        "cookie_samesite",
        "cookie",
        "choice",
        "Lax",
        "SameSite flag; unset: the cookie has none, and the browser's default counts",
        key="samesite",
        scope="request",
        choices=("Lax", "Strict", "None", "unset"),
    ),
    Option("cookie_partitioned", "cookie", "bool", False, "Partitioned flag", key="partitioned", scope="request"),
)

_STORE = (
    Option(
        "store_bytes_max",
        "store",
        "size",
        limits.STORE_BYTES_MAX,
        "size of the store's sparse map",
        key="bytes_max",
        minimum=1 << 20,
        maximum=STORE_BYTES_CEILING,
    ),
    Option("store_sync", "store", "bool", False, "write through to the disk at each commit", key="sync"),
)

OPTIONS: tuple[Option, ...] = _CLUSTER + _MANAGER + _COOKIE + _STORE
"""Every setting, in the order in which help and ``doctor`` show them."""

VARIABLES: tuple[Variable, ...] = (
    Variable(
        "UNDERSTUDY_CONFIG", "configuration file; default: understudy.toml, else [tool.understudy] in pyproject.toml"
    ),
    Variable("UNDERSTUDY_DIR", "the member's directory; default: /var/tmp/understudy/<uid>/<cluster>/<member>"),
    Variable(
        "UNDERSTUDY_SECRET", "the cluster's secret itself, instead of secret_file; several lines: the first mints"
    ),
)
"""Variables beside the options."""

_BY_NAME = {option.name: option for option in OPTIONS} | {option.attribute: option for option in OPTIONS}


def option_named(name: str) -> Option | None:
    """Gives the option of that name, or of that attribute of ``Config``; None when there is none."""
    return _BY_NAME.get(name)


def describe(option: Option) -> str:
    """Gives one line for ``--help``: what it is, its variable and its default."""
    choices = f" ({' | '.join(option.choices)})" if option.choices else ""
    return f"{option.help}{choices} [{option.variable}; default: {default_text(option)}]"


def default_text(option: Option) -> str:
    """Gives the default as a person would write it."""
    if option.default_note:
        return option.default_note
    if option.default is None or option.default == ():
        return "none"
    if isinstance(option.default, bool):
        return "true" if option.default else "false"
    if option.kind == "size" and isinstance(option.default, int):
        return format_size(option.default)
    return str(option.default)
