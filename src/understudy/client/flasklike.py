"""What Flask and Quart, its twin, share: ``session`` with their attributes, their settings, and the cookie.

It imports neither. Both give their responses as Werkzeug does, and keep their settings in ``app.config``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from understudy.client.cookies import PROTECTED_HEADER, with_vary
from understudy.client.runtime import REFUSAL_TEXT, RETRY_AFTER_S, Runtime
from understudy.client.session import Session
from understudy.client.visit import KEEP
from understudy.config import Config, load
from understudy.model.commit import Opening

_Result = TypeVar("_Result")
_Typed = TypeVar("_Typed")
_LOG = logging.getLogger("understudy")

SETTINGS = {
    "SESSION_COOKIE_NAME": "cookie_name",
    "SESSION_COOKIE_DOMAIN": "cookie_domain",
    "SESSION_COOKIE_PATH": "cookie_path",
    "SESSION_COOKIE_HTTPONLY": "cookie_httponly",
    "SESSION_COOKIE_SECURE": "cookie_secure",
    "SESSION_COOKIE_SAMESITE": "cookie_samesite",
    "SESSION_COOKIE_PARTITIONED": "cookie_partitioned",
    "PERMANENT_SESSION_LIFETIME": "idle_timeout",
}
"""The framework's setting -> the option that it is."""
LIFETIME, SAMESITE, ROOT = "PERMANENT_SESSION_LIFETIME", "SESSION_COOKIE_SAMESITE", "APPLICATION_ROOT"
DEFAULT_SAMESITE = "Lax"
"""Where the framework has none."""
_FOLLOWED = (*SETTINGS, ROOT)
PERMANENT = "_permanent"
"""The attribute in which both frameworks keep ``session.permanent``."""


