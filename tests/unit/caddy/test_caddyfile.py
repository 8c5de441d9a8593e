"""The Caddyfile: every value stays one word, and a real Caddy accepts the result."""

import json
import os
import subprocess
from unittest.mock import patch

import bcrypt
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from caddy import caddyfile
from caddy.caddyfile import CaddyfileValues, fill, fragments, join, options
from components import notebook, prefect, scheduler
from config.types import split_address, upstream

KEYS = {"notebook": "k" * 48, "prefect": "p" * 48}
LOGINS = ("authelia", "basic", "basic-cookie", "none")
HASH = caddyfile.bcrypt_hash("correct horse", "0123456789abcdef" * 2)
EXAMPLE = CaddyfileValues(
    cluster="dask",
    names={site: f"{site}.example.org" for site in ("notebook", "dashboard", "prefect")},
    login="authelia",
    certificates="acme",
    keys=dict.fromkeys(KEYS, "text"),
    authelia_address="authelia:9091",
    authelia_uri="/api/authz/forward-auth",
    basic_user="dask",
    acme_email="admin@example.org",
    acme_directory="https://acme-v02.api.letsencrypt.org/directory",
)

label = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
domain = st.lists(label, min_size=2, max_size=4).map(lambda labels: ".".join([*labels, "org"]))
word = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,30}", fullmatch=True)


@st.composite
def caddyfile_values(draw):
    """Return any values that the settings allow."""
    at = draw(domain)
    first, second, third = draw(st.lists(label, min_size=3, max_size=3, unique=True))
    legacy = f"/api/verify?rd=https://{draw(domain)}:{draw(st.integers(1, 65535))}/{draw(word)}"
    at_port = f"{draw(domain)}:{draw(st.integers(1, 65535).filter(lambda p: p not in (80, 443)))}"
    address = st.sampled_from([at_port, f"http://{at_port}/{first}", f"https://{at}/{first}"])
    server, path = split_address(upstream(draw(address)))
    variant = draw(st.sampled_from(["file", "text"]))
    prefect = draw(st.booleans())
    return CaddyfileValues(
        cluster=draw(label),
        names={"notebook": f"{first}.{at}", "dashboard": f"{second}.{at}"}
        | ({"prefect": f"{third}.{at}"} if prefect else {}),
        login=draw(st.sampled_from(LOGINS)),
        certificates=draw(st.sampled_from(["acme", "internal"])),
        keys={"notebook": draw(st.sampled_from([variant, "none"]))}
        | ({"prefect": variant} if prefect else {}),
        authelia_address=server,
        authelia_uri=path + draw(st.sampled_from(["/api/authz/forward-auth", legacy])),
        authelia_cookie=draw(st.from_regex(r"[A-Za-z0-9_-]{1,30}", fullmatch=True)),
        basic_user=draw(word.filter(lambda name: name != "import")),
        acme_email=f"{draw(word)}@{at}",
        acme_directory=f"https://{draw(domain)}/{draw(word)}",
    )


def write(folder, files):
    """Write the files and return the path of the first."""
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder / next(iter(files))


def run_caddy(program, folder, *arguments):
    """Return output and exit status of one of Caddy's commands."""
    home = {"HOME": str(folder), "XDG_DATA_HOME": str(folder / "data")}
    done = subprocess.run(
        [program, *arguments], capture_output=True, text=True, env=os.environ | home, check=False
    )
    return done.stdout + done.stderr, done.returncode


class TestFill:
    @pytest.mark.parametrize(
        "value",
        [
            *("", " ", "a b", "a\nb", "a\tb", "a{b", "a}b", "{$HOME}", 'a"b', "a`b", "a\\b"),
            *("a#b", "import", "a;b", "a'b", "münchen", "a\x00b", "a\u2028b", "a(b"),
        ],
    )
    def test_refuses_values_that_are_not_one_word(self, value):
        """No value ends its word, opens a block, imports a file or begins a comment."""
        with pytest.raises(ValueError, match=r"^PLACE: .* is not allowed in a Caddyfile"):
            fill("word {$PLACE}\n", {"PLACE": value})

    @given(value=st.text())
    @example(value="\n")
    def test_inserts_one_word_or_refuses(self, value):
        """With any value the line keeps its number of words."""
        try:
            filled = fill("\tword {$PLACE}\n", {"PLACE": value})
        except ValueError:
            return
        assert ["word", value] == filled.split()
        assert not set(value) & set("{}\"'`\\#\n")

    def test_refuses_a_placeholder_without_a_value(self):
        """It is a mistake in a fragment, not an empty word."""
        with pytest.raises(ValueError, match="MISSING"):
            fill("word {$MISSING}\n", {"OTHER": "x"})

    def test_leaves_no_placeholder(self):
        """Caddy would fill it from its environment."""
        for login in LOGINS:
            values = CaddyfileValues(**{**vars(EXAMPLE), "login": login})
            assert "{$" not in "".join((fragments(values, HASH, KEYS) | options(values)).values())


