"""A config becomes settings, or one error that names every key, value and cure."""

from decimal import Decimal

import pytest

from config.problems import ConfigError
from config.settings import Settings, parse_settings

SECRETS = ("notebookPassword", "basicPassword", "autheliaPassword")


def problems(config, encrypted=SECRETS):
    """Return the lines of the error that `config` causes."""
    with pytest.raises(ConfigError) as caught:
        parse_settings(config, encrypted, {})
    headline, *lines = str(caught.value).splitlines()
    assert "nothing was touched" in headline
    return lines


def test_the_defaults_are_valid(defaults):
    """A stack without a single config value is a valid stack."""
    settings = parse_settings(defaults, (), {})
    assert 4 == settings.workers
    assert Decimal("0.5") == settings.worker_cpus
    assert 2**30 == settings.worker_memory
    assert ("prefect", "prefect-dask", "s3fs") == settings.extra_pip_packages


@pytest.mark.parametrize(
    ("key", "value", "allowed", "example"),
    [
        ("workerMemory", "1GB", "KiB, MiB, GiB or TiB", "workerMemory 1GiB"),
        ("workerMemory", "100MiB", "at least 256MiB", "workerMemory 1GiB"),
        ("workers", "0", "a whole number from 1 to 1000", "workers 2"),
        ("workerCpus", "half", "a number of CPUs", "workerCpus 0.5"),
        ("image", "dask:LATEST/x", "with a tag or a digest", "image ghcr.io/dask/dask:"),
        ("workerPlacement", "role=worker", "node.labels.", "workerPlacement node.labels."),
        ("caddyMode", "sometimes", "one of external, managed, none", "caddyMode external"),
        ("auth", "maybe", "one of authelia, basic, none", "auth authelia"),
        ("domain", "https://example.org", "without https://", "domain dask.example.org"),
        ("domain", "exa mple.org", "a domain in small letters", "domain dask.example.org"),
        ("domain", "10.0.0.1", "a domain in small letters", "domain dask.example.org"),
        ("domain", "example", "a domain in small letters", "domain dask.example.org"),
        ("domain", "münchen.de", "xn-- form", "domain dask.example.org"),
        ("domain", "example.org {\n}", "a domain in small letters", "domain dask.example.org"),
        ("notebookName", "note.book", "no dot", "notebookName notebook"),
        ("dashboardName", "a{b}", "one part of a name", "dashboardName dashboard"),
        ("autheliaAddress", "authelia:99999", "from 1 to 65535", "autheliaAddress authelia:9091"),
        ("autheliaAddress", "authelia", "host:port", "autheliaAddress authelia:9091"),
        ("autheliaAddress", "authelia:1\n", "host:port", "autheliaAddress authelia:9091"),
        ("autheliaPortal", "http://auth.org", "begins with https://", "autheliaPortal https://"),
        ("autheliaPortal", "https://a.org/{x}", "begins with https://", "autheliaPortal https://"),
        ("autheliaEndpoint", "/api", "/api/verify", "autheliaEndpoint /api/authz/forward-auth"),
        ("environment", "[1]", "an object of variable names", "--path environment.TZ"),
        ("environment", '{"A B": "1"}', "names of letters", "--path environment.TZ"),
        ("environment", '{"A": {"B": "1"}}', "a text for each variable", "--path environment.TZ"),
        ("environment", '{"A": null}', "a text for each variable", "--path environment.TZ"),
        ("daskConfig", "x", "as in Dask's own YAML", "--path daskConfig.array.chunk-size"),
        ("s3Endpoint", "s3.example.org", "http:// or https://", "s3Endpoint https://"),
        ("s3Endpoint", "https://u:p@h", "without a query or a password", "s3Endpoint https://"),
        ("s3AccessKey", "a\nb", "without blanks", "s3AccessKey AKIA"),
        ("s3CaBundle", "/etc/ca.pem", "in PEM form, not the path", "s3CaBundle --"),
        ("s3Bucket", "My_Bucket", "3 to 63 small letters", "s3Bucket dask"),
        ("prefect", "cloud", "one of managed, external, none", "prefect managed"),
        ("prefectApiUrl", "h:4200", "http:// or https://", "prefectApiUrl http://"),
        ("prefectName", "a.b", "no dot", "prefectName prefect"),
        ("proof", "none", "one of full, quick", "proof full"),
        ("autheliaCookie", "a=b", "a name of letters", "autheliaCookie authelia_session"),
        ("basicUser", "import", "but not 'import'", "basicUser dask"),
        ("basicUser", "a:b", "a name of letters", "basicUser dask"),
        ("acmeEmail", "admin", "an e-mail address", "acmeEmail admin@example.org"),
        ("acmeDirectory", "ftp://x.org", "begins with https://", "acmeDirectory https://acme"),
        ("caddyDirectory", "sites", "an absolute path", "caddyDirectory /srv/caddy/sites"),
        ("caddyDirectory", "/srv/../etc", "without '..'", "caddyDirectory /srv/caddy/sites"),
        ("caddyDirectory", "/srv/a b", "an absolute path", "caddyDirectory /srv/caddy/sites"),
        ("caddyHost", "edge", "ssh://user@host", "caddyHost ssh://deploy@edge"),
        ("caddyHost", "ssh://-oProxyCommand=x", "ssh://user@host", "caddyHost ssh://deploy@edge"),
        ("caddyService", "a b", "a name of letters", "caddyService edge_caddy"),
        ("caddyMainFile", "Caddyfile", "an absolute path", "caddyMainFile /etc/caddy/Caddyfile"),
        ("caddyImage", "caddy:2.11.1", "CVE-2026-30851", "caddyImage caddy:2.11.9"),
        ("caddyImage", "caddy:2.6-alpine", "Caddy 2.11.2 or newer", "caddyImage caddy:2.11.9"),
        ("dockerHost", "manager:2375", "ssh://user@manager", "dockerHost ssh://"),
        ("platform", "linux", "linux/amd64, linux/arm64", "platform linux/amd64"),
        ("healthDeadline", "1", "from 10 to 3600", "healthDeadline 300"),
        ("extraPipPackages", '["a b"]', "a list of package names", "extraPipPackages[0]"),
    ],
)
def test_each_bad_value_names_key_value_and_cure(defaults, key, value, allowed, example):
    """The error names the key, the value, what is allowed and a command that sets a good one."""
    (line,) = problems(defaults | {key: value})
    assert line.startswith(f"  - {key}: {value!r} is not valid. Allowed is ")
    assert allowed in line
    assert f"Example: pulumi config set {example}" in line or example in line


