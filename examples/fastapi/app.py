"""A shop's basket on FastAPI: log in, put things into it, log out. Run it with `uvicorn --workers 2 app:app`."""

from typing import Annotated
from urllib.parse import parse_qs

from fastapi import Depends, FastAPI, Request
from fastapi.responses import PlainTextResponse

from understudy import Session
from understudy.asgi import SessionMiddleware

app = FastAPI(default_response_class=PlainTextResponse)
app.add_middleware(SessionMiddleware, absolute_timeout="12h")


def session_of(request: Request) -> Session:
    return request.session


async def form_of(request: Request) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}


Here = Annotated[Session, Depends(session_of)]
Form = Annotated[dict[str, str], Depends(form_of)]


@app.get("/")
async def basket(session: Here) -> str:
    return f"{session.principal or 'nobody'}: {', '.join(session.get('basket', [])) or 'nothing'}\n"


@app.post("/login")
async def login(session: Here, form: Form) -> str:
    session.rotate(principal=form["name"])  # a new id: one that somebody foisted on the browser opens nothing
    return "welcome\n"


@app.post("/basket")
async def put(session: Here, form: Form) -> str:
    # As one: two clicks at the same moment put two things in, on whichever machines they arrive.
    await session.atransact(lambda s: s.setdefault("basket", []).append(form["thing"]))
    return "it is in\n"


@app.post("/logout")
async def logout(session: Here) -> str:
    session.invalidate()
    return "goodbye\n"
