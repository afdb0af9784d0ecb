"""A shop's basket on Flask: log in, put things into it, log out. Run it with `gunicorn --workers 2 app:app`."""

from flask import Flask, request

from understudy.flask import Understudy, session

app = Flask(__name__)
Understudy(app, absolute_timeout="12h")


@app.get("/")
def basket() -> str:
    return f"{session.principal or 'nobody'}: {', '.join(session.get('basket', [])) or 'nothing'}\n"


@app.post("/login")
def login() -> str:
    session.rotate(principal=request.form["name"])  # a new id: one that somebody foisted on the browser opens nothing
    return "welcome\n"


@app.post("/basket")
def put() -> str:
    # As one: two clicks at the same moment put two things in, on whichever machines they arrive.
    session.transact(lambda s: s.setdefault("basket", []).append(request.form["thing"]))
    return "it is in\n"


@app.post("/logout")
def logout() -> str:
    session.invalidate()
    return "goodbye\n"
