"""A shop's basket on plain ASGI: log in, put things into it, log out. Run it with `uvicorn --workers 2 app:app`."""

from typing import Any
from urllib.parse import parse_qs

from understudy.asgi import SessionMiddleware


async def shop(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        return  # there is nothing to prepare
    session = scope["session"]
    status, text = 200, ""
    match scope["method"], scope["path"]:
        case "GET", "/":
            text = f"{session.principal or 'nobody'}: {', '.join(session.get('basket', [])) or 'nothing'}"
        case "POST", "/login":
            session.rotate(principal=(await form_of(receive))["name"])  # a new id: a foisted one opens nothing
            text = "welcome"
        case "POST", "/basket":
            # As one: two clicks at the same moment put two things in, on whichever machines they arrive.
            thing = (await form_of(receive))["thing"]
            await session.atransact(lambda s: s.setdefault("basket", []).append(thing))
            text = "it is in"
        case "POST", "/logout":
            session.invalidate()
            text = "goodbye"
        case _:
            status, text = 404, "there is no such page"
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": f"{text}\n".encode()})


async def form_of(receive: Any) -> dict[str, str]:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return {name: values[0] for name, values in parse_qs(body.decode()).items()}


app = SessionMiddleware(shop, absolute_timeout="12h")
