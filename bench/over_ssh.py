"""From a control host by SSH to four workers: our program against the original's playbook."""

import json
import subprocess
import tempfile
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.arms import COMPOSE, STACK, Arm, Baseline, Deploying
from bench.context import Context, configure, prepared, wait_until_empty
from bench.measure import measure, report
from lab import sshd

PACKAGES = ("ansible==12.3.0", "jsondiff==2.2.1", "PyYAML==6.0.3")
INSTALL_SECONDS = 900
# The tasks of the original.
TASKS = [
    {
        "name": "Copy compose source template",
        "template": {"src": str(COMPOSE), "dest": "{{ compose }}", "mode": "0600"},
    },
    {
        "name": "Deploy dask",
        "docker_stack": {"state": "present", "name": STACK, "compose": ["{{ compose }}"]},
        "environment": "{{ variables }}",
    },
]


@dataclass(frozen=True, kw_only=True)
class Playbook(Baseline):
    """The original way from a control host: `ansible-playbook`, then a client."""

    server: sshd.Server
    folder: Path
    name: str = "ansible-playbook, then a client"

    def install(self) -> None:
        """Install Ansible, and write the playbook and its inventory."""
        venv.create(self.folder, with_pip=True)
        pip = [str(self.folder / "bin" / "pip"), "install", "--quiet", *PACKAGES]
        subprocess.run(pip, check=True, timeout=INSTALL_SECONDS)
        manager = {
            "ansible_host": self.server.host,
            "ansible_port": sshd.SHELL_PORT,
            "ansible_user": "root",
            "ansible_python_interpreter": str(self.folder / "bin" / "python"),
            "compose": str(self.folder / "docker-compose.yaml"),
            "variables": self.variables,
        }
        inventory = {"data_master_nodes": {"hosts": {"manager": manager}}}
        plays = [{"hosts": "data_master_nodes", "tasks": TASKS}]
        for name, content in (("inventory.yaml", inventory), ("playbook.yaml", plays)):
            (self.folder / name).write_text(json.dumps(content))  # JSON is YAML

    def deploy(self) -> None:
        """Run the playbook."""
        files = ("bin/ansible-playbook", "playbook.yaml", "--inventory", "inventory.yaml")
        self.call("env", "--chdir", str(self.folder), *files)


def over_ssh(context: Context, rounds: int) -> Iterator[str]:
    """Yield the table of deployments by the manager's SSH server."""
    with (
        tempfile.TemporaryDirectory(prefix="sshd-") as folder,
        tempfile.TemporaryDirectory(prefix="ansible-") as tools,
        sshd.running(context.lab.master, Path(folder)) as server,
        prepared("ssh", server.command()) as ours,
    ):
        playbook = Playbook(
            docker_host=server.address,
            images=context.images,
            control_host=server.command(),
            server=server,
            folder=Path(tools),
        )
        playbook.install()
        configure(ours.config_file, {"dockerHost": server.address})
        arms: list[Arm] = [playbook, *(Deploying(runner=runner) for runner in ours.runners)]
        seconds = measure(arms, rounds, before_each=lambda: wait_until_empty(context.lab))
    yield report("Seconds by SSH to four workers", seconds)
