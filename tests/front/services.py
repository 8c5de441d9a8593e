"""Stand-ins for JupyterLab, Dask's dashboard and Prefect, for tests only: as much as one sees.

They are enough to tell a front that lets somebody in from one that does not. The real ones stand
behind the real front in tests/swarm.
"""

import json

from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler

TOKEN = "jupyter-token"
JUPYTER_PASSWORD = "jupyter password"
DASHBOARD_TOKEN = "bokeh.token"


class Echo(RequestHandler):
    """Says what it was sent."""

    def get(self):
        self.set_header("Server", "upstream")
        headers = [[name, value] for name, value in self.request.headers.get_all()]
        self.write(json.dumps({"headers": headers, "content": "upstream's content"}))


class Stream(WebSocketHandler):
    """Sends back what comes."""

    def on_message(self, message):
        self.write_message(message)


def knows(handler):
    """Return whether a request opens the notebook, by token or by the login's cookie."""
    return handler.get_query_argument("token", "") == TOKEN or handler.get_cookie("user") == "ada"


class Lab(RequestHandler):
    """JupyterLab's page, which asks for its own token or password."""

    def get(self):
        if knows(self):
            self.write('<title>JupyterLab</title><script id="jupyter-config-data"></script>')
        else:
            self.redirect("/login?next=%2Flab")


class Login(RequestHandler):
    """Jupyter's own login, with its check against forged forms."""

    def get(self):
        self.set_cookie("_xsrf", "x")
        self.write("<title>Jupyter Server</title>")

    def post(self):
        sent = self.get_body_argument("_xsrf"), self.get_body_argument("password")
        if sent == (self.get_cookie("_xsrf"), JUPYTER_PASSWORD):
            self.set_cookie("user", "ada")
        self.redirect("/lab")


class Events(Stream):
    """Jupyter's websocket of events."""

    def prepare(self):
        if not knows(self):
            self.send_error(403)


class Status(RequestHandler):
    """The dashboard's page with the token of its session."""

    def get(self):
        self.write(f'<title>Dask: Status</title><script>{{"token":"{DASHBOARD_TOKEN}"}}</script>')


class Session(Stream):
    """The dashboard's websocket."""

    def select_subprotocol(self, subprotocols):
        return "bokeh" if subprotocols == ["bokeh", DASHBOARD_TOKEN] else None

    def prepare(self):
        if "bokeh" not in self.request.headers.get("Sec-WebSocket-Protocol", ""):
            self.send_error(403)


class Flows(RequestHandler):
    """Prefect's page, which asks for nothing."""

    def get(self):
        self.write("<title>Prefect Server</title>")


def upstream():
    """Return the application that stands for all services."""
    return Application(
        [
            ("/stream", Stream),
            ("/lab", Lab),
            ("/login", Login),
            ("/api/events/subscribe", Events),
            ("/status", Status),
            ("/status/ws", Session),
            ("/v2/", Flows),
            ("/api/events/out", Stream),
            ("/.*", Echo),
        ]
    )
