"""A config becomes settings, or one error with every problem and its fix."""

import json
import shlex
from contextlib import suppress
from decimal import Decimal

import certifi
import pytest

from config.cross_checks import DASK_SECTIONS
from config.problems import ConfigError
from config.settings import Settings, declared_settings, parse_settings
from config.types import is_local

SECRETS = ("notebookPassword", "basicPassword", "autheliaPassword", "s3SecretKey")


def problems(config, encrypted=SECRETS):
    """Return the problems of `config`."""
    with pytest.raises(ConfigError) as caught:
        parse_settings(config, encrypted, {})
    assert "Nothing was changed." in str(caught.value)
    return caught.value.problems


def test_the_defaults_are_valid(defaults):
    """A stack without a single config value is a valid stack."""
    settings = parse_settings(defaults, (), {})
    assert 4 == settings.workers.count
    assert Decimal("0.5") == settings.workers.cpus
    assert 2**30 == settings.workers.memory
    assert ("prefect", "prefect-dask", "s3fs") == settings.cluster.packages


@pytest.mark.parametrize(
    ("key", "value", "expected", "example"),
    [
        ("workerMemory", "1GB", "KiB, MiB, GiB or TiB", "workerMemory 1GiB"),
        ("workerMemory", "100MiB", "at least 256MiB", "workerMemory 1GiB"),
        ("workers", "0", "a whole number from 1 to 1000", "workers 2"),
        *(
            ("clusterName", name, "at most 25 small letters, digits and '-'", "clusterName blue")
            for name in ("", "Blue", "-blue", "blue-", "blue_2", "blue.2", "a" * 26)
        ),
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
        ("pipConfig", "[1]", "an object of pip's options", "--secret --path pipConfig.index-url"),
        ("pipConfig", '{"A_B": "1"}', "as pip calls them", "--path pipConfig.index-url"),
        ("pipConfig", '{"proxy": "a\\nb"}', "one line", "--path pipConfig.index-url"),
        ("pipConfig", '{"proxy": ""}', "one line", "--path pipConfig.index-url"),
        ("pipConfig", '{"proxy": "#a"}', "one line", "--path pipConfig.index-url"),
        ("pipConfig", '{"proxy": " a"}', "one line", "--path pipConfig.index-url"),
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
        ("image", "ghcr.io/dask/dask:2025.12.0-py3.12", "CVE-2026-23528", "image ghcr.io/dask"),
        ("image", "h:1/dask-swarm:2026.1.0", "Dask 2026.1.1 or newer", "image ghcr.io/dask"),
        ("notebookImage", "daskdev/dask-notebook:2024.5.0", "CVE-2026", "notebookImage ghcr.io"),
        ("workerReservedMemory", "3MiB", "Swarm reserves no less", "workerReservedMemory 256MiB"),
        ("workerReservedCpus", "0", "from 0.001 to 512", "workerReservedCpus 0.1"),
        ("workerMemory", "65TiB", "at most 64TiB", "workerMemory 1GiB"),
        ("autheliaAddress", "a" * 64 + ":1", "host:port", "autheliaAddress authelia:9091"),
        ("autheliaAddress", "a..b:1", "host:port", "autheliaAddress authelia:9091"),
        ("caddyHost", "ssh://edge:65536", "ssh://user@host", "caddyHost ssh://deploy@edge"),
        ("caddyNetwork", "dask-network", "another name", "caddyNetwork caddy-network"),
        ("caddyNetwork", "ingress", "another name", "caddyNetwork caddy-network"),
        ("networkMode", "none", "managed, external", "networkMode managed"),
        ("networkSubnet", "10.20.0.0", "the length of an IPv4 range", "networkSubnet 192.168."),
        ("networkSubnet", "10.20.0.1/24", "the first address", "networkSubnet 192.168."),
        ("networkSubnet", "10.20.0.0/29", "/8 to /28", "networkSubnet 192.168."),
        ("networkSubnet", "0.0.0.0/7", "/8 to /28", "networkSubnet 192.168."),
        ("networkSubnet", "fd00::/64", "an IPv4 range", "networkSubnet 192.168."),
        ("networkSubnet", "127.1.0.0/16", "that hosts can have", "networkSubnet 192.168."),
        ("networkSubnet", "224.0.0.0/8", "that hosts can have", "networkSubnet 192.168."),
        ("networkMtu", "575", "from 576 to 9216", "networkMtu 1400"),
        ("networkEncrypted", "yes", "true or false", "networkEncrypted true"),
        ("networks", "minio", "a list of names", "--path 'networks[0]' minio-network"),
        ("networks", "[1]", "a list of names", "--path 'networks[0]' minio-network"),
        ("networks", '["a", "a"]', "different networks", "--path 'networks[0]' minio-network"),
        ("networks", '["dask-network"]', "another name", "--path 'networks[0]' minio-network"),
        ("daskConfig", '{"a": NaN}', "as in Dask's own YAML", "--path daskConfig.array"),
        ("daskConfig", '{"a": "\\ud800"}', "as in Dask's own YAML", "--path daskConfig.array"),
        ("daskConfig", '{"a":' * 21 + "1" + "}" * 21, "20 levels", "--path daskConfig.array"),
        ("s3Bucket", "a..b", "no '..'", "s3Bucket dask"),
        ("s3CaBundle", "é", "in PEM form", "s3CaBundle --"),
        ("dockerHost", "unix:///$(id)", "unix:///path", "dockerHost ssh://"),
        ("dockerHost", "tcp://manager:65536", "tcp://manager:port", "dockerHost ssh://"),
        ("dockerHost", "manager:2375", "ssh://user@manager", "dockerHost ssh://"),
        ("platform", "linux", "linux/amd64, linux/arm64", "platform linux/amd64"),
        ("healthDeadline", "1", "from 10 to 3600", "healthDeadline 300"),
        ("extraPipPackages", '["a b"]', "a list of package names", "extraPipPackages[0]"),
    ],
)
def test_an_invalid_value_is_reported_with_its_key_and_a_fix(
    defaults, key, value, expected, example
):
    """The problem has the key, the value, the expected value and a command that sets it."""
    (problem,) = problems(defaults | {key: value})
    assert (key, f"{value!r} is not valid") == (problem.key, problem.found)
    assert expected in problem.expected
    assert problem.fix.startswith("pulumi config set ")
    assert example in problem.fix


