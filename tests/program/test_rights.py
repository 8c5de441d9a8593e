"""The rights of every service of a stack, as the provider receives them."""

import pytest

from tests.rights import CADDY, WRITABLE

STACK = {
    "caddyMode": "managed",
    "domain": "localhost",
    "auth": "basic",
    "prefect": "managed",
    "extraPipPackages": "[]",
}
LASTING = {
    "dask_notebook": "dask-notebook",
    "dask_prefect": "dask-prefect",
    **dict.fromkeys(CADDY, "dask-caddy-data"),
}


@pytest.fixture
def program(run):
    """Return a program with every service, whose images have all packages."""
    return run(**STACK)


def by_name(program, value):
    """Return a value of every service's inputs by the service's name."""
    services = [resource.inputs for resource in program.of_type("docker:index/service:Service")]
    return {service["name"]: value(service) for service in services}


def of_containers(program, value):
    """Return a value of every service's container by the service's name."""
    return by_name(program, lambda service: value(service["taskSpec"]["containerSpec"]))


def targets(container):
    """Return the directories of a container that are mounts."""
    return {mount["target"] for mount in container["mounts"]}


class TestEveryService:
    def test_is_not_root(self, program):
        """The user is set for any image."""
        expected = dict.fromkeys(WRITABLE, "1000:1000")
        assert expected == of_containers(program, lambda container: container["user"])

    def test_has_no_capability_but_caddys(self, program):
        """Caddy's binary does not start without one."""
        expected = dict.fromkeys(WRITABLE, (["ALL"], None))
        expected |= dict.fromkeys(CADDY, (["ALL"], ["NET_BIND_SERVICE"]))
        assert expected == of_containers(
            program, lambda container: (container["capDrops"], container.get("capAdds"))
        )

    def test_writes_to_volumes_only(self, program):
        """Not to its image, and not to a tmpfs, which takes the container's memory."""
        assert WRITABLE == of_containers(program, targets)
        expected = dict.fromkeys(WRITABLE, (True, {"volume"}))
        assert expected == of_containers(
            program,
            lambda container: (
                container["readOnly"],
                {mount["type"] for mount in container["mounts"]},
            ),
        )

    def test_keeps_only_the_volume_with_a_name(self, program):
        """A volume without a name goes with its container."""
        expected = {name: {LASTING.get(name), None} for name in WRITABLE}
        assert expected == of_containers(
            program, lambda container: {mount.get("source") for mount in container["mounts"]}
        )

    @pytest.mark.parametrize("unit", ["memoryBytes", "nanoCpus"])
    def test_has_limits_and_reservations_within_them(self, program, unit):
        """No service can use a whole node."""
        resources = by_name(program, lambda service: service["taskSpec"]["resources"])
        for amount in resources.values():
            assert 0 < amount["reservation"][unit] <= amount["limits"][unit]

    def test_rotates_its_log(self, program):
        """A log cannot fill the disk of its node."""
        expected = {name: {"max-size": "10m", "max-file": "3"} for name in WRITABLE}
        assert expected == by_name(
            program, lambda service: service["taskSpec"]["logDriver"]["options"]
        )

    def test_publishes_no_port_but_caddys(self, program):
        """Caddy asks for a login."""
        ports = by_name(program, lambda service: service["endpointSpec"].get("ports", []))
        assert [80, 443] == [port["publishedPort"] for port in ports.pop("dask_caddy")]
        assert not any(ports.values())

    def test_mounts_secrets_for_its_user_only(self, program):
        """In an official image, root reads them by its group."""
        secrets = of_containers(program, lambda container: container["secrets"])
        rights = {
            (secret["fileUid"], secret["fileGid"], secret["fileMode"])
            for of_service in secrets.values()
            for secret in of_service
        }
        assert {("1000", "0", 0o440)} == rights


def test_packages_are_installed_by_the_images_user_into_the_image(run):
    """The official images do so; the workers still spill to a volume. Caddy does not change."""
    without, program = run(**STACK), run(**STACK | {"extraPipPackages": '["s3fs"]'})
    assert WRITABLE == of_containers(program, targets)
    for name in WRITABLE:
        container = program.container(name)
        if name in CADDY:
            assert without.container(name) == container
        else:
            assert {"EXTRA_PIP_PACKAGES": "s3fs"} == container["env"]
            assert not {"user", "readOnly"} & {*container}