def test_an_unknown_key_names_the_nearest_known_one(defaults):
    """A misspelled key is not silently ignored."""
    (line,) = problems(defaults | {"workerMemroy": "2GiB"})
    assert "workerMemroy: there is no such key; did you mean workerMemory?" in line


def test_a_key_like_no_other_lists_all_keys(defaults):
    """An unknown key without a near one shows which keys there are."""
    (line,) = problems(defaults | {"xyzzy": "1"})
    assert "did you mean" not in line
    assert "workersPerNode" in line


def test_threads_that_the_cpus_cannot_carry_are_refused(defaults):
    """Eight threads on half a CPU would all be starved."""
    (line,) = problems(defaults | {"workerThreads": "8"})
    assert "workerThreads: 8 are too many for workerCpus 0.5" in line
    assert "pulumi config set workerCpus 2.00" in line


def test_a_docker_context_in_the_environment_is_refused(defaults):
    """The provider would follow DOCKER_CONTEXT to another engine than dockerHost."""
    with pytest.raises(ConfigError, match="unset DOCKER_CONTEXT"):
        parse_settings(defaults, (), {"DOCKER_CONTEXT": "elsewhere"})


def test_certificates_in_the_environment_are_for_tcp_alone(defaults):
    """The provider would speak TLS to a socket or through SSH, where nobody answers that."""
    environment = {"DOCKER_CERT_PATH": "/home/me/.docker"}
    for host in ("ssh://deploy@manager", "unix:///var/run/docker.sock"):
        with pytest.raises(ConfigError, match="unset DOCKER_CERT_PATH"):
            parse_settings(defaults | {"dockerHost": host}, (), environment)
    parse_settings(defaults | {"dockerHost": "tcp://manager:2376"}, (), environment)


def test_all_problems_are_reported_together(defaults):
    """Who made three mistakes learns of all three at once."""
    lines = problems(defaults | {"workers": "0", "workerMemory": "1", "colour": "red"})
    assert 3 == len(lines)


