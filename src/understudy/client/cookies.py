"""Reads the cookie, and gives the headers that a session adds to a response, where no framework writes them itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from understudy.client.session import Session
from understudy.config import Config

PROTECTED_HEADER = "X-Understudy-Protected"
_FORMAT = "%a, %d %b %Y %H:%M:%S GMT"
_LONG_AGO = "Thu, 01 Jan 1970 00:00:00 GMT"


def cookie_in(header: str, name: str) -> str:
    """The first cookie of that name in a ``Cookie`` header, "" if there is none."""
    if name not in header:
        return ""
    for part in header.split(";"):
        key, separator, value = part.partition("=")
        if separator and key.strip() == name:
            value = value.strip()
            return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
    return ""


def session_headers(
    session: Session,
    config: Config,
    *,
    vary: str,
    is_https: bool,
    max_age_s: int | None = None,
    resends: bool = False,
) -> list[tuple[str, str]]:
    """What a committed session adds to its response: ``Vary``, ``Set-Cookie``, the header for tests; each if needed.

    Args:
        vary: what the response varies by already; what is returned stands in its place.
        max_age_s: how long the cookie lives; None: until the browser is closed. A cookie with a lifetime is renewed at
            the rate at which accesses are recorded, so that it does not end before the session does.
        resends: also a cookie that has not changed.
    """
    if not session.accessed:
        return [("Vary", vary)] if vary else []
    visit = session.visit
    headers = [("Vary", with_vary(vary))]
    cookie = visit.cookie_now
    if cookie is not None:
        is_renewed = bool(cookie) and max_age_s is not None and visit.renewed_ms >= config.touch_every_ms
        if cookie != visit.cookie or is_renewed or (resends and cookie):
            headers.append(("Set-Cookie", set_cookie(config, cookie, is_https=is_https, max_age_s=max_age_s)))
    if config.protected_header and visit.wrote:
        headers.append((PROTECTED_HEADER, "1" if session.protected else "0"))
    return headers


def set_cookie(config: Config, value: str, *, is_https: bool, max_age_s: int | None = None) -> str:
    """A ``Set-Cookie`` header with all flags; an empty value takes the cookie away, with the same flags."""
    parts = [f"{config.cookie_name}={value}"]
    if not value:
        parts += [f"Expires={_LONG_AGO}", "Max-Age=0"]
    elif max_age_s is not None:
        expires = datetime.now(UTC) + timedelta(seconds=max_age_s)
        parts += [f"Expires={expires.strftime(_FORMAT)}", f"Max-Age={max_age_s}"]
    parts.append(f"Path={config.cookie_path}")
    if config.cookie_domain is not None:
        parts.append(f"Domain={config.cookie_domain}")
    if is_https if config.cookie_secure == "auto" else config.cookie_secure:
        parts.append("Secure")
    if config.cookie_httponly:
        parts.append("HttpOnly")
    if config.cookie_samesite != "unset":
        parts.append(f"SameSite={config.cookie_samesite}")
    if config.cookie_partitioned:
        parts.append("Partitioned")
    return "; ".join(parts)


def with_vary(vary: str) -> str:
    """The ``Vary`` header's value with ``Cookie`` in it."""
    fields = [field.strip().lower() for field in vary.split(",")]
    return vary if "cookie" in fields or "*" in fields else f"{vary}, Cookie" if vary.strip() else "Cookie"
