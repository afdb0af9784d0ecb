"""A shop's basket on Litestar: log in, put things into it, log out. Run it with `uvicorn --workers 2 app:app`."""

from typing import Annotated, Any

from litestar import Litestar, Request, get, post
from litestar.enums import RequestEncodingType
from litestar.params import Body

from understudy.litestar import UnderstudySessionConfig

Form = Annotated[dict[str, str], Body(media_type=RequestEncodingType.URL_ENCODED)]


@get("/")
async def basket(request: Request[Any, Any, Any]) -> str:
    session = request.session
    return f"{session.principal or 'nobody'}: {', '.join(session.get('basket', [])) or 'nothing'}\n"


@post("/login")
async def login(request: Request[Any, Any, Any], data: Form) -> str:
    request.session.rotate(principal=data["name"])  # a new id: one that somebody foisted on the browser opens nothing
    return "welcome\n"


@post("/basket")
async def put(request: Request[Any, Any, Any], data: Form) -> str:
    # As one: two clicks at the same moment put two things in, on whichever machines they arrive.
    await request.session.atransact(lambda s: s.setdefault("basket", []).append(data["thing"]))
    return "it is in\n"


@post("/logout")
async def logout(request: Request[Any, Any, Any]) -> str:
    request.clear_session()
    return "goodbye\n"


sessions = UnderstudySessionConfig(absolute_timeout="12h")
app = Litestar([basket, login, put, logout], middleware=[sessions.middleware])
