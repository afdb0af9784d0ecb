"""A shop's basket on Django: log in, put things into it, log out. Run it with `gunicorn --workers 2 app:app`."""

from typing import Any

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.http import require_POST

settings.configure(
    SECRET_KEY="not used by the sessions",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["understudy.django.SessionMiddleware"],
    SESSION_ENGINE="understudy.django",
    SESSION_COOKIE_AGE=30 * 60,
    UNDERSTUDY={"absolute_timeout": "12h"},
)


def basket(request: HttpRequest) -> HttpResponse:
    session: Any = request.session
    return HttpResponse(f"{session.principal or 'nobody'}: {', '.join(session.get('basket', [])) or 'nothing'}\n")


@require_POST
def login(request: HttpRequest) -> HttpResponse:
    # A new id: one that somebody foisted on the browser opens nothing. django.contrib.auth's login() does the same.
    request.session.rotate(principal=request.POST["name"])
    return HttpResponse("welcome\n")


@require_POST
async def put(request: HttpRequest) -> HttpResponse:
    thing = request.POST["thing"]
    # As one: two clicks at the same moment put two things in, on whichever machines they arrive.
    await request.session.atransact(lambda s: s.setdefault("basket", []).append(thing))
    return HttpResponse("it is in\n")


@require_POST
def logout(request: HttpRequest) -> HttpResponse:
    request.session.flush()
    return HttpResponse("goodbye\n")


urlpatterns = [path("", basket), path("login", login), path("basket", put), path("logout", logout)]
app, asgi = get_wsgi_application(), get_asgi_application()
