"""The one-way rules between packages: read from the source, so that none is broken unseen."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = {
    "loam_api": ROOT / "crds",
    "loam_operator": ROOT / "operator",
    "loam_runtime": ROOT / "runtime",
}
PACKAGES = tuple(SOURCES)

STAGES = {"synthesis", "training", "evaluation", "export", "report"}
# What each part of the runtime may import of the runtime, besides itself.
SHARED = {"errors", "data", "models", "storage", "observability"}
ALLOWED = {
    "errors": set(),
    "storage": {"errors"},
    "observability": {"errors"},
    "data": {"errors", "storage"},
    "models": {"errors", "data", "storage"},
    **dict.fromkeys(STAGES, SHARED),
}

# Slow to import: no command that only reads a manifest may wait for them.
HEAVY = {"torch", "transformers", "ray", "datasets", "boto3", "openai", "peft", "sklearn", "numpy"}


def list_modules(package: str) -> dict[str, Path]:
    """Module name -> file, `__init__` as its package's name."""
    base = SOURCES[package]
    files = (base / package).rglob("*.py")
    parts = {file: file.relative_to(base).with_suffix("").parts for file in files}
    return {
        ".".join(names[:-1] if names[-1] == "__init__" else names): file
        for file, names in parts.items()
    }


MODULES = {name: file for package in PACKAGES for name, file in list_modules(package).items()}


def list_imports(file: Path) -> Iterator[str]:
    """Every imported name of a file, wherever in it: in functions and for types alike."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def find_module(imported: str) -> str:
    """The module of ours that an imported name is or comes from; "" for others'."""
    while imported and imported not in MODULES:
        imported = imported.rpartition(".")[0]
    return imported


def get_part(module: str) -> str:
    """The part of the runtime that a module belongs to, such as "training"."""
    return module.split(".")[1] if "." in module else ""


def test_the_rules_see_the_code():
    """An empty list of modules would pass every test below."""
    assert "loam_api.finetunejob" in MODULES
    assert "loam_runtime.errors" in MODULES
    assert find_module("loam_api.exits.ExitCode") == "loam_api.exits"
    assert find_module("operator.itemgetter") == ""
    parts = {get_part(module) for module in MODULES if module.startswith("loam_runtime.")}
    assert set(ALLOWED) <= parts


def test_api_imports_pydantic_and_the_standard_library_only():
    """The operator's slim image and every editor plug-in load the API."""
    allowed = {"loam_api", "pydantic", "pydantic_core", *sys.stdlib_module_names}
    for module, file in MODULES.items():
        if module.partition(".")[0] == "loam_api":
            found = {name.partition(".")[0] for name in list_imports(file)}
            assert found <= allowed, f"{module}: {found - allowed}"


def test_runtime_never_imports_the_operator():
    """Operator and runtime are two images; they meet in the API alone."""
    for module, file in MODULES.items():
        if module.partition(".")[0] != "loam_operator":
            found = {name.partition(".")[0] for name in list_imports(file)}
            assert "loam_operator" not in found, module


def test_operator_never_imports_the_runtime():
    """The operator's image has no torch; an import of the runtime would ask for it."""
    for module, file in MODULES.items():
        if module.partition(".")[0] == "loam_operator":
            found = {name.partition(".")[0] for name in list_imports(file)}
            assert not found & {"loam_runtime", *HEAVY}, module


def test_the_decision_is_pure():
    """A decision that reads a clock or a cluster cannot be tried out by the million."""
    impure = {"asyncio", "kopf", "kubernetes", "time", "random", "os", "socket"}
    todo, seen = ["loam_operator.reconcile"], set()
    while todo:
        module = todo.pop()
        seen.add(module)
        names = list(list_imports(MODULES[module]))
        assert not impure & {name.partition(".")[0] for name in names}, module
        ours = {find_module(name) for name in names}
        todo += [one for one in ours - seen if one.startswith("loam_operator.")]
    assert "loam_operator.judge" in seen


def test_parts_of_the_runtime_import_one_way():
    """A stage that imports another cannot be run, tested or replaced by itself."""
    broken = [
        f"{module} imports {target}"
        for module, file in MODULES.items()
        if get_part(module) in ALLOWED and module.startswith("loam_runtime.")
        for target in {find_module(name) for name in list_imports(file)}
        if target.startswith("loam_runtime.")
        and get_part(target) != get_part(module)
        and get_part(target) not in ALLOWED[get_part(module)]
    ]
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize("package", PACKAGES)
def test_no_circle_of_imports(package):
    """A circle works or fails by which module happens to be loaded first."""
    graph = {
        module: {find_module(name) for name in list_imports(file)} - {module, ""}
        for module, file in MODULES.items()
        if module.partition(".")[0] == package
    }
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("folder", ["crds", "runtime", "operator"])
def test_source_folders_are_not_packages(folder):
    """An importable folder named `operator` would shadow the standard library's module."""
    assert not (ROOT / folder / "__init__.py").exists()


@pytest.mark.parametrize("module", ["loam_api.validation", "loam_api.planning.plan"])
def test_api_is_light(module):
    """`loam --help` and `loam validate` answer at once only if nothing heavy is loaded."""
    code = f"import sys, {module}; print(*(name for name in sys.modules if '.' not in name))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=True
    ).stdout.split()
    assert module.partition(".")[0] in loaded
    assert not HEAVY & set(loaded)
    if "planning" in module:
        assert "pydantic" not in loaded
