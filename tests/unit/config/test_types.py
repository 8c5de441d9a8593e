"""Config texts become values, or errors with the expected form."""

import contextlib
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import types

DIGEST = "sha256:" + "0a" * 32


class TestMemory:
    @pytest.mark.parametrize(
        ("text", "size"),
        [("1GiB", 2**30), ("512MiB", 2**29), ("1.5GiB", 3 * 2**29), ("262144KiB", 2**28)],
    )
    def test_binary_units_are_read(self, text, size):
        """A size with a binary unit is that many bytes."""
        assert size == types.memory(text)

    @pytest.mark.parametrize("text", ["1G", "1GB", "1 GiB", "GiB", "-1GiB", "1024", "1gib", ""])
    def test_other_units_are_refused(self, text):
        """Units that Docker and Dask read differently are refused."""
        with pytest.raises(ValueError, match="KiB, MiB, GiB or TiB"):
            types.memory(text)

    @given(st.integers(min_value=1, max_value=2**45))
    def test_spelled_sizes_mean_the_same_to_dask(self, size):
        """Dask gets exactly the limit that Swarm enforces."""
        from dask.utils import parse_bytes

        assert size == parse_bytes(types.spell_memory(size))

    @pytest.mark.parametrize(
        ("size", "text"),
        [(0, "0MiB"), (3482, "3.4KiB"), (512 * 2**20, "512MiB"), (3 * 2**29, "1.5GiB")],
    )
    def test_a_size_has_the_unit_that_fits(self, size, text):
        """A backup of an empty home is a few KiB."""
        assert text == types.spell_size(size)


class TestCpus:
    def test_fractions_are_exact(self):
        """A tenth of a CPU is a tenth, not a float near it."""
        assert Decimal("0.1") == types.cpus("0.1")

    @pytest.mark.parametrize("text", ["half", "", "0", "-1", "0.0001", "nan", "inf", "1000"])
    def test_other_text_than_a_number_of_cpus_is_refused(self, text):
        """Words, zero, negative and absurd numbers are refused."""
        with pytest.raises(ValueError, match=r"from 0\.001 to 512"):
            types.cpus(text)


class TestImageReference:
    @pytest.mark.parametrize(
        ("text", "familiar"),
        [
            ("ghcr.io/dask/dask:2026.7.1-py3.12", "ghcr.io/dask/dask:2026.7.1-py3.12"),
            ("docker.io/library/caddy:2.11", "caddy:2.11"),
            ("localhost:5001/dask-swarm:1", "localhost:5001/dask-swarm:1"),
            (f"dask@{DIGEST}", f"dask@{DIGEST}"),
            (f"a.b/c:d@{DIGEST}", f"a.b/c:d@{DIGEST}"),
        ],
    )
    def test_references_are_spelled_as_docker_prints_them(self, text, familiar):
        """Swarm reports the familiar form, so a refresh shows no change."""
        assert familiar == str(types.image_reference(text))

    @pytest.mark.parametrize(
        "text", ["", "dask", "Dask:1", "dask:", "dask:1@sha256:12", "a b:1", "https://x/y:1", ":1"]
    )
    def test_malformed_or_floating_references_are_refused(self, text):
        """A text that is not a reference, or that would mean `latest`, is refused."""
        with pytest.raises(ValueError, match="with a tag or a digest"):
            types.image_reference(text)


class TestPlatforms:
    @given(
        st.lists(st.sampled_from(["linux/amd64", " linux/arm64", "linux/arm64/v8 "]), min_size=1)
    )
    def test_order_and_repeats_do_not_matter(self, names):
        """Otherwise they would show as a change of every service; Swarm knows no v8."""
        architectures = sorted({name.split("/")[1].strip() for name in names})
        expected = tuple(f"linux/{architecture}" for architecture in architectures)
        assert expected == types.platforms(",".join(names))

    @pytest.mark.parametrize(
        "text", ["", "linux", "linux/amd64,", "linux/arm/v7", "linux/amd64/v8", '["linux/amd64"]']
    )
    def test_other_platforms_are_refused(self, text):
        """Dask's images exist for neither, and Pulumi refuses a list."""
        with pytest.raises(ValueError, match="linux/amd64, linux/arm64, separated by commas"):
            types.platforms(text)


