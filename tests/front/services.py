"""Stubs of JupyterLab, Dask's dashboard and Prefect for tests.

They show whether an ingress lets a request in. tests/swarm has the real services behind a real
ingress.
"""

import json

from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler

KEY, TOKEN = "front-key", "jupyter-token"
PREFECT_KEY = "prefect-key"
JUPYTER_PASSWORD = "jupyter password"
DASHBOARD_TOKEN = "bokeh.token"


class Echo(RequestHandler):
    """Answers with the headers of the request."""

    def get(self):
        self.set_header("Server", "upstream")
        headers = [[name, value] for name, value in self.request.headers.get_all()]
        self.write(json.dumps({"headers": headers, "content": "upstream's content"}))


class Broken(RequestHandler):
    """Breaks off in the middle of an answer, like a killed service."""

    async def get(self):
        self.set_header("Content-Length", "100")
        self.write("the beginning")
        await self.flush()
        self.request.connection.stream.close()


class Stream(WebSocketHandler):
    """Sends back every message."""

    def on_message(self, message):
        self.write_message(message)


def is_logged_in(handler):
    """Return whether a request has the front key, the token or the login's cookie."""
    headers = handler.request.headers
    if headers.get("Proxy-Authorization") == KEY:
        return True
    given = handler.get_query_argument("token", "") or headers.get("Authorization", "")[6:]
    if given == TOKEN:
        handler.set_cookie("user", "ada")
    return given == TOKEN or handler.get_cookie("user") == "ada"


class Lab(RequestHandler):
    """JupyterLab's page, which needs a login; the page itself contains no token."""

    def get(self):
        if not is_logged_in(self):
            self.redirect("/login?next=%2Flab")
            return
        self.set_cookie("_xsrf", "x")
        config = json.dumps({"token": self.application.settings["page_token"]})
        script = f'<script id="jupyter-config-data" type="application/json">{config}</script>'
        self.write(f"<title>JupyterLab</title>{script}")


class Api(RequestHandler):
    """The API of JupyterLab, which refuses requests instead of redirecting them to the login."""

    def get(self):
        if not is_logged_in(self):
            self.send_error(403)


class Kernels(Api):
    """Starts and ends kernels, for requests with the XSRF token only."""

    def prepare(self):
        sent = self.request.headers.get("X-XSRFToken")
        if not is_logged_in(self) or not sent or sent != self.get_cookie("_xsrf"):
            self.send_error(403)

    def post(self):
        self.set_status(201)
        self.write({"id": "k1"})

    def delete(self):
        self.set_status(204)


class Login(RequestHandler):
    """Jupyter's own login, with its check against forged forms."""

    def get(self):
        self.set_cookie("_xsrf", "x")
        self.write("<title>Jupyter Server</title>")

    def post(self):
        sent = self.get_body_argument("_xsrf"), self.get_body_argument("password")
        if sent != (self.get_cookie("_xsrf"), JUPYTER_PASSWORD):
            self.send_error(401)
            return
        self.set_cookie("user", "ada")
        self.redirect("/lab")


class Events(Stream):
    """Jupyter's websocket of events."""

    def prepare(self):
        if not is_logged_in(self):
            self.send_error(403)


class Channels(Events):
    """A kernel whose every cell reports four workers."""

    def on_message(self, message):
        parent = json.loads(message)["header"]
        report = {"workers": 4, "sums": [45] * 4, "busy": {}, "mismatches": []}
        for kind, content in (
            ("stream", {"name": "stdout", "text": f"dask-cell: {json.dumps(report)}\n"}),
            ("status", {"execution_state": "idle"}),
        ):
            answer = {"msg_type": kind, "parent_header": parent, "content": content}
            self.write_message(json.dumps(answer))


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
    """Prefect's page, which needs its key."""

    def get(self):
        if self.request.headers.get("Proxy-Authorization") != PREFECT_KEY:
            self.send_error(403)
            return
        self.write("<title>Prefect Server</title>")


def upstream(page_token=""):
    """Return the application of all stubs; a `page_token` breaks JupyterLab."""
    return Application(
        [
            ("/stream", Stream),
            ("/broken", Broken),
            ("/lab", Lab),
            ("/login", Login),
            ("/api/events/subscribe", Events),
            ("/api/kernels(?:/k1)?", Kernels),
            ("/api/kernels/k1/channels", Channels),
            ("/api/me|/api/kernelspecs|/lab/api/settings", Api),
            ("/status", Status),
            ("/status/ws", Session),
            ("/v2/", Flows),
            ("/api/events/out", Stream),
            ("/.*", Echo),
        ],
        page_token=page_token,
    )
