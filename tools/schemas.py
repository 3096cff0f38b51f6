#!/usr/bin/env python3
"""JSON schemas for kubeconform, made on this machine: from Kubernetes' own API description and from CRDs.

kubeconform by itself asks the internet for its schemas. These are made from files that are here:

    tools/schemas.py --into DIR swagger.json        every kind of Kubernetes
    tools/schemas.py --into DIR crd.yaml …          the kinds of CustomResourceDefinitions

    kubeconform -strict -schema-location 'DIR/{{.ResourceKind}}{{.KindSuffix}}.json' manifest.yaml

They are stricter than the API server in one way, on purpose: a field that the schema doesn't name is an
error, where the server drops it with a warning.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Schema = dict[str, Any]

DEFINITIONS = "definitions.json"
"""One file that all kinds of Kubernetes refer to; with everything inlined they would be 300 MB."""

INT_OR_STRING: Schema = {"anyOf": [{"type": "integer"}, {"type": "string"}]}
WRITTEN_AS_SEVERAL_TYPES: dict[str, Schema] = {
    # The description calls these strings; manifests rightly write numbers, too.
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"anyOf": [{"type": "number"}, {"type": "string"}]},
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": INT_OR_STRING,
}
SAYS_NOTHING_ABOUT_VALIDITY = {"description", "default", "example"}


def closed(schema: Any, refer_to: str) -> Any:
    """The same schema without prose, which refuses fields that it doesn't name.

    References to definitions point into the file `refer_to` ("" for the same file).
    """
    if isinstance(schema, list):
        return [closed(part, refer_to) for part in schema]
    if not isinstance(schema, dict):
        return schema
    reference = schema.get("$ref")
    if isinstance(reference, str):
        return {"$ref": refer_to + reference}
    if schema.get("format") == "int-or-string" or schema.get("x-kubernetes-int-or-string"):
        return INT_OR_STRING
    result: Schema = {}
    for key, value in schema.items():
        if key == "properties":
            # Here the keys are fields: one may well be called "default".
            result[key] = {name: closed(field, refer_to) for name, field in value.items()}
        elif key not in SAYS_NOTHING_ABOUT_VALIDITY and not key.startswith("x-kubernetes-"):
            result[key] = closed(value, refer_to)
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if "properties" in result and not open_ended:
        result["additionalProperties"] = False
    return result


def file_name(kind: str, group: str, version: str) -> str:
    """As kubeconform asks for it by `{{.ResourceKind}}{{.KindSuffix}}`: the group with its first word."""
    return "-".join(word for word in (kind.lower(), group.split(".")[0], version) if word) + ".json"


def of_kubernetes(swagger: Schema) -> Iterator[tuple[str, Schema]]:
    """(name of the file, schema) of each kind in the API description, and of the definitions they share."""
    definitions = swagger["definitions"]

    def known(name: str, refer_to: str) -> Schema:
        several: Schema = WRITTEN_AS_SEVERAL_TYPES.get(name) or closed(definitions[name], refer_to)
        return several

    yield DEFINITIONS, {"definitions": {name: known(name, "") for name in definitions}}
    for name, definition in definitions.items():
        for gvk in definition.get("x-kubernetes-group-version-kind", []):
            group, version, kind = gvk["group"], gvk["version"], gvk["kind"]
            schema = known(name, DEFINITIONS)
            schema.setdefault("properties", {}).update(
                apiVersion={"enum": [f"{group}/{version}" if group else version]}, kind={"enum": [kind]}
            )
            yield file_name(kind, group, version), schema


def of_resource(crd: Schema) -> Iterator[tuple[str, Schema]]:
    """(name of the file, schema) of each version of a CustomResourceDefinition."""
    spec = crd["spec"]
    group, kind = spec["group"], spec["names"]["kind"]
    for version in spec["versions"]:
        schema = closed(version["schema"]["openAPIV3Schema"], "")
        schema.setdefault("properties", {}).update(
            apiVersion={"enum": [f"{group}/{version['name']}"]},
            kind={"enum": [kind]},
            metadata={"type": "object"},
        )
        yield file_name(kind, group, version["name"]), schema


def write(schemas: Iterator[tuple[str, Schema]], folder: Path) -> int:
    """Write each to its file; how many there were."""
    folder.mkdir(parents=True, exist_ok=True)
    written = 0
    for name, schema in schemas:
        (folder / name).write_text(json.dumps(schema))
        written += 1
    return written


def of_file(path: Path) -> Iterator[tuple[str, Schema]]:
    if path.suffix == ".json":
        yield from of_kubernetes(json.loads(path.read_text()))
        return
    # Only this branch needs a package, so that the tools can be built before there is a virtualenv.
    import yaml

    for document in yaml.safe_load_all(path.read_text()):
        if document and document.get("kind") == "CustomResourceDefinition":
            yield from of_resource(document)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--into", type=Path, required=True, metavar="DIR")
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    arguments = parser.parse_args()
    for path in arguments.files:
        print(f"{write(of_file(path), arguments.into)} schemas from {path}")


if __name__ == "__main__":
    main()