def test_an_unknown_key_names_the_nearest_known_key(defaults):
    """A misspelled key is not silently ignored."""
    (problem,) = problems(defaults | {"workerMemroy": "2GiB"})
    assert "workerMemroy" == problem.key
    assert "unknown key; did you mean workerMemory?" == problem.found
    assert "pulumi config rm workerMemroy" == problem.fix


def test_an_unknown_key_stays_one_word(defaults):
    """The command of the fix may be copied into a shell."""
    (problem,) = problems(defaults | {"a;\nid": "1"})
    assert 3 == len(str(problem).split("\n"))
    assert "pulumi config rm " + shlex.quote(repr("a;\nid")) == problem.fix


def test_a_long_value_is_not_repeated(defaults):
    """It would fill the terminal."""
    (problem,) = problems(defaults | {"image": "a" * 201})
    assert "the value is not valid" == problem.found


def test_a_private_key_beside_the_certificates_is_not_repeated(defaults):
    """A Swarm config would show it to every user of the manager."""
    bundle = certifi.contents() + "-----BEGIN PRIVATE KEY-----\nplanted\n"
    (problem,) = problems(defaults | {"s3CaBundle": bundle})
    assert "no private key" in problem.expected
    assert "planted" not in str(problem)


def test_what_no_swarm_secret_can_hold_is_refused(defaults):
    """The engine would refuse it in the middle of a deployment."""
    (problem,) = problems(defaults | {"environment": f'{{"A": "{"é" * 50_000}"}}'})
    assert ("environment", "the value is not valid") == (problem.key, problem.found)
    assert "at most 100000 bytes" in problem.expected


def test_an_unknown_key_without_a_similar_key_lists_all_keys(defaults):
    """The message shows which keys exist."""
    (problem,) = problems(defaults | {"xyzzy": "1"})
    assert "unknown key" == problem.found
    assert "workersPerNode" in problem.expected


def test_more_threads_than_the_cpus_can_run_are_refused(defaults):
    """Eight threads on half a CPU would all be starved."""
    (problem,) = problems(defaults | {"workerThreads": "8"})
    assert "workerThreads" == problem.key
    assert "8 threads are too many for workerCpus 0.5" == problem.found
    assert "pulumi config set workerCpus 2.00" == problem.fix


