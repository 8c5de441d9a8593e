"""The notebook image's own settings: the proxy, and the files in an existing home."""

import json
import site
from types import SimpleNamespace

import dask
import pytest

from lab.context import SOURCE
from tests.certificates import Authority

JUPYTER = SOURCE / "jupyter"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Return an empty home."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(site, "USER_SITE", str(tmp_path / ".local/lib/python/site-packages"))
    return tmp_path


def load():
    """Load the settings like Jupyter, and return them."""
    settings = SimpleNamespace(ServerProxy=SimpleNamespace())
    path = JUPYTER / "jupyter_config.py"
    exec(compile(path.read_text(), path, "exec"), {"get_config": lambda: settings})
    return settings


def request(host, port):
    """Return a request for `/proxy/<host>:<port>/status` as jupyter-server-proxy has it."""
    logins = {"Authorization": "token x", "Cookie": "session=x", "Proxy-Authorization": "key"}
    headers = logins | {"Accept": "*/*"}
    return SimpleNamespace(
        path_args=[host, port, "/status"], request=SimpleNamespace(headers=headers)
    )


@pytest.mark.usefixtures("home")
class TestProxy:
    @pytest.mark.parametrize(
        ("host", "port", "expected"),
        [
            ("scheduler", "8787", True),
            ("scheduler", "8786", False),
            ("dask_scheduler", "8787", False),
            ("tasks.dask_worker", "8787", False),
        ],
    )
    def test_only_the_dashboard_is_reached(self, host, port, expected):
        """No other host or port of the cluster's network is open to the notebook's browser."""
        allowed = load().ServerProxy.host_allowlist
        assert expected == allowed(request(host, port), host)

    def test_the_scheduler_never_sees_the_notebooks_login(self):
        """Code that runs in the scheduler cannot become the notebook's user."""
        proxied = request("scheduler", "8787")
        load().ServerProxy.host_allowlist(proxied, "scheduler")
        assert {"Accept": "*/*"} == proxied.request.headers


class TestHome:
    def test_the_examples_are_in_an_existing_home(self, home):
        """JupyterLab's file browser shows them beside what the user has."""
        (home / "mine.ipynb").touch()
        load()
        assert "/opt/examples" == str((home / "examples").readlink())

    def test_nothing_of_the_users_is_replaced(self, home):
        """A folder of the same name stays as it is."""
        (home / "examples").mkdir()
        (home / "examples" / "mine.ipynb").touch()
        load()
        load()
        assert ["mine.ipynb"] == [path.name for path in (home / "examples").iterdir()]

    def test_the_folder_of_pips_packages_exists(self, home):
        """Python uses the folder only if it exists before the first kernel starts."""
        load()
        assert (home / ".local/lib/python/site-packages").is_dir()

    def test_a_home_that_cannot_be_written_is_no_failure(self, home):
        """The server starts despite it."""
        (home / ".local").touch()
        load()


def test_the_panels_know_their_cluster():
    """JupyterLab's Dask panels show this cluster's dashboard, and cannot start another."""
    path = JUPYTER / "labconfig" / "default_setting_overrides.json"
    settings = json.loads(path.read_text())["dask-labextension:plugin"]
    assert {"defaultURL": "/proxy/scheduler:8787", "hideClusterManager": True} == settings


class TestErrorOfClient:
    @pytest.fixture
    def hints(self):
        """Return a function that has IPython show an error, and returns the error's hints."""
        chosen = []
        shell = SimpleNamespace(set_custom_exc=lambda *args: chosen.append(args[1]))
        path = SOURCE / "ipython" / "startup" / "client.py"
        exec(compile(path.read_text(), path, "exec"), namespace := {"get_ipython": lambda: shell})

        def show(error):
            shown = []
            shell = SimpleNamespace(showtraceback=lambda what, **_: shown.append(what))
            namespace["explain"](shell, type(error), error, None)
            assert [(type(error), error, None)] == shown
            return "".join(getattr(error, "__notes__", []))

        return show

    def test_it_says_what_to_write_instead(self, hints):
        """The error of `Client(n_workers=2)` names LocalCluster; other errors do not change."""
        error = ValueError("Unexpected keyword arguments: ['n_workers']")
        assert "LocalCluster(n_workers=2)" in hints(error)
        assert not hints(ValueError("invalid literal"))

    @pytest.mark.parametrize(("hours", "fix"), [(0, "`pulumi up` renews it"), (1, "")])
    def test_an_expired_certificate_is_named_with_the_fix(self, hints, tmp_path, hours, fix):
        """The error itself may be that of a broken connection."""
        file = Authority("ours").issue(tmp_path / "client.pem", hours=hours)
        with dask.config.set({"distributed.comm.tls.client.cert": file}):
            hint = hints(OSError("in <TLS>: SSLEOFError: EOF occurred in violation of protocol"))
            assert fix in hint
            assert bool(fix) == bool(hint)
            assert not hints(OSError("[Errno 2] No such file or directory: 'x'"))

    def test_without_tls_there_is_no_certificate(self, hints):
        """A broken connection to another server does not change."""
        assert not hints(OSError("SSLEOFError: EOF occurred in violation of protocol"))