@pytest.mark.parametrize("key", ["notebookPassword", "basicPassword"])
@pytest.mark.parametrize("value", ["hunter2", "hunter2\nhunter2"])
def test_a_bad_password_is_not_repeated(defaults, key, value):
    """An error about a secret does not print the secret."""
    (line,) = problems(defaults | {key: value})
    assert "hunter2" not in line
    assert "8 printable characters" in line


def test_a_password_that_bcrypt_would_cut_off_is_refused(defaults):
    """Beyond 72 bytes any ending would open the door."""
    (line,) = problems(defaults | {"basicPassword": "ä" * 37})
    assert "at most 72 bytes" in line
    assert "ä" not in line


FRONT = {"domain": "example.org", "autheliaPortal": "https://auth.example.org"}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"caddyMode": "managed"}, "domain: it is not set, and a Caddy of the stack's own"),
        ({"domain": "example.org"}, "autheliaPortal: it is not set, and example.org is to be"),
        (FRONT | {"dashboardName": "notebook"}, "dashboardName: 'notebook' is the notebook's"),
        (
            FRONT | {"autheliaPortal": "https://notebook.example.org/"},
            "autheliaPortal: 'https://notebook.example.org' is a name that this stack serves",
        ),
        (FRONT | {"autheliaUser": "probe"}, "autheliaUser: it is set without the other"),
        (
            FRONT | {"autheliaPassword": "correct horse"},
            "autheliaPassword: it is set without the other",
        ),
        (
            FRONT | {"caddyDirectory": "/srv/sites", "dockerHost": "tcp://manager:2376"},
            "caddyHost: it is not set, and tcp://manager:2376 gives no access",
        ),
        (
            FRONT | {"caddyDirectory": "/srv/sites", "caddyMainFile": ""},
            "caddyMainFile: it is not set",
        ),
        (FRONT | {"auth": "none"}, "auth: 'none' would open example.org to everybody"),
        (FRONT | {"caddyMode": "managed"}, "acmeEmail: it is not set, and example.org needs"),
        (
            FRONT | {"caddyMode": "managed", "acmeEmail": "a@b.org", "acmeDirectory": ""},
            "acmeDirectory: it is not set",
        ),
    ],
)
def test_settings_of_the_front_that_do_not_fit_are_refused(defaults, config, said):
    """Each valid by itself, they would make a front that is open, ambiguous or broken."""
    (line,) = problems(defaults | config)
    assert line.startswith(f"  - {said}")
    assert "Example: pulumi config set " in line


PREFECT = {"prefect": "managed"}
PREFECT_ELSEWHERE = {"prefect": "external", "prefectApiUrl": "https://flows.example.org/api"}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            FRONT | PREFECT | {"prefectName": "notebook"},
            "prefectName: 'notebook' is the notebook's or the dashboard's name too",
        ),
        (
            FRONT | PREFECT | {"autheliaPortal": "https://prefect.example.org"},
            "autheliaPortal: 'https://prefect.example.org' is a name that this stack serves",
        ),
        (
            PREFECT | {"environment": '{"PREFECT_API_URL": "http://other/api"}'},
            "environment: PREFECT_API_URL is set by the program",
        ),
        (
            PREFECT_ELSEWHERE | {"environment": '{"PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "1"}'},
            "environment: PREFECT_SERVER_ALLOW_EPHEMERAL_MODE is set by the program",
        ),
    ],
)
def test_settings_of_prefect_that_do_not_fit_are_refused(defaults, config, said):
    """Two names that are one, or a variable that would be set twice."""
    (line,) = problems(defaults | config)
    assert line.startswith(f"  - {said}")


@pytest.mark.parametrize(
    "config",
    [
        {"environment": '{"PREFECT_API_URL": "http://other/api"}'},
        PREFECT_ELSEWHERE | {"environment": '{"PREFECT_API_AUTH_STRING": "admin:s3cret"}'},
        FRONT | {"prefectName": "notebook"},
        FRONT | {"autheliaPortal": "https://prefect.example.org"},
    ],
)
def test_what_the_program_does_not_set_or_serve_is_the_users(defaults, config):
    """Without a server of the program's the names are free, and a key of another one fits."""
    assert parse_settings(defaults | config, (), {})


