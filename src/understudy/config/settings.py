"""Gives ``Config``: the value of every option, where it came from, and the refusal of combinations that cannot work."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

from understudy.config.convert import convert
from understudy.config.options import OPTIONS, Option, option_named
from understudy.config.parse import Address, format_duration, format_size
from understudy.errors import ConfigurationError

DEFAULT = "default"

Values = Mapping[str, tuple[object, str]]
"""Option name -> (typed value, where it came from)."""


AGREED = frozenset(
    {"application", "lease_ms", "dead_ms", "partition", "members_expected", "forget"}
    | {"manager_class", "copies", "placement", "move_after", "session_bytes_max"}
)
"""Options that all members of a cluster should have alike: each acts on what the others hold, or expects it of them."""

NAME_SIMILARITY = 0.6
"""How like a wrong name one must be to be suggested; 0.6 is what ``difflib`` itself takes."""
PARTITION_MEMBERS_MIN = 3
"""Of two members neither is a majority when the other is gone."""


class Config(Struct, frozen=True):
    """Every setting of this member, typed; durations in milliseconds, sizes in bytes.

    Made by ``load``; never changed, only derived from with ``with_overrides``. Its ``repr`` shows no secret.
    """

    name: str
    member: str
    zone: str | None
    listen: Address | None
    seeds: tuple[Address, ...]
    multicast: bool
    direct: bool
    direct_listen: Address | None
    secret_file: Path | None
    tls_cert: Path | None
    tls_key: Path | None
    tls_ca: Path | None
    tls_verify_names: bool
    application: str
    autostart: bool
    linger_ms: int
    lease_ms: int
    dead_ms: int
    partition: str
    members_expected: int
    claim_ms: int
    backup_timeout_ms: int
    commit_timeout_ms: int
    agent_timeout_ms: int
    sweep_delay_ms: int
    cold_start_ms: int
    patrol_every_ms: int
    lost_after_ms: int
    forget_ms: int
    manager_class: Literal["LocalManager", "BackupManager", "DeltaManager"]
    copies: int
    move_after: int
    placement: Literal["round-robin", "rendezvous"]
    idle_timeout_ms: int
    absolute_timeout_ms: int | None
    acknowledge: Literal["backup", "local", "none"]
    unprotected: Literal["allow", "refuse"]
    rotation_grace_ms: int
    touch_every_ms: int
    session_bytes_max: int
    read_only_paths: str | None
    attribute_filter: str | None
    primary_indicator: str | None
    protected_header: bool
    cookie_name: str
    cookie_path: str
    cookie_domain: str | None
    cookie_secure: bool | Literal["auto"]
    cookie_httponly: bool
    cookie_samesite: Literal["Lax", "Strict", "None", "unset"]
    cookie_partitioned: bool
    store_bytes_max: int
    store_sync: bool
    secret_text: str | None = None
    """What ``UNDERSTUDY_SECRET`` holds; ``read_secrets`` gives the secrets themselves."""
    values: Values = {}
    """What was set, before defaults that depend on other options were worked out."""

    def __repr__(self) -> str:
        names = (name for name in self.__struct_fields__ if name not in ("secret_text", "values"))
        return f"Config({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    @property
    def clustered(self) -> bool:
        """True when other members may exist: an agent is needed then."""
        return self.listen is not None or bool(self.seeds)

    @property
    def loopback(self) -> bool:
        """True when no address of this member or its seeds can be reached from, or lead to, another machine."""
        addresses = (*self.seeds, self.listen) if self.listen is not None else self.seeds
        return not self.multicast and all(address.loopback for address in addresses)

    def source(self, name: str) -> str:
        """Gives where that option's value came from, in words: "default", "environment UNDERSTUDY_SEEDS", …"""
        option = _known(name, "")
        return self.values[option.name][1] if option.name in self.values else DEFAULT

    def with_overrides(self, source: str | Mapping[str, str], **values: object) -> Config:
        """Gives a copy in which these options have these values; None means that the caller did not give one.

        ``source`` says where the values stand ("keyword", "Flask setting SESSION_COOKIE_NAME"), for all of them or by
        option. Durations are milliseconds where the name ends in ``_ms``, else seconds, text or ``timedelta``.
        Raises: ConfigurationError for an unknown or malformed option, and for one that the agent must know too.
        """
        merged = dict(self.values)
        for name, value in values.items():
            where = source if isinstance(source, str) else source.get(name, "keyword")
            option = _known(name, where)
            if option.scope == "member":
                raise ConfigurationError(
                    f"{where} {name}: the agent must know this option too, so it cannot be set here; set"
                    f" `{option.file_key}` in [{option.file_table}] of understudy.toml, or {option.variable}"
                )
            if value is not None:
                in_ms = name == option.attribute != option.name and isinstance(value, int)
                place = f"{where} {name}" if where == "keyword" else where
                given = f"{value}ms" if in_ms else value
                merged[option.name] = (typed(option, given, place, text=False, directory=Path()), where)
        return build(merged, self.member, self.secret_text)