@pytest.mark.parametrize(
    ("config", "key", "found"),
    [
        ({"networkSubnet": "10.20.0.0/24"}, "networkSubnet", "that network has its own options"),
        ({"networkMtu": "1400"}, "networkMtu", "that network has its own options"),
        ({"networkEncrypted": "true"}, "networkEncrypted", "that network has its own options"),
    ],
)
def test_an_external_network_has_its_own_options(defaults, config, key, found):
    """The program does not create it, so it could not set them."""
    (problem,) = problems(defaults | config | {"networkMode": "external"})
    assert key == problem.key
    assert found in problem.found
    assert f"pulumi config rm {key}" == problem.fix
    assert parse_settings(defaults | config, (), {})


def test_workers_do_not_join_caddys_network(defaults):
    """Behind Caddy, they could reach the notebook without its login."""
    config = defaults | {"networks": '["minio", "caddy-network"]'}
    (problem,) = problems(config)
    assert ("networks", "'caddy-network' is Caddy's network") == (
        problem.key,
        problem.found.partition(",")[0],
    )
    assert parse_settings(config | {"caddyMode": "none"}, (), {})


def test_a_subnet_must_have_room_for_all_workers(defaults):
    """The fix is the smallest range that has."""
    config = defaults | {"networkSubnet": "10.20.0.32/27", "workers": "17"}
    (problem,) = problems(config)
    assert "10.20.0.32/27 has 32 addresses, too few for 17 workers" == problem.found
    assert "pulumi config set networkSubnet 10.20.0.0/26" == problem.fix
    assert parse_settings(config | {"workers": "16"}, (), {})


def test_the_options_of_dockers_defaults_are_left_out(defaults):
    """Networks of earlier versions have none."""
    assert {} == parse_settings(defaults, (), {}).network.options
    config = {"networkMtu": "1400", "networkEncrypted": "true"}
    options = parse_settings(defaults | config, (), {}).network.options
    assert {"com.docker.network.driver.mtu": "1400", "encrypted": ""} == options


@pytest.mark.parametrize(
    ("key", "value", "found", "limit"),
    [
        ("workerReservedCpus", "0.6", "0.6 is more than workerCpus 0.5", "0.5"),
        ("workerReservedMemory", "1.5GiB", "1536MiB is more than workerMemory 1GiB", "1GiB"),
    ],
)
def test_more_reserved_than_a_worker_may_use_is_refused(defaults, key, value, found, limit):
    """The engine would refuse the service in the middle of a deployment."""
    (problem,) = problems(defaults | {key: value})
    assert (key, found) == (problem.key, problem.found)
    assert f"pulumi config set {key} {limit}" == problem.fix
    parse_settings(defaults | {key: limit}, (), {})


def test_a_docker_context_in_the_environment_is_refused(defaults):
    """The provider would follow DOCKER_CONTEXT to another engine than dockerHost."""
    with pytest.raises(ConfigError, match="unset DOCKER_CONTEXT"):
        parse_settings(defaults, (), {"DOCKER_CONTEXT": "elsewhere"})


@pytest.mark.parametrize(
    ("variable", "environment", "fix"),
    [
        ("HTTP_PROXY", {}, "export NO_PROXY=manager"),
        ("http_proxy", {"NO_PROXY": "a.org"}, "export NO_PROXY=a.org,manager"),
        ("HTTPS_PROXY", {"DOCKER_CERT_PATH": "/certs"}, "export NO_PROXY=manager"),
    ],
)
def test_a_proxy_before_the_engine_is_refused(defaults, variable, environment, fix):
    """Requests to the manager would go to it; the message does not show its password."""
    config = defaults | {"dockerHost": "tcp://manager:2376"}
    proxied = environment | {variable: "http://me:hunter22@proxy:3128"}
    with pytest.raises(ConfigError) as raised:
        parse_settings(config, (), proxied)
    (problem,) = raised.value.problems
    assert (variable.upper(), fix) == (problem.key, problem.fix)
    assert "hunter22" not in str(problem)
    parse_settings(config, (), proxied | {"NO_PROXY": "a.org,manager"})
    parse_settings(defaults, (), {variable: "http://proxy:3128"})