@pytest.mark.parametrize(
    ("config", "asks"),
    [
        (FRONT, False),
        (FRONT | {"notebookPassword": "correct horse"}, False),
        (FRONT | {"notebookLogin": "true"}, True),
        ({}, True),
        ({"caddyMode": "none", "domain": "example.org"}, True),
        ({"domain": "localhost", "auth": "none"}, True),
    ],
)
def test_the_notebook_asks_where_no_login_in_front_is_to_be_enough(defaults, config, asks):
    """One login there always is: whoever reaches the notebook runs any code."""
    encrypted = {"notebookPassword"}
    assert asks == parse_settings(defaults | config, encrypted, {}).notebook_asks


@pytest.mark.parametrize(
    ("config", "front"),
    [
        ({}, False),
        ({"caddyMode": "none", "domain": "example.org", "auth": "none"}, False),
        (FRONT, True),
        (FRONT | {"caddyMode": "managed", "acmeEmail": "admin@example.org"}, True),
        ({"caddyMode": "managed", "domain": "localhost", "auth": "basic"}, True),
        ({"caddyMode": "managed", "domain": "dask.localhost", "auth": "none"}, True),
    ],
)
def test_there_is_a_front_where_there_is_a_domain(defaults, config, front):
    """Without a domain a stack joins Caddy's network only, as it always did."""
    assert front == parse_settings(defaults | config, (), {}).has_front


def test_a_password_in_plain_text_is_refused(defaults):
    """A password in the stack's file would be committed with it."""
    (line,) = problems(defaults | {"notebookPassword": "correct horse"}, encrypted=())
    assert "kept in plain text" in line
    assert "pulumi config set --secret notebookPassword" in line
    assert "correct horse" not in line


@pytest.mark.parametrize(
    ("config", "key", "message"),
    [
        ({"environment": '{"EXTRA_PIP_PACKAGES": "x"}'}, "environment", "config rm --path"),
        ({"s3Bucket": "dask"}, "s3Bucket", "s3AccessKey and s3SecretKey as well"),
        ({"s3Endpoint": "https://h"}, "s3Endpoint", "s3AccessKey and s3SecretKey as well"),
        ({"s3AccessKey": "AKIA"}, "s3AccessKey", "set --secret s3SecretKey"),
        ({"s3SecretKey": "x"}, "s3SecretKey", "both or none"),
        ({"prefect": "external"}, "prefectApiUrl", "the API of the Prefect server"),
        ({"prefectApiUrl": "http://h:1/api"}, "prefectApiUrl", "config set prefect external"),
    ],
)
def test_settings_for_work_must_fit_together(defaults, config, key, message):
    """A setting without another that it needs is named with the one to set."""
    (line,) = problems(defaults | config, encrypted={"s3SecretKey"})
    assert line.startswith(f"  - {key}: ")
    assert message in line


def test_an_encrypted_value_that_is_not_valid_is_not_shown(defaults):
    """Whatever key it has."""
    values = defaults | {"environment": '{"A B": "correct horse"}'}
    (line,) = problems(values, encrypted={"environment"})
    assert line.startswith("  - environment: the value is not valid.")
    assert "correct horse" not in line


def test_dasks_configuration_is_no_place_for_secrets(defaults):
    """Every container shows it, so a value that Pulumi encrypts does not stay one."""
    values = defaults | {"daskConfig": '{"a": "correct horse"}'}
    (line,) = problems(values, encrypted={"daskConfig"})
    assert "shows it in clear" in line
    assert "--secret --path environment.DASK_NAME" in line
    assert "correct horse" not in line


def test_variables_may_be_secrets_and_are_never_shown(defaults):
    """Numbers and booleans are the text that the config has."""
    values = defaults | {"environment": '{"KEY": "correct horse", "ON": true, "N": 1}'}
    settings = parse_settings(values, {"environment"}, {})
    assert {"KEY": "correct horse", "ON": "true", "N": "1"} == settings.environment
    assert "correct horse" not in repr(settings)


def test_settings_do_not_show_the_password(defaults):
    """A traceback or log that shows the settings shows no secret."""
    settings = parse_settings(
        defaults | {"notebookPassword": "correct horse"}, {"notebookPassword"}, {}
    )
    assert "correct horse" not in repr(settings)


def test_settings_cannot_be_changed(defaults):
    """Nobody changes the settings after they were checked."""
    settings = parse_settings(defaults, (), {})
    with pytest.raises(AttributeError):
        settings.workers = 5
    assert isinstance(settings, Settings)