class TestHash:
    def test_matches_its_password_only(self):
        """It is a common bcrypt hash."""
        assert bcrypt.checkpw(b"correct horse", HASH.encode())
        assert not bcrypt.checkpw(b"correct cow", HASH.encode())

    def test_a_stolen_hash_is_slow_to_search(self):
        """Each guess costs 2^12 rounds."""
        assert HASH.startswith("$2b$12$")

    @settings(max_examples=20, deadline=None)
    @given(salt=st.binary(min_size=16, max_size=16))
    def test_is_the_same_for_the_same_salt(self, salt):
        """A second deployment changes nothing."""
        with patch.object(caddyfile, "BCRYPT_ROUNDS", 4):
            one, two = (caddyfile.bcrypt_hash("correct horse", salt.hex()) for _ in range(2))
        assert one == two
        assert bcrypt.checkpw(b"correct horse", one.encode())


class TestRealCaddy:
    @settings(
        max_examples=40,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(values=caddyfile_values())
    @example(values=EXAMPLE)
    def test_validates_all_rendered_files(self, real_caddy, tmp_path, values):
        """With any values Caddy accepts the Caddyfile."""
        (tmp_path / "prefect.caddy").unlink(missing_ok=True)  # of another example
        main = write(tmp_path, options(values) | fragments(values, HASH, KEYS))
        output, status = run_caddy(
            real_caddy, tmp_path, "validate", "--adapter", "caddyfile", "--config", main
        )
        assert 0 == status, output

    @settings(
        max_examples=3,  # a value is one word, so it hardly changes the format
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(values=caddyfile_values())
    @example(values=EXAMPLE)
    def test_finds_all_files_well_formatted(self, real_caddy, tmp_path, values):
        """`caddy fmt` changes neither the fragments nor the joined file."""
        files = fragments(values, HASH, KEYS)
        files |= {"joined.caddy": join(files), "boot.caddy": caddyfile.boot()} | options(values)
        write(tmp_path, files)
        for name in files:
            output, status = run_caddy(real_caddy, tmp_path, "fmt", "--diff", tmp_path / name)
            assert (files[name].strip(), 0) == (
                "\n".join(line[2:] for line in output.splitlines()).strip(),
                status,
            )

    def test_only_the_container_reaches_the_health_check(self, real_caddy, tmp_path):
        """Caddy's network has other services; sites have the published ports alone."""
        values = CaddyfileValues(**{**vars(EXAMPLE), "login": "basic"})
        main = write(tmp_path, options(values) | fragments(values, HASH, KEYS))
        output, status = run_caddy(
            real_caddy, tmp_path, "adapt", "--adapter", "caddyfile", "--config", main
        )
        assert 0 == status, output
        (adapted,) = [line for line in output.splitlines() if line.startswith('{"admin"')]
        config = json.loads(adapted)
        listening = {
            a for server in config["apps"]["http"]["servers"].values() for a in server["listen"]
        }
        assert {":443", "127.0.0.1:8081"} == listening
        assert "unix//var/tmp/admin.sock" == config["admin"]["listen"]

    @pytest.mark.parametrize("login", LOGINS)
    def test_accepts_the_joined_fragments_beside_other_sites(self, real_caddy, tmp_path, login):
        """An existing Caddy imports a file of each cluster and keeps its sites and options."""
        values = CaddyfileValues(**{**vars(EXAMPLE), "login": login})
        main = tmp_path / "Caddyfile"
        main.write_text(
            "{\n\tadmin off\n}\n\nimport sites/*.caddy\n\nhttp://other {\n\trespond 1\n}\n"
        )
        names = {site: f"blue-{name}" for site, name in EXAMPLE.names.items()}
        other = CaddyfileValues(**{**vars(values), "cluster": "blue", "names": names})
        files = {"dask-swarm.caddy": values, "blue-swarm.caddy": other}
        (tmp_path / "sites").mkdir()
        write(tmp_path / "sites", {n: join(fragments(v, HASH, KEYS)) for n, v in files.items()})
        output, status = run_caddy(
            real_caddy, tmp_path, "validate", "--adapter", "caddyfile", "--config", main
        )
        assert 0 == status, output


def test_the_upstreams_are_the_services():
    """The fragments name the services and ports that the components declare."""
    files = fragments(EXAMPLE, HASH, KEYS)
    assert f" dask_notebook {notebook.PORT} {{\n" in files["notebook.caddy"]
    assert f"dask_scheduler {scheduler.DASHBOARD_PORT}\n" in files["dashboard.caddy"]
    assert f"dask_prefect {prefect.PORT} {{\n" in files["prefect.caddy"]
    assert f"http://dask_notebook:{notebook.PORT}" == notebook.notebook_url("dask_notebook")