def test_a_proxy_that_leaves_out_the_managers_network_is_no_problem(defaults):
    """NO_PROXY may have ranges."""
    environment = {"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "10.0.0.0/8"}
    parse_settings(defaults | {"dockerHost": "tcp://10.1.2.3:2375"}, (), environment)


def test_certificates_in_the_environment_are_for_tcp_alone(defaults):
    """The provider would use TLS on a socket or over SSH, where no engine does."""
    environment = {"DOCKER_CERT_PATH": "/home/me/.docker"}
    for host in ("ssh://deploy@manager", "unix:///var/run/docker.sock"):
        with pytest.raises(ConfigError, match="unset DOCKER_CERT_PATH"):
            parse_settings(defaults | {"dockerHost": host}, (), environment)
    parse_settings(defaults | {"dockerHost": "tcp://manager:2376"}, (), environment)


def test_all_problems_are_reported_together(defaults):
    """Three mistakes make three problems in one error."""
    assert 3 == len(problems(defaults | {"workers": "0", "workerMemory": "1", "colour": "red"}))


@pytest.mark.parametrize("key", ["notebookPassword", "basicPassword"])
@pytest.mark.parametrize("value", ["hunter2", "hunter2\nhunter2", " hunter23"])
def test_a_bad_password_is_not_repeated(defaults, key, value):
    """An error about a secret does not print the secret."""
    (problem,) = problems(defaults | {key: value})
    assert "hunter2" not in str(problem)
    assert "8 printable characters" in problem.expected


def test_a_password_that_bcrypt_would_cut_off_is_refused(defaults):
    """After 72 bytes any ending would be accepted."""
    (problem,) = problems(defaults | {"basicPassword": "ä" * 37})
    assert "at most 72 bytes" in problem.expected
    assert "ä" not in str(problem)


INGRESS = {"domain": "example.org", "autheliaPortal": "https://auth.example.org"}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"caddyMode": "managed"}, "domain: not set, but caddyMode managed"),
        (
            {"domain": "example.org"},
            "autheliaPortal: not set, but auth authelia",
        ),
        (
            INGRESS | {"dashboardName": "notebook"},
            "dashboardName: 'notebook' is also the",
        ),
        (
            INGRESS | {"autheliaPortal": "https://notebook.example.org/"},
            "autheliaPortal: 'https://notebook.example.org' is a name that this stack serves",
        ),
        (INGRESS | {"autheliaUser": "probe"}, "autheliaUser: set without autheliaPassword"),
        (
            INGRESS | {"autheliaPassword": "correct horse"},
            "autheliaPassword: set without autheliaUser",
        ),
        (
            INGRESS | {"caddyDirectory": "/srv/sites", "dockerHost": "tcp://manager:2376"},
            "caddyHost: not set, but tcp://manager:2376 gives no access",
        ),
        (
            INGRESS | {"caddyDirectory": "/srv/sites", "caddyMainFile": ""},
            "caddyMainFile: not set",
        ),
        (INGRESS | {"auth": "none"}, "auth: 'none' opens example.org to everybody"),
        (INGRESS | {"caddyMode": "managed"}, "acmeEmail: not set, but example.org needs"),
        (
            INGRESS | {"caddyMode": "managed", "acmeEmail": "a@b.org", "acmeDirectory": ""},
            "acmeDirectory: not set",
        ),
    ],
)
def test_ingress_settings_that_do_not_fit_together_are_refused(defaults, config, message):
    """The values are valid alone, but the ingress would be open, ambiguous or broken."""
    (problem,) = problems(defaults | config)
    assert f"{problem.key}: {problem.found}".startswith(message)
    assert problem.fix.startswith("pulumi config set ")


@pytest.mark.parametrize(
    ("config", "fix"),
    [
        (INGRESS | {"autheliaUser": "probe"}, "--secret autheliaPassword"),
        (INGRESS | {"autheliaPassword": "correct horse"}, "autheliaUser probe"),
        ({"s3AccessKey": "AKIA1"}, "--secret s3SecretKey"),
        ({"s3SecretKey": "secret"}, "s3AccessKey AKIA…"),
    ],
)
def test_the_fix_of_half_a_pair_sets_the_other_half(defaults, config, fix):
    """To set the same key again would not help."""
    (problem,) = problems(defaults | config)
    assert f"pulumi config set {fix}" == problem.fix


