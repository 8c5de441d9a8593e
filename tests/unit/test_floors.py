"""Folders import in one direction, and production never imports the lab."""

import ast

import pytest

from tests.conftest import ROOT

# The other folders that a folder may import.
MAY_IMPORT = {
    "config": set(),
    "swarm": {"config"},
    "caddy": {"config", "swarm"},
    "health": {"swarm"},
    "components": {"config", "swarm", "caddy", "health"},
    "images": set(),
    "tools": {"config", "swarm", "health", "components"},
    "lab": {"config", "swarm", "health", "components", "tools"},
    "bench": {"config", "swarm", "health", "components", "tools", "lab"},
}
ROOMS = {*MAY_IMPORT, "tests"}


def imports(path):
    """Yield the folders of this project that a module or its functions import."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            modules = [node.module]
        else:
            continue
        yield from {module.partition(".")[0] for module in modules} & ROOMS


def modules(folder):
    """Return the Python files of a folder."""
    paths = sorted((ROOT / folder).rglob("*.py"))
    assert paths
    return paths


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_a_folder_imports_only_folders_below(folder):
    """An import of a higher folder could make a circle, or bring the lab into production."""
    wrong = [
        f"{path.relative_to(ROOT)} imports {used}"
        for path in modules(folder)
        for used in sorted(set(imports(path)) - MAY_IMPORT[folder] - {folder})
    ]
    assert [] == wrong


def test_the_program_imports_neither_lab_nor_tools():
    """The engine runs it in production."""
    assert {"config", "swarm", "components"} >= set(imports(ROOT / "__main__.py"))
