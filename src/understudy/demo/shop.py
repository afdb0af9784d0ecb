"""Serves the demo's shop: an ordinary Flask application whose sessions are kept by Understudy.

What a shop needs is in ``login``, ``add`` and ``logout``. The rest shows what one usually does not see: which member
and which worker served the page, and which members hold the session.
"""

from __future__ import annotations

import os
import secrets
from typing import Any

from flask import Flask, redirect, render_template_string, request, session
from flask.typing import ResponseReturnValue

from understudy import Session
from understudy.demo import pages, places
from understudy.flask import Understudy

SHOWN_MAX = 10
"""Lines of the cart that a page shows."""
TEXT_CHARS_MAX = 80

app = Flask(__name__)
app.config["SESSION_COOKIE_NAME"] = places.COOKIE_NAME
Understudy(app)
shops = places.from_environment()


@app.get("/")
def shop() -> str:
    """The page, with the cart of whoever is logged in."""
    cart = session.get("cart", [])
    return render_template_string(
        pages.SHOP,
        style=pages.STYLE,
        member=places.own_name(),
        pid=os.getpid(),
        control=shops.control,
        places=places.of_session(_located(), shops.members),
        user=session.get("user"),
        goods=pages.GOODS,
        cart=cart[-SHOWN_MAX:],
        total=len(cart),
        left_out=max(0, len(cart) - SHOWN_MAX),
        order=secrets.token_hex(4),
        protected=session.protected,  # type: ignore[attr-defined]  # Understudy's, beside Flask's own
    )


@app.post("/login")
def login() -> ResponseReturnValue:
    """Any name will do. The id is a new one, so that nobody who knew the old one is logged in with it."""
    name = request.form.get("name", "").strip()[:TEXT_CHARS_MAX]
    if name:
        session.rotate(principal=name)  # type: ignore[attr-defined]  # the same
        session["user"] = name
        session.setdefault("cart", [])
    return _answer()


@app.post("/add")
def add() -> ResponseReturnValue:
    """Puts one of the goods into the cart: once for each order, however often its form arrives."""
    if "user" not in session:
        return "Log in first.\n", 401
    good, order = request.form.get("good", "")[:TEXT_CHARS_MAX], request.form.get("order", "")[:TEXT_CHARS_MAX]

    def put(current: Session) -> None:
        if good and all(line["order"] != order for line in current["cart"]):
            # A change inside a list: noticed without any flag.
            current["cart"].append({"order": order, "good": good, "member": places.own_name()})
            current["changes"] = current.get("changes", 0) + 1

    # Read, changed and written as one: nothing is lost of what another tab puts in meanwhile, or of what comes after a
    # request whose member died in the middle of it.
    session.transact(put)  # type: ignore[attr-defined]  # the same
    return _answer()


@app.post("/logout")
def logout() -> ResponseReturnValue:
    """Ends the session on every member that holds a part of it."""
    session.clear()
    return _answer()


@app.get("/whoami")
def whoami() -> ResponseReturnValue:
    """What the page shows, for programs."""
    facts = _facts()  # Reads the session first: where it is may be news to this member until then.
    located = _located()
    by_role: dict[str, list[str]] = {}
    for place in places.of_session(located, shops.members):
        by_role.setdefault(place.role, []).append(place.member)
    return facts | {
        "role": places.role_of(places.own_name(), located),
        "primary": next(iter(by_role.get("primary", [])), None),
        "backups": by_role.get("backup", []),
        "proxies": by_role.get("proxy", []),
    }


@app.get("/ping")
def ping() -> str:
    """Tells that requests are answered; looks at no session."""
    return "pong\n"


def _answer() -> ResponseReturnValue:
    """Facts for a program that asks for them, the page for a browser."""
    if request.accept_mimetypes.best == "application/json":
        return _facts()
    return redirect("/", code=303)


def _facts() -> dict[str, Any]:
    return {
        "member": places.own_name(),
        "pid": os.getpid(),
        "user": session.get("user"),
        "orders": [line["order"] for line in session.get("cart", [])],
        "changes": session.get("changes", 0),
    }


def _located() -> dict[str, Any] | None:
    return places.locate(request.cookies.get(places.COOKIE_NAME, ""))