@pytest.mark.parametrize(
    ("config", "key"),
    [
        (INGRESS | {"autheliaUser": "probe", "autheliaPassword": "short"}, "autheliaPassword"),
        ({"s3AccessKey": "AKIA1", "s3SecretKey": "with blanks"}, "s3SecretKey"),
    ],
)
def test_half_a_pair_that_is_not_valid_is_one_problem(defaults, config, key):
    """It is set, so the other half is not alone."""
    (problem,) = problems(defaults | config)
    assert key == problem.key


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"clusterName": "caddy"},
            "caddyNetwork: 'caddy-network' is the network that only the services of caddy are on",
        ),
        (
            {"clusterName": "blue", "dashboardName": "d" * 60},
            f"dashboardName: 'blue-{'d' * 60}', with clusterName in front, has 65 characters",
        ),
        (
            INGRESS
            | {"clusterName": "blue", "autheliaPortal": "https://blue-notebook.example.org"},
            "autheliaPortal: 'https://blue-notebook.example.org' is a name that this stack serves",
        ),
    ],
)
def test_a_cluster_name_that_does_not_fit_other_settings_is_refused(defaults, config, message):
    """Its own network is not Caddy's, and its sites need valid names of their own."""
    (problem,) = problems(defaults | config)
    assert message == f"{problem.key}: {problem.found}"


@pytest.mark.parametrize(
    "config",
    [
        {"clusterName": "caddy", "caddyMode": "none"},
        {"dashboardName": "d" * 63},
        INGRESS | {"clusterName": "blue", "autheliaPortal": "https://notebook.example.org"},
    ],
)
def test_names_that_another_cluster_would_use_are_free(defaults, config):
    """Without a prefix, or in another cluster, the same values are valid."""
    assert parse_settings(defaults | config, (), {})