class FlaskSession(MutableMapping[str, Any]):
    """Understudy's session with the attributes that Flask and Quart add to one."""

    def __init__(self, session: Session) -> None:
        self.understudy = session
        self._is_marked = False
        self._is_accessed = False

    def __getitem__(self, name: str) -> Any:
        return self.understudy[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self.understudy[name] = value

    def __delitem__(self, name: str) -> None:
        del self.understudy[name]

    def __contains__(self, name: object) -> bool:
        return name in self.understudy

    def __iter__(self) -> Iterator[str]:
        return iter(self.understudy)

    def __len__(self) -> int:
        return len(self.understudy)

    def __repr__(self) -> str:
        return repr(self.understudy)

    def clear(self) -> None:
        """Log out: end the session, as ``invalidate`` does."""
        self.understudy.invalidate()

    @property
    def accessed(self) -> bool:
        """True if the application has asked for its session; Flask sets it then, Quart does not."""
        return self._is_accessed or self.understudy.accessed

    @accessed.setter
    def accessed(self, value: bool) -> None:
        self._is_accessed = value

    @property
    def modified(self) -> bool:
        """True if the request has changed the session. Setting it does no harm and is not needed."""
        return self._is_marked or self.understudy.modified

    @modified.setter
    def modified(self, value: bool) -> None:
        self._is_marked = value

    @property
    def permanent(self) -> bool:
        """True if the cookie outlives the browser."""
        return bool(self.get(PERMANENT, False))

    @permanent.setter
    def permanent(self, value: bool) -> None:
        self[PERMANENT] = bool(value)

    @property
    def new(self) -> bool:
        return self.understudy.is_new

    @property
    def id(self) -> str | None:
        return self.understudy.id

    @property
    def is_new(self) -> bool:
        return self.understudy.is_new

    @property
    def created(self) -> datetime:
        return self.understudy.created

    @property
    def role(self) -> str:
        return self.understudy.role

    @property
    def protected(self) -> bool:
        return self.understudy.protected

    @property
    def principal(self) -> Any:
        return self.understudy.principal

    def rotate(self, *, principal: Any = KEEP) -> None:
        """See ``Session.rotate``."""
        self.understudy.rotate(principal=principal)

    def invalidate(self) -> None:
        """See ``Session.invalidate``."""
        self.understudy.invalidate()

    def transact(self, change: Callable[[Session], _Result]) -> _Result:
        """See ``Session.transact``."""
        return self.understudy.transact(change)

    async def atransact(self, change: Callable[[Session], _Result]) -> _Result:
        """See ``Session.atransact``."""
        return await self.understudy.atransact(change)

    def as_type(self, type_: type[_Typed]) -> _Typed:
        """See ``Session.as_type``."""
        return self.understudy.as_type(type_)

    def concurrent(self, name: str) -> list[Any]:
        """See ``Session.concurrent``."""
        return self.understudy.concurrent(name)


def prepare(app: Any) -> None:
    """Give the application our default where it is safer than the framework's; what it sets afterwards counts."""
    if app.config.get(SAMESITE) is None:
        app.config[SAMESITE] = DEFAULT_SAMESITE


class Follower:
    """Called at the beginning of each request: a setting that was changed meanwhile counts from then on."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._seen: list[object] | None = None

    def __call__(self, app: Any) -> None:
        """Cost: ten look-ups in a dict, 1 µs."""
        now = list(map(app.config.get, _FOLLOWED))
        if now != self._seen:
            if self._seen is not None:
                self._runtime.reset()
            self._seen = now


def configured(app: Any, keywords: Mapping[str, object], framework: str) -> Config:
    """File and environment, under the framework's settings, under the keywords.

    A setting that is the framework's default counts where nothing else is said, if it is a lifetime, and else not.
    Raises: ConfigurationError.
    """
    config = load()
    given: dict[str, object] = {}
    sources: dict[str, str] = {}
    for setting, option in SETTINGS.items():
        value = app.config.get(setting)
        default = DEFAULT_SAMESITE if setting == SAMESITE else app.default_config.get(setting)
        if setting == SAMESITE and value is None:
            value = "unset"
        if setting == LIFETIME and config.source(option) == "default":
            default = None
        if value is not None and value != default:
            given[option], sources[option] = value, f"{framework} setting {setting}"
    root = app.config.get(ROOT)
    if root and root != "/" and "cookie_path" not in given:
        given["cookie_path"], sources["cookie_path"] = root, f"{framework} setting {ROOT}"
    if "idle_timeout_ms" in keywords:
        given.pop("idle_timeout", None)
    for option, value in keywords.items():
        given[option] = value
        sources.pop(option, None)
    return config.with_overrides(sources, **given)


def renew(app: Any, session: FlaskSession) -> None:
    """Let a permanent session that the request has not used be renewed: ``SESSION_REFRESH_EACH_REQUEST`` says so.

    Nobody is asked for it: what another member must be asked for, only requests that use their session renew.
    Cost: 30 µs for a request that has a session and does not use it, to learn whether it is permanent.
    """
    visit = session.understudy.visit
    if session.accessed or visit.read_only or not app.config["SESSION_REFRESH_EACH_REQUEST"]:
        return
    opened = session.understudy.glimpse()
    if opened is None or opened.opening is not Opening.CURRENT or opened.unsettled:
        return  # another request is changing it, and renews it
    if PERMANENT in visit.draft and visit.draft.get(PERMANENT):
        session.understudy.mark_accessed()


def add_headers(interface: Any, app: Any, session: FlaskSession, response: Any, config: Config) -> None:
    """Give the response what the session adds: ``Vary``, the cookie if it changed or is wanted, the header for tests.

    ``interface`` is the session interface: its methods say when the cookie is sent and with which flags.
    """
    if not session.accessed:
        return
    visit = session.understudy.visit
    response.headers["Vary"] = with_vary(response.headers.get("Vary", ""))  # a third of what ``response.vary`` takes
    if config.protected_header and visit.wrote:
        response.headers[PROTECTED_HEADER] = "1" if session.protected else "0"
    cookie = visit.cookie_now
    if cookie is None or (not cookie and not visit.cookie):
        return
    # The key is there once the application has said whether the cookie outlives the browser.
    is_wanted = PERMANENT in session and interface.should_set_cookie(app, session)
    if cookie == visit.cookie and not is_wanted:
        return
    name = interface.get_cookie_name(app)
    flags: dict[str, Any] = {
        "domain": interface.get_cookie_domain(app),
        "path": interface.get_cookie_path(app),
        "secure": interface.get_cookie_secure(app),
        "httponly": interface.get_cookie_httponly(app),
        "samesite": interface.get_cookie_samesite(app),
        "partitioned": interface.get_cookie_partitioned(app),
    }
    if cookie:
        response.set_cookie(name, cookie, expires=interface.get_expiration_time(app, session), **flags)
    else:
        response.delete_cookie(name, **flags)


def expiration(session: Any, config: Config) -> datetime | None:
    """A permanent session's cookie lives as long as the session does when nobody uses it."""
    return datetime.now(UTC) + timedelta(milliseconds=config.idle_timeout_ms) if session.permanent else None


def refusal(error: Exception) -> tuple[str, int, dict[str, str]]:
    """Body, status and headers of the answer while a session cannot be reached; the cookie is left alone."""
    _LOG.warning("answered 503: %s", error)
    return REFUSAL_TEXT, 503, {"Retry-After": str(RETRY_AFTER_S), "Content-Type": "text/plain; charset=utf-8"}
