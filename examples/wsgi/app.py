"""A shop's basket on plain WSGI: log in, put things into it, log out. Run it with `gunicorn --workers 2 app:app`."""

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

from understudy.wsgi import SessionMiddleware


def shop(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    session = environ["understudy.session"]
    status, text = "200 OK", ""
    match environ["REQUEST_METHOD"], environ["PATH_INFO"]:
        case "GET", "/":
            text = f"{session.principal or 'nobody'}: {', '.join(session.get('basket', [])) or 'nothing'}"
        case "POST", "/login":
            session.rotate(principal=form_of(environ)["name"])  # a new id: a foisted one opens nothing
            text = "welcome"
        case "POST", "/basket":
            # As one: two clicks at the same moment put two things in, on whichever machines they arrive.
            thing = form_of(environ)["thing"]
            session.transact(lambda s: s.setdefault("basket", []).append(thing))
            text = "it is in"
        case "POST", "/logout":
            session.invalidate()
            text = "goodbye"
        case _:
            status, text = "404 Not Found", "there is no such page"
    start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [f"{text}\n".encode()]


def form_of(environ: dict[str, Any]) -> dict[str, str]:
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    return {name: values[0] for name, values in parse_qs(body.decode()).items()}


app = SessionMiddleware(shop, absolute_timeout="12h")