PREFECT = {"prefect": "managed"}
PREFECT_ELSEWHERE = {"prefect": "external", "prefectApiUrl": "https://flows.example.org/api"}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            INGRESS | PREFECT | {"prefectName": "notebook"},
            "prefectName: 'notebook' is also the notebook's or the dashboard's name",
        ),
        (
            INGRESS | PREFECT | {"autheliaPortal": "https://prefect.example.org"},
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
def test_prefect_settings_that_do_not_fit_together_are_refused(defaults, config, message):
    """A name is used twice, or a variable would be set twice."""
    (problem,) = problems(defaults | config)
    assert f"{problem.key}: {problem.found}".startswith(message)


@pytest.mark.parametrize(
    "config",
    [
        {"environment": '{"PREFECT_API_URL": "http://other/api"}'},
        PREFECT_ELSEWHERE | {"environment": '{"PREFECT_API_AUTH_STRING": "admin:s3cret"}'},
        INGRESS | {"prefectName": "notebook"},
        INGRESS | {"autheliaPortal": "https://prefect.example.org"},
    ],
)
def test_names_and_variables_that_the_program_does_not_use_are_free(defaults, config):
    """Without a managed Prefect server, the user may use its name and its variables."""
    assert parse_settings(defaults | config, (), {})


@pytest.mark.parametrize(
    ("config", "asks"),
    [
        (INGRESS, False),
        (INGRESS | {"notebookPassword": "correct horse"}, False),
        (INGRESS | {"notebookLogin": "true"}, True),
        ({}, True),
        ({"caddyMode": "none", "domain": "example.org"}, True),
        ({"domain": "localhost", "auth": "none"}, True),
    ],
)
def test_the_notebook_asks_for_its_login_unless_the_ingress_does(defaults, config, asks):
    """The notebook is never open, because its users run any code."""
    encrypted = {"notebookPassword"}
    assert asks == parse_settings(defaults | config, encrypted, {}).notebook_asks


@pytest.mark.parametrize(
    ("config", "has_ingress"),
    [
        ({}, False),
        ({"caddyMode": "none", "domain": "example.org", "auth": "none"}, False),
        (INGRESS, True),
        (INGRESS | {"caddyMode": "managed", "acmeEmail": "admin@example.org"}, True),
        ({"caddyMode": "managed", "domain": "localhost", "auth": "basic"}, True),
        ({"caddyMode": "managed", "domain": "dask.localhost", "auth": "none"}, True),
    ],
)
def test_a_stack_with_a_domain_has_an_ingress(defaults, config, has_ingress):
    """Without a domain a stack only joins Caddy's network."""
    assert has_ingress == bool(parse_settings(defaults | config, (), {}).ingress)


def test_a_password_in_plain_text_is_refused(defaults):
    """A password in the stack's file would be committed with it."""
    (problem,) = problems(defaults | {"notebookPassword": "correct horse"}, encrypted=())
    assert "the value is in plain text" == problem.found
    assert "pulumi config set --secret notebookPassword" == problem.fix
    assert "correct horse" not in str(problem)


@pytest.mark.parametrize(
    ("config", "key", "message"),
    [
        ({"environment": '{"EXTRA_PIP_PACKAGES": "x"}'}, "environment", "config rm --path"),
        ({"s3Bucket": "dask"}, "s3Bucket", "s3AccessKey and s3SecretKey as well"),
        ({"s3Endpoint": "https://h"}, "s3Endpoint", "s3AccessKey and s3SecretKey as well"),
        ({"s3AccessKey": "AKIA"}, "s3AccessKey", "set --secret s3SecretKey"),
        ({"s3SecretKey": "x"}, "s3SecretKey", "both or none"),
        ({"prefect": "external"}, "prefectApiUrl", "the API of the Prefect server"),
        ({"tlsCa": "3"}, "tlsCa", "1 or 2, as tlsSchedulerCa or the next number"),
        ({"tlsSchedulerCa": "2"}, "tlsCa", "config set tlsCa 2"),
        ({"prefectApiUrl": "http://h:1/api"}, "prefectApiUrl", "config set prefect external"),
    ],
)
def test_settings_for_work_must_fit_together(defaults, config, key, message):
    """A setting without another setting that it needs is reported with a fix."""
    (problem,) = problems(defaults | config, encrypted={"s3SecretKey"})
    assert key == problem.key
    assert message in problem.expected + problem.fix


def test_an_encrypted_value_that_is_not_valid_is_not_shown(defaults):
    """An invalid name of a variable does not reveal its value."""
    values = defaults | {"environment": '{"A B": "correct horse"}'}
    (problem,) = problems(values, encrypted={"environment"})
    assert ("environment", "the value is not valid") == (problem.key, problem.found)
    assert "correct horse" not in str(problem)


def test_a_secret_in_dasks_configuration_is_refused(defaults):
    """Every container shows the configuration, so the value would not stay secret."""
    values = defaults | {"daskConfig": '{"a": "correct horse"}'}
    (problem,) = problems(values, encrypted={"daskConfig"})
    assert "every container's configuration shows it" in problem.found
    assert "--secret --path environment.DASK_NAME" in problem.fix
    assert "correct horse" not in str(problem)


def test_variables_may_be_secrets_and_are_never_shown(defaults):
    """Numbers and booleans become the text that the config has."""
    values = defaults | {"environment": '{"KEY": "correct horse", "ON": true, "N": 1}'}
    settings = parse_settings(values, {"environment"}, {})
    assert {"KEY": "correct horse", "ON": "true", "N": "1"} == settings.shared.environment
    assert "correct horse" not in repr(settings)


SECRET_KEYS = [setting.key for setting in declared_settings() if setting.secret]


def test_settings_do_not_show_a_secret(defaults):
    """A traceback or log of the settings shows no secret."""
    needed = INGRESS | {"autheliaUser": "probe", "s3AccessKey": "AKIA"}
    config = defaults | needed | dict.fromkeys(SECRET_KEYS, "correct-horse")
    settings = parse_settings(config, SECRET_KEYS, {})
    assert settings.ingress
    assert settings.object_store
    assert "correct-horse" not in repr(settings)


# Any printable character is valid in an access key.
PLAIN = [s for s in declared_settings() if s.example.isascii() and not s.example.startswith("--")]


ENDS = [" x", "\n", "\nimport /etc/passwd", "{", ";id", "$(id)", "\0"]


@pytest.mark.parametrize("setting", PLAIN, ids=lambda setting: setting.key)
def test_a_value_ends_with_its_text(setting):
    """No blank, line or command after a valid value reaches Caddy, a shell or a file."""
    value = setting.parse(setting.example)
    for end in ENDS:
        with suppress(ValueError):
            assert value == setting.parse(setting.example + end)


@pytest.mark.parametrize("domain", ["x.mylocalhost", "mylocalhost.org", "localhost.org"])
def test_a_domain_that_resembles_localhost_is_not_this_machine(defaults, domain):
    """Without a login its notebook would be open to everybody."""
    assert not is_local(domain)
    (problem,) = problems(defaults | {"domain": domain, "auth": "none"})
    assert ("auth", f"'none' opens {domain} to everybody") == (
        problem.key, problem.found.partition(",")[0],
    )  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"),
        *("AWS_DEFAULT_PROFILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_ENDPOINT_URL"),
        *("AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_CA_BUNDLE"),
        "S3_BUCKET",
    ],
)
def test_a_variable_cannot_lead_s3_clients_elsewhere(defaults, name):
    """S3 clients prefer these variables to the keys of the stack."""
    keys = {"s3AccessKey": "AKIA", "s3SecretKey": "secret-key"}
    config = defaults | keys | {"environment": json.dumps({name: "x"})}
    (problem,) = problems(config, encrypted={"s3SecretKey"})
    assert ("environment", True) == (problem.key, problem.found.startswith(f"{name} is set"))


