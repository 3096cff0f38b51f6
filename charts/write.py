"""Writes what the charts take from elsewhere: CRDs and schemas from the operator's types, tables from
values.yaml.

`make charts` runs it, and a test holds what it writes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tradsys_operator import crd
from tradsys_operator.__main__ import yaml_of
from tradsys_operator.api import VenueSpec

ROOT = Path(__file__).parents[1]
OPERATOR, VENUE = "charts/tradsys-operator", "charts/tradsys"


def files() -> dict[str, str]:
    """Every written file by its path, with its text."""
    return {
        f"{OPERATOR}/files/crds.yaml": yaml_of(crd.crds()),
        f"{OPERATOR}/README.md": readme(OPERATOR, OPERATOR_TEXT),
        f"{VENUE}/values.schema.json": json.dumps(venue_schema(), indent=1, ensure_ascii=False) + "\n",
        f"{VENUE}/README.md": readme(VENUE, VENUE_TEXT),
        "operator/REFERENCE.md": crd.reference(),
    }


OPERATOR_TEXT = """\
# tradsys-operator

The operator of tradsys venues: CustomResourceDefinitions, the process, and what it may do.

    helm install tradsys-operator charts/tradsys-operator -n tradsys-system --create-namespace

Then a venue, with the chart [tradsys](../tradsys/README.md). What the operator does is in
[operator/README.md](../../operator/README.md).

- The CRDs stay when the release goes (`helm.sh/resource-policy: keep`): with them all venues would go.
- A second installation in one cluster sets `crds.create=false`.
- An older chart refuses to replace the CRDs of a newer one.
- An upgrade restarts no venue: pods are made from templates that are stored with each revision.
"""
VENUE_TEXT = """\
# tradsys

A Venue, the scripts of its gate, dashboards, and a test. Needs the operator
([tradsys-operator](../tradsys-operator/README.md)).

    kubectl create namespace trading
    openssl rand -hex 32 >hs256.key
    kubectl -n trading create secret generic tradsys-keys --from-file=hs256.key
    helm install crypto charts/tradsys -n trading
    kubectl -n trading wait venue/crypto --for=condition=Ready --timeout=5m
    helm test crypto -n trading

`helm --wait` does not wait for a Venue; `kubectl wait` does. Examples: [minimal](../examples/minimal.yaml),
[hft](../examples/hft.yaml) with exclusive CPUs, [ci](../examples/ci.yaml) with short gates. Uninstalling
keeps the journals: their volumes are deleted by hand.

Through a Gateway each shard is reached at `/s/SHARD/api/v1/…`, its streams at `/s/SHARD/ws`, its read model
at `/q/SHARD/…`; what names no shard goes to the first one. A plain Ingress rewrites no path, and streams know
one path only: there `/ws` is the first shard's, and those of the others, like gRPC, need a Gateway or an
address of their own.

Everything below `venue` is the Venue's spec, see [the reference](../../operator/REFERENCE.md).
"""


def readme(chart: str, text: str) -> str:
    lines = [text, "## Values", "", "| value | default | meaning |", "|---|---|---|"]
    lines += [f"| `{key}` | {default} | {meaning} |" for key, default, meaning in values(ROOT / chart)]
    return "\n".join(lines) + "\n"


def values(chart: Path) -> Iterator[tuple[str, str, str]]:
    """(key, default, meaning) of values.yaml, in its order; the meaning is the comment above the key."""
    path: list[str] = []
    comment = ""
    for line in (chart / "values.yaml").read_text().splitlines():
        said = re.fullmatch(r"\s*# (.*)", line)
        if said:
            comment = f"{comment} {said[1]}".strip()
            continue
        found = re.fullmatch(r"( *)(\w+):(?: (.*))?", line)
        if not found:
            continue
        path = [*path[: len(found[1]) // 2], found[2]]
        if not comment:
            continue
        default = (found[3] or "").strip()
        shown = f"`{default}`" if default and default != '""' else ""
        yield ".".join(path), shown, comment
        comment = ""


def venue_schema() -> dict[str, Any]:
    """values.schema.json of the chart tradsys: the Venue's own schema, closed, around what only the chart
    has."""
    words = {"type": "object", "additionalProperties": {"type": "string"}}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "additionalProperties": False,
        "required": ["venue"],
        "properties": {
            "global": {"type": "object"},
            "name": {
                "type": "string",
                "maxLength": crd.NAME_BYTES_MAX,
                "pattern": f"^({crd.NAME_PATTERN})?$",
            },
            "venue": _closed(crd.schema_of(VenueSpec)),
            "dashboards": _object(enabled={"type": "boolean"}, labels=words),
            "k6": _object(enabled={"type": "boolean"}),
            "test": _object(
                enabled={"type": "boolean"},
                account={"type": "string", "minLength": 1},
                price={"type": "string", "minLength": 1},
                quantity={"type": "string", "minLength": 1},
                demo={"type": "boolean"},
                tokenSecretName={"type": "string"},
            ),
        },
    }


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _closed(schema: Any) -> Any:
    """A CRD's schema as JSON Schema: unknown fields refused, without what only the API server understands."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {
        key: {name: _closed(each) for name, each in value.items()} if key == "properties" else _closed(value)
        for key, value in schema.items()
        if key not in ("default", "format") and not key.startswith("x-kubernetes-")
    }
    if "properties" in kept:
        kept["additionalProperties"] = False
    return kept


if __name__ == "__main__":
    for name, text in files().items():
        path = ROOT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(name)
