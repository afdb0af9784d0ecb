"""Django: ``SESSION_ENGINE = "understudy.django"`` keeps ``request.session`` in Understudy. No model, no migration.

``request.session`` is used as ever, with Django's own settings for the cookie and the lifetime. A change inside a list
or dict is noticed without ``modified = True``, two requests that change different keys never undo each other, and a
logout is final. What Django says of sessions stays true: a response with a status of 500 or more saves nothing, reading
a session does not prolong it, and a request whose session was ended meanwhile is answered 400 (``SessionInterrupted``).

``"understudy.django.SessionMiddleware"`` may take the place of Django's middleware; see there for what it adds.
The setting ``UNDERSTUDY`` is a dict with options of scope "request"; ``cluster`` is the ``Cluster``.
"""

from understudy.django.middleware import SessionMiddleware
from understudy.django.runtime import cluster
from understudy.django.sessions import SessionStore

__all__ = ["SessionStore", "SessionMiddleware", "cluster"]