@pytest.mark.parametrize("mode", ["managed", "external"])
@pytest.mark.parametrize(
    "name",
    [
        *("PREFECT_API_URL", "PREFECT_SERVER_EPHEMERAL_ENABLED"),
        *("PREFECT_SERVER_ALLOW_EPHEMERAL_MODE", "prefect_api_url"),
    ],
)
def test_a_variable_cannot_lead_flows_to_another_server(defaults, mode, name):
    """Nobody would see them there."""
    config = {"prefect": mode, "environment": json.dumps({name: "x"})}
    config |= {"prefectApiUrl": "http://h:4200/api"} if mode == "external" else {}
    (problem,) = problems(defaults | config)
    assert ("environment", f"{name} is set by the program") == (problem.key, problem.found)


def test_settings_cannot_be_changed(defaults):
    """Settings stay as they were checked."""
    settings = parse_settings(defaults, (), {})
    with pytest.raises(AttributeError):
        settings.workers.count = 5
    assert isinstance(settings, Settings)


def nested(path, value):
    """Return Dask's configuration with one value."""
    for key in reversed(path.split(".")):
        value = {key: value}
    return value


@pytest.mark.parametrize("level", ["tls.worker", "tls.ca-file", "require-encryption"])
def test_dasks_configuration_cannot_switch_encryption_off(defaults, level):
    """The program sets these keys; `-` and `_` mean the same."""
    for key in (level, level.replace("-", "_")):
        config = nested(f"distributed.comm.{key}", "x")
        (problem,) = problems(defaults | {"daskConfig": json.dumps(config)})
        assert f"distributed.comm.{level} is set by the program, for TLS" == problem.found
        assert f"pulumi config rm --path daskConfig.distributed.comm.{level}" == problem.fix
        parse_settings(defaults | {"daskConfig": json.dumps(config), "tls": "false"}, (), {})


def test_an_older_name_of_a_key_cannot_switch_encryption_off(defaults):
    """Dask gives its value to the new name."""
    (problem,) = problems(defaults | {"daskConfig": '{"default_scheme": "tcp"}'})
    assert "default-scheme is set by the program, for TLS" == problem.found


@pytest.mark.parametrize(
    "name",
    [
        *("DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION", "DASK_distributed__comm__tls__ca_file"),
        *("DASK_DISTRIBUTED__COMM__TLS__WORKER__CERT", "DASK_DISTRIBUTED__COMM__TLS"),
        *("DASK_DISTRIBUTED__COMM", "DASK_DISTRIBUTED", "DASK_DEFAULT_SCHEME"),
    ],
)
def test_variables_cannot_switch_encryption_off(defaults, name):
    """Dask reads them after its files, in any case, and whole sections too."""
    config = defaults | {"environment": json.dumps({name: "None"})}
    (problem,) = problems(config)
    assert f"{name} is set by the program, for TLS" == problem.found
    parse_settings(config | {"tls": "false"}, (), {})


