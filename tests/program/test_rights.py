"""The rights of every service of a stack, as the provider receives them."""

import pytest

STACK = {
    "caddyMode": "managed",
    "domain": "localhost",
    "auth": "basic",
    "prefect": "managed",
    "extraPipPackages": "[]",
}
# The directories that a service can write to.
WRITABLE = {
    "dask_scheduler": {"/tmp", "/home/dask"},
    "dask_worker": {"/tmp", "/home/dask"},
    "dask_notebook": {"/tmp", "/home/jovyan"},
    "dask_prefect": {"/tmp", "/home/dask", "/var/tmp"},
    "dask_caddy": {"/tmp", "/var/tmp"},
    "dask_caddy_reloader": {"/tmp", "/var/tmp"},
}
CADDY = ("dask_caddy", "dask_caddy_reloader")
LASTING = {
    "dask_notebook": "dask-notebook",
    "dask_prefect": "dask-prefect",
    **dict.fromkeys(CADDY, "dask-caddy-data"),
}


@pytest.fixture
def program(run):
    """Return a program with every service, whose images have all packages."""
    return run(**STACK)


def test_every_service_is_tested(program):
    """A new service has its row in `WRITABLE`."""
    services = program.of_type("docker:index/service:Service")
    assert {*WRITABLE} == {service.inputs["name"] for service in services}


@pytest.mark.parametrize("name", WRITABLE)
class TestEveryService:
    def test_is_not_root(self, program, name):
        """The user is set for any image."""
        assert "1000:1000" == program.container(name)["user"]

    def test_has_no_capability_but_caddys(self, program, name):
        """Caddy's binary does not start without one."""
        container = program.container(name)
        assert ["ALL"] == container["capDrops"]
        assert (["NET_BIND_SERVICE"] if name in CADDY else None) == container.get("capAdds")

    def test_writes_to_volumes_only(self, program, name):
        """Not to its image, and not to a tmpfs, which takes the container's memory."""
        container = program.container(name)
        assert container["readOnly"] is True
        assert WRITABLE[name] == {mount["target"] for mount in container["mounts"]}
        assert {"volume"} == {mount["type"] for mount in container["mounts"]}

    def test_keeps_only_the_volume_with_a_name(self, program, name):
        """A volume without a name goes with its container."""
        sources = {mount.get("source") for mount in program.container(name)["mounts"]}
        assert {LASTING.get(name)} - {None} == sources - {None}
        assert None in sources

    def test_has_limits_and_reservations_within_them(self, program, name):
        """No service can use a whole node."""
        resources = program.service(name)["taskSpec"]["resources"]
        for unit in ("memoryBytes", "nanoCpus"):
            assert 0 < resources["reservation"][unit] <= resources["limits"][unit]

    def test_rotates_its_log(self, program, name):
        """A log cannot fill the disk of its node."""
        driver = program.service(name)["taskSpec"]["logDriver"]
        assert {"max-size": "10m", "max-file": "3"} == driver["options"]

    def test_publishes_no_port_but_caddys(self, program, name):
        """Caddy asks for a login."""
        ports = program.service(name)["endpointSpec"].get("ports", [])
        expected = {80, 443} if name == "dask_caddy" else set()
        assert expected == {port["publishedPort"] for port in ports}

    def test_mounts_secrets_for_its_user_only(self, program, name):
        """In an official image, root reads them by its group."""
        for secret in program.container(name)["secrets"]:
            assert ("1000", "0", 0o440) == (
                secret["fileUid"], secret["fileGid"], secret["fileMode"],
            )  # fmt: skip


class TestPackages:
    @pytest.mark.parametrize("name", [name for name in WRITABLE if name not in CADDY])
    def test_are_installed_by_the_images_user_into_the_image(self, run, name):
        """The official images do so; the workers still spill to a volume."""
        container = run(**STACK | {"extraPipPackages": '["s3fs"]'}).container(name)
        assert {"EXTRA_PIP_PACKAGES": "s3fs"} == container["env"]
        assert not {"user", "readOnly"} & {*container}
        assert WRITABLE[name] == {mount["target"] for mount in container["mounts"]}

    @pytest.mark.parametrize("name", CADDY)
    def test_do_not_change_caddy(self, run, name):
        """Its image installs none."""
        with_packages = run(**STACK | {"extraPipPackages": '["s3fs"]'})
        assert run(**STACK).container(name) == with_packages.container(name)