class TestPlacement:
    def test_constraints_are_split_and_normalised(self):
        """Several constraints are separated by commas; spaces do not matter."""
        parsed = types.placement("node.labels.role == master , node.platform.arch!=arm64")
        assert ("node.labels.role==master", "node.platform.arch!=arm64") == parsed

    @pytest.mark.parametrize(
        "text", ["role==master", "node.labels.role=master", "node.labels.role==", "", "a,b", "=="]
    )
    def test_malformed_expressions_are_refused(self, text):
        """The error shows the expressions that Swarm understands."""
        with pytest.raises(ValueError, match=r"node\.labels\.<name>==<value>"):
            types.placement(text)

    def test_a_label_mistaken_for_a_role_is_explained(self):
        """`node.role==master` can never match: a role is manager or worker."""
        with pytest.raises(ValueError, match=r"a label is node\.labels\.role"):
            types.placement("node.role==master")


class TestRequirements:
    def test_versions_and_extras_are_kept(self):
        """Requirements keep what pip needs, without the spaces that would split them."""
        names = '["prefect", "s3fs >= 2026.1", "dask[array]"]'
        assert ("prefect", "s3fs>=2026.1", "dask[array]") == types.requirements(names)

    @pytest.mark.parametrize(
        "text",
        [
            "prefect",
            "{}",
            '["a===$HOME"]',
            '[""]',
            "[1]",
            '["a b"]',
            '["x @ https://h/x"]',
            '["a; b"]',
        ],
    )
    def test_other_text_than_a_list_of_packages_is_refused(self, text):
        """pip or a shell could read such text as more than a package name."""
        with pytest.raises(ValueError, match="a list of package names"):
            types.requirements(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "/var/run/docker.sock", "http://h:1", "tcp://h", "ssh://", "ssh://-oProxyCommand=x"),
        *("ssh://::1", "ssh://[host]", "ssh://[::1", "ssh://@host", "ssh://a:b@host", "ssh://a b"),
        *("ssh://me@-oProxyCommand=x", "ssh://-l@host", "ssh://host/path", "ssh://a;b@host"),
    ],
)
def test_other_text_than_a_docker_host_is_refused(text):
    """A path, a web address or half an address is refused."""
    with pytest.raises(ValueError, match="unix:///path"):
        types.docker_host(text)


@pytest.mark.parametrize(
    "text", [" at the start", "at the end ", "a" * 1001, "short", "with\nnewline", "tab\tinside"]
)
def test_short_or_unprintable_passwords_are_refused(text):
    """A password is 8 to 1000 printable characters; its reader would drop outer blanks."""
    with pytest.raises(ValueError, match="8 printable"):
        types.password(text)


@pytest.mark.parametrize(
    ("text", "server", "path"),
    [
        ("authelia:9091", "authelia:9091", ""),
        ("stack_authelia:80", "stack_authelia:80", ""),
        ("http://authelia", "http://authelia", ""),
        ("http://authelia:9091/", "http://authelia:9091", ""),
        ("http://authelia:9091/auth", "http://authelia:9091", "/auth"),
        ("https://example.org/a/b/", "https://example.org", "/a/b"),
        ("https://example.org:8443", "https://example.org:8443", ""),
    ],
)
def test_a_service_address_is_split_into_server_and_path(text, server, path):
    """Caddy takes them apart from each other."""
    assert (server, path) == types.split_address(types.upstream(text))


@pytest.mark.parametrize(
    "text",
    [
        *("", "authelia", "authelia/auth", "authelia:9091/auth", "authelia:0", "http://a:65536"),
        *("http://authelia:443", "https://authelia:80", "ftp://authelia:21", "https://", "//a:1"),
        *("https://a/?x=1", "https://user@a", "https://a/b c", "https://a//b", "https://a{b}"),
    ],
)
def test_an_address_that_caddy_cannot_forward_to_is_refused(text):
    """It has the other scheme's port, a query or a user."""
    with pytest.raises(ValueError, match="host:port with a port from 1 to 65535"):
        types.upstream(text)


@given(st.text(max_size=60))
def test_no_text_breaks_a_parser(text):
    """Any text gives a value or a `ValueError`."""
    parsers = [
        types.cpus,
        types.memory,
        types.image_reference,
        types.placement,
        types.requirements,
        types.docker_host,
        types.network_name,
        types.platforms,
        types.whole_number(1, 9),
        types.upstream,
    ]
    for parse in parsers:
        with contextlib.suppress(ValueError):
            parse(text)