@pytest.mark.parametrize(
    "name",
    [
        *("DASK_DISTRIBUTED__COMM__TLS__CIPHERS", "DASK_DISTRIBUTED__COMM__RETRY__COUNT"),
        *("DASK_DISTRIBUTED__WORKER__DAEMON", "DISTRIBUTED__COMM__TLS", "dask_distributed__comm"),
    ],
)
def test_other_variables_are_the_users(defaults, name):
    """Dask reads only names that begin with DASK_."""
    parse_settings(defaults | {"environment": json.dumps({name: "1"})}, (), {})


@pytest.mark.parametrize("tls", ["true", "false"])
@pytest.mark.parametrize("value", ["x", "", [], ["a"], 1, False])
@pytest.mark.parametrize("section", DASK_SECTIONS)
def test_a_section_of_dasks_configuration_is_no_other_value(defaults, section, value, tls):
    """It would replace all that the program sets there."""
    config = nested(section, value)
    (problem,) = problems(defaults | {"daskConfig": json.dumps(config), "tls": tls})
    fix = f"pulumi config rm --path daskConfig.{section}"
    assert ("daskConfig", fix) == (problem.key, problem.fix)
    assert problem.found.startswith(f"{section} is {value!r}, but")


@pytest.mark.parametrize("section", DASK_SECTIONS)
def test_a_section_may_be_empty(defaults, section):
    """In YAML a section with nothing but comments is null."""
    parse_settings(defaults | {"daskConfig": json.dumps(nested(section, None))}, (), {})


def test_a_long_value_in_the_place_of_a_section_is_shown_in_part(defaults):
    """A message stays readable."""
    (problem,) = problems(defaults | {"daskConfig": json.dumps({"distributed": "x" * 9999})})
    assert len(problem.found) < 300


@pytest.mark.parametrize("key", ["ciphers", "min-version"])
def test_other_settings_of_tls_are_the_users(defaults, key):
    """Which ciphers and versions are used is not the program's business."""
    config = {"distributed": {"comm": {"tls": {key: "1.3"}, "timeouts": {"connect": "9s"}}}}
    assert (
        config
        == parse_settings(defaults | {"daskConfig": json.dumps(config)}, (), {}).shared.dask_config
    )


@pytest.mark.parametrize(
    "address",
    [
        "https://me:correct-horse@pypi.example.org/simple",
        "https://token@pypi.example.org/simple",
        "http://me:correct@horse@proxy.corp:3128",
        "http://me:correct/horse@proxy.corp:3128",
        'http://me:correct"horse@proxy.corp:3128',
        "me:correct-horse@proxy.corp:3128",
        "me:correct/horse@proxy.corp:3128",
        "me:42@proxy.corp:3128",
        "https://pypi.example.org/simple me:correct-horse@proxy.corp",
    ],
)
@pytest.mark.parametrize("separators", [None, (",", ":")])
def test_a_login_at_an_index_or_a_proxy_must_be_encrypted(defaults, address, separators):
    """The message does not repeat it."""
    options = {"timeout": 60, "proxy": address}
    values = defaults | {"pipConfig": json.dumps(options, separators=separators)}
    (problem,) = problems(values)
    assert ("pipConfig", "the value is in plain text") == (problem.key, problem.found)
    assert address not in str(problem)
    pip_config = parse_settings(values, {"pipConfig"}, {}).cluster.pip_config
    assert {"timeout": "60", "proxy": address} == pip_config


@pytest.mark.parametrize(
    "address",
    [
        "https://pypi.example.org/simple",
        "https://pypi.example.org/simple/@scope/pkg",
        "https://pypi.example.org:8443/simple/@scope/pkg",
        "https://[fd00::1]:8443/simple/@scope/pkg",
        "git+https://example.org/x.git@v1.0",
        "proxy.corp:3128",
        "mirror.corp:8080/wheels@2",
        "file:///wheels@2",
        "/wheels:me@2",
        "a@b",
        "pypi.example.org:8443 a@b",
        "cmake.args=-DMAIL:STRING=a@b",
    ],
)
@pytest.mark.parametrize("separators", [None, (",", ":")])
def test_an_address_without_a_login_may_be_plain(defaults, address, separators):
    """A port, or '@' in a path, is no login."""
    options = {"index-url": address, "trusted-host": "a@b"}
    values = defaults | {"pipConfig": json.dumps(options, separators=separators)}
    assert options == parse_settings(values, (), {}).cluster.pip_config
