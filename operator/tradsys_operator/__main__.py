"""`tradsys-operator run`, and what the build asks for: `crds`, `reference`, `render`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from pathlib import Path

import msgspec
import yaml

from tradsys_operator import crd
from tradsys_operator.api import VenueSpec
from tradsys_operator.process import Options, run
from tradsys_operator.render.venue import desired, revision_of


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="tradsys-operator", description="Runs tradsys venues on Kubernetes."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("run", help="watch, tune, verify, gate")
    serve.add_argument(
        "--namespace", action="append", default=[], help="watch only this one; may be given often"
    )
    serve.add_argument("--operator-namespace", default=os.environ.get("POD_NAMESPACE", "tradsys-system"))
    serve.add_argument("--identity", default=os.environ.get("POD_NAME", ""), help="in the Lease")
    serve.add_argument("--host", default="0.0.0.0")
    serve.add_argument("--port", type=int, default=8080, help="/healthz and /metrics")
    commands.add_parser("crds", help="print the CustomResourceDefinitions")
    commands.add_parser("reference", help="print the field reference")
    render = commands.add_parser("render", help="print what a Venue becomes, without a cluster")
    render.add_argument("file", type=Path)
    chosen = parser.parse_args(argv)
    match chosen.command:
        case "crds":
            sys.stdout.write(yaml_of(crd.crds()))
        case "reference":
            sys.stdout.write(crd.reference())
        case "render":
            sys.stdout.write(yaml_of(rendered(chosen.file)))
        case _:
            logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
            for chatty in ("httpx2", "kopf"):
                logging.getLogger(chatty).setLevel(logging.WARNING)
            return asyncio.run(
                run(
                    Options(
                        tuple(chosen.namespace),
                        chosen.operator_namespace,
                        chosen.host,
                        chosen.port,
                        chosen.identity,
                    )
                )
            )
    return 0


def yaml_of(manifests: list[crd.Schema]) -> str:
    return str(yaml.safe_dump_all(manifests, sort_keys=False, width=110, allow_unicode=True))


def rendered(path: Path) -> list[crd.Schema]:
    """All objects of the Venues in a file, at their first revision. Raises OSError,
    msgspec.ValidationError."""
    made = []
    for venue in yaml.safe_load_all(path.read_text()):
        if not venue or venue.get("kind") != "Venue":
            continue
        name, namespace = venue["metadata"]["name"], venue["metadata"].get("namespace", "default")
        spec = msgspec.convert(venue["spec"], VenueSpec)
        revision = revision_of(name, spec)
        running = {shard.name: revision for shard in spec.shards}
        made += desired(name, namespace, spec, running, revision, "tradsys-system")
    return made


if __name__ == "__main__":
    sys.exit(main())