def typed(option: Option, value: object, where: str, *, text: bool, directory: Path) -> object:
    """Gives the option's value in its type. Raises: ConfigurationError that says where the value stands."""
    try:
        return convert(option, value, text=text, directory=directory)
    except ValueError as error:
        raise ConfigurationError(f"{where}: {_quoted(value)} {error}") from None


def build(values: Values, default_member: str, secret_text: str | None) -> Config:
    """Gives the Config of what was set, with defaults for the rest. Raises: ConfigurationError for a contradiction."""
    attributes: dict[str, Any] = {}
    for option in OPTIONS:
        value = values[option.name][0] if option.name in values else _default(option)
        attributes[option.attribute] = value
    if attributes["member"] is None:
        attributes["member"] = default_member
    if attributes["manager_class"] is None:
        clustered = attributes["listen"] is not None or attributes["seeds"]
        attributes["manager_class"] = "BackupManager" if clustered else "LocalManager"
    if attributes["touch_every_ms"] is None:
        idle_ms = attributes["idle_timeout_ms"]
        # Never more than half the idle timeout, else a session in use could expire between two records of it.
        attributes["touch_every_ms"] = min(max(idle_ms // 20, 1_000), 60_000, idle_ms // 2)
    config = Config(**attributes, secret_text=secret_text, values=values)
    _check_cluster(config)
    _check_partition(config)
    _check_times(config)
    _check_cookie(config)
    return config


def agreed(config: Config) -> tuple[tuple[str, str], ...]:
    """Gives name and value of the options that all members of a cluster should have alike."""
    return tuple((option.name, shown(config, option)) for option in OPTIONS if option.name in AGREED)


def shown(config: Config, option: Option) -> str:
    """Gives the option's value as a person would write it; no option holds a secret."""
    value = getattr(config, option.attribute)
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ", ".join(str(item) for item in value)
    if option.kind in ("duration", "milliseconds"):
        return format_duration(value)
    return format_size(value) if option.kind == "size" else str(value)


def suggestion(name: str, known: list[str]) -> str:
    """Gives "; did you mean `x`?" or nothing."""
    close = nearest(name.lower(), known, NAME_SIMILARITY)
    return f"; did you mean `{close}`?" if close else ""


def nearest(name: str, known: list[str], similarity: float) -> str | None:
    """Gives the known name that is most like this one, if it is as like it as wanted (1: the same)."""
    from difflib import get_close_matches  # here, because only a mistake needs it

    return next(iter(get_close_matches(name, known, n=1, cutoff=similarity)), None)


def _known(name: str, where: str) -> Option:
    option = option_named(name)
    if option is None:
        hint = suggestion(name, [option.name for option in OPTIONS])
        raise ConfigurationError(f"{where} {name}: there is no such option{hint}".strip())
    return option


def _default(option: Option) -> object:
    # Only durations are written in the table as a person writes them; all other defaults have their type already.
    if option.kind == "duration" and option.default is not None:
        return convert(option, option.default, text=False, directory=Path())
    return option.default


def _quoted(value: object) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _check_cluster(config: Config) -> None:
    tls = [name for name in ("tls_cert", "tls_key", "tls_ca") if getattr(config, name) is not None]
    if len(tls) not in (0, 3):
        raise ConfigurationError(
            f"`{tls[0]}` is given ({config.source(tls[0])}), but encryption between members needs all of `tls_cert`,"
            " `tls_key` and `tls_ca` in [cluster]; give all three, or none"
        )
    if config.seeds and config.listen is None:
        raise ConfigurationError(
            f"`seeds` is given ({config.source('seeds')}) but `listen` is not: the other members could not reach this"
            ' one; set `listen = "HOST:PORT"` in [cluster] or UNDERSTUDY_LISTEN to this machine\'s address'
        )
    if config.multicast and config.listen is None:
        raise ConfigurationError(
            f'`multicast` is true ({config.source("multicast")}) but `listen` is not given; set `listen = "HOST:PORT"`'
            " in [cluster] or UNDERSTUDY_LISTEN, or leave `multicast` out"
        )
    if config.manager_class == "LocalManager" and config.clustered:
        given = "seeds" if config.seeds else "listen"
        raise ConfigurationError(
            f"LocalManager ({config.source('manager_class')}) keeps sessions on this machine only, but `{given}` is"
            f' given ({config.source(given)}); remove `listen` and `seeds`, or set `class = "BackupManager"`'
        )
    if config.manager_class == "DeltaManager" and config.source("copies") != DEFAULT:
        raise ConfigurationError(
            f"`copies` is given ({config.source('copies')}), but under DeltaManager ({config.source('manager_class')})"
            ' every member holds a copy; leave it out, or set `class = "BackupManager"`'
        )
    if config.manager_class != "LocalManager" and not config.clustered:
        raise ConfigurationError(
            f"{config.manager_class} ({config.source('manager_class')}) needs other members, but neither `listen` nor"
            " `seeds` is given; set both in [cluster] (or UNDERSTUDY_LISTEN and UNDERSTUDY_SEEDS), or leave `class` out"
        )


def _check_partition(config: Config) -> None:
    if config.partition == "refuse" and config.members_expected < PARTITION_MEMBERS_MIN:
        raise ConfigurationError(
            f'`partition` is "refuse" ({config.source("partition")}), which needs `members_expected` of at least'
            f" {PARTITION_MEMBERS_MIN}, and it is {config.members_expected} ({config.source('members_expected')}): of"
            " two members neither alone is a majority; set it to the number of members of the whole cluster, or leave"
            ' `partition` at "serve"'
        )


def _check_times(config: Config) -> None:
    for smaller, larger in (("lease_ms", "dead_ms"), ("touch_every_ms", "idle_timeout_ms")):
        low, high = getattr(config, smaller), getattr(config, larger)
        if low >= high:
            raise ConfigurationError(
                f"`{smaller.removesuffix('_ms')}` is {format_duration(low)} ({config.source(smaller)}) and"
                f" `{larger.removesuffix('_ms')}` is {format_duration(high)} ({config.source(larger)}); the first must"
                " be smaller: change one of them"
            )
    if config.backup_timeout_ms > config.commit_timeout_ms:
        raise ConfigurationError(
            f"`backup_timeout_ms` is {config.backup_timeout_ms} ({config.source('backup_timeout_ms')}), longer than"
            f" `commit_timeout_ms`, {config.commit_timeout_ms} ({config.source('commit_timeout_ms')}): no second backup"
            " would ever be tried; make it smaller"
        )


def _check_cookie(config: Config) -> None:
    """Source: RFC 6265bis (name prefixes, SameSite=None) and CHIPS (Partitioned): browsers drop such cookies."""
    prefix = config.cookie_name.lower()
    wants_secure = [
        reason
        for reason, applies in (
            (f"a cookie named {config.cookie_name}", prefix.startswith(("__host-", "__secure-"))),
            ("SameSite=None", config.cookie_samesite == "None"),
            ("a partitioned cookie", config.cookie_partitioned),
        )
        if applies
    ]
    if wants_secure and config.cookie_secure is False:
        raise ConfigurationError(
            f"cookie `secure` is false ({config.source('cookie_secure')}), but browsers drop {wants_secure[0]} that is"
            " not Secure; set `secure` in [cookie] or UNDERSTUDY_COOKIE_SECURE to true or auto"
        )
    if prefix.startswith("__host-") and (config.cookie_path != "/" or config.cookie_domain is not None):
        wrong = "cookie_path" if config.cookie_path != "/" else "cookie_domain"
        raise ConfigurationError(
            f"cookie name {config.cookie_name} ({config.source('cookie_name')}): browsers drop a __Host- cookie unless"
            f' its path is "/" and it has no domain; change `{wrong.removeprefix("cookie_")}` ({config.source(wrong)})'
            " or the name"
        )
