"""The modules of app/compiled.txt: what the compiler of an image has to find is there."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

APP = Path(__file__).parents[2] / "app"
FOUND = {*sys.stdlib_module_names, "tradsys", "msgspec", "mypy_extensions", "librt"}
"""An image's compiler has an environment of its own, with these and not with what the app needs to run."""


def test_compiled_modules_import_nothing_that_the_compiler_of_an_image_does_not_find():
    modules = (APP / "compiled.txt").read_text().split()
    imported = {module: _packages(APP / module) for module in modules}

    assert {module: packages - FOUND for module, packages in imported.items() if packages - FOUND} == {}


def _packages(module: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return {name.partition(".")[0] for name in names}
