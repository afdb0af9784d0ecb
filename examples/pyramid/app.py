"""A shop's basket on Pyramid: log in, put things into it, log out. Run it with `gunicorn --workers 2 app:app`."""

from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.response import Response
from pyramid.view import view_config

from understudy.pyramid import UnderstudySessionFactory


@view_config(route_name="basket", request_method="GET")
def basket(request: Request) -> Response:
    session = request.session
    return Response(f"{session.principal or 'nobody'}: {', '.join(session.get('basket', [])) or 'nothing'}\n")


@view_config(route_name="login", request_method="POST")
def login(request: Request) -> Response:
    # A new id: one that somebody foisted on the browser opens nothing.
    request.session.rotate(principal=request.POST["name"])
    return Response("welcome\n")


@view_config(route_name="put", request_method="POST")
def put(request: Request) -> Response:
    # As one: two clicks at the same moment put two things in, on whichever machines they arrive.
    request.session.transact(lambda s: s.setdefault("basket", []).append(request.POST["thing"]))
    return Response("it is in\n")


@view_config(route_name="logout", request_method="POST")
def logout(request: Request) -> Response:
    request.session.invalidate()
    return Response("goodbye\n")


with Configurator() as config:
    config.include("understudy.pyramid")
    config.set_session_factory(UnderstudySessionFactory(absolute_timeout="12h"))
    for name, path in (("basket", "/"), ("login", "/login"), ("put", "/basket"), ("logout", "/logout")):
        config.add_route(name, path)
    config.scan(__name__)
    app = config.make_wsgi_app()
