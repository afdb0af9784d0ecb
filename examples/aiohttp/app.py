"""A shop's basket on aiohttp: log in, put things into it, log out.

Run it with `gunicorn --workers 2 --worker-class aiohttp.GunicornWebWorker app:make_app`.
"""

from aiohttp import web
from aiohttp_session import get_session

from understudy.aiohttp import UnderstudyStorage, setup

routes = web.RouteTableDef()


@routes.get("/")
async def basket(request: web.Request) -> web.Response:
    session = await get_session(request)
    things = ", ".join(session.get("basket", [])) or "nothing"
    return web.Response(text=f"{session.principal or 'nobody'}: {things}\n")


@routes.post("/login")
async def login(request: web.Request) -> web.Response:
    session, form = await get_session(request), await request.post()
    session.rotate(principal=form["name"])  # a new id: one that somebody foisted on the browser opens nothing
    return web.Response(text="welcome\n")


@routes.post("/basket")
async def put(request: web.Request) -> web.Response:
    session, form = await get_session(request), await request.post()
    # As one: two clicks at the same moment put two things in, on whichever machines they arrive.
    await session.atransact(lambda s: s.setdefault("basket", []).append(form["thing"]))
    return web.Response(text="it is in\n")


@routes.post("/logout")
async def logout(request: web.Request) -> web.Response:
    (await get_session(request)).invalidate()
    return web.Response(text="goodbye\n")


async def make_app() -> web.Application:
    app = web.Application()
    setup(app, UnderstudyStorage(absolute_timeout="12h"))
    app.router.add_routes(routes)
    return app
