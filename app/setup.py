"""One step more than setuptools has: the messages of `proto/` become Python when the package is built.

A wheel gets them beside its modules, an editable install into the source tree, where git ignores them.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from setuptools import Command, setup
from setuptools.command.build import build

HERE = Path(__file__).parent
PROTOS = "proto"
INIT = '"""Messages of app/proto, generated when the package was built."""\n'


class Build(build):
    sub_commands: ClassVar = [("build_protos", None), *build.sub_commands]


class BuildProtos(Command):
    """`protoc` for every .proto, into a package of the same name."""

    editable_mode = False  # Set by setuptools.

    def initialize_options(self) -> None:
        self.build_lib: str | None = None

    def finalize_options(self) -> None:
        self.set_undefined_options("build_py", ("build_lib", "build_lib"))

    def sources(self) -> list[Path]:
        return sorted((HERE / PROTOS).rglob("*.proto"))

    def run(self) -> None:
        from grpc_tools import protoc

        into = HERE if self.editable_mode else Path(str(self.build_lib))
        into.mkdir(parents=True, exist_ok=True)
        for source in self.sources():
            argv = ["protoc", f"-I{HERE / PROTOS}", f"--python_out={into}", f"--pyi_out={into}", str(source)]
            if code := protoc.main(argv):
                raise SystemExit(code)
            (into / source.parent.relative_to(HERE / PROTOS) / "__init__.py").write_text(INIT)

    def get_source_files(self) -> list[str]:
        return [str(source.relative_to(HERE)) for source in self.sources()]

    def get_outputs(self) -> list[str]:
        return []

    def get_output_mapping(self) -> dict[str, str]:
        return {}


setup(cmdclass={"build": Build, "build_protos": BuildProtos})
