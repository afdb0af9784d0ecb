"""A shop's basket on Quart: log in, put things into it, log out. Run it with `hypercorn --workers 2 app:app`."""

from quart import Quart, request

from understudy.quart import Understudy, session

app = Quart(__name__)
Understudy(app, absolute_timeout="12h")


@app.get("/")
async def basket() -> str:
    return f"{session.principal or 'nobody'}: {', '.join(session.get('basket', [])) or 'nothing'}\n"


@app.post("/login")
async def login() -> str:
    form = await request.form
    session.rotate(principal=form["name"])  # a new id: one that somebody foisted on the browser opens nothing
    return "welcome\n"


@app.post("/basket")
async def put() -> str:
    thing = (await request.form)["thing"]
    # As one: two clicks at the same moment put two things in, on whichever machines they arrive.
    await session.atransact(lambda s: s.setdefault("basket", []).append(thing))
    return "it is in\n"


@app.post("/logout")
async def logout() -> str:
    session.invalidate()
    return "goodbye\n"
