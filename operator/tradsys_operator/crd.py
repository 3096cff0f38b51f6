"""CustomResourceDefinitions and their field reference, made from the types of `api.py`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import inspect

from tradsys_operator import api

Schema = dict[str, Any]

VENUE_COLUMNS: list[dict[str, Any]] = [
    {"name": "Phase", "type": "string", "jsonPath": ".status.phase"},
    {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
    {"name": "Pinned", "type": "string", "jsonPath": '.status.conditions[?(@.type=="CPUPinned")].status'},
    {"name": "SLO", "type": "string", "jsonPath": '.status.conditions[?(@.type=="SLOMet")].status'},
    {"name": "Shards", "type": "integer", "jsonPath": ".status.shardsReady"},
    {"name": "Stable", "type": "string", "jsonPath": ".status.stable.revision", "priority": 1},
    {"name": "Candidate", "type": "string", "jsonPath": ".status.candidate.revision", "priority": 1},
    {
        "name": "Reason",
        "type": "string",
        "jsonPath": '.status.conditions[?(@.type=="Ready")].reason',
        "priority": 1,
    },
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
]
GATE_RUN_COLUMNS: list[dict[str, Any]] = [
    {"name": "Venue", "type": "string", "jsonPath": ".spec.venue"},
    {"name": "Candidate", "type": "string", "jsonPath": ".spec.candidateImage"},
    {"name": "Phase", "type": "string", "jsonPath": ".status.phase"},
    {"name": "Verdict", "type": "string", "jsonPath": ".status.verdict"},
    {"name": "Reason", "type": "string", "jsonPath": ".status.reason"},
    {"name": "Latency", "type": "integer", "jsonPath": ".status.latencyRatioPercent"},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
]
SCHEMA = 1
"""Goes up with each change of a schema: an older chart refuses to replace a newer one."""
SCHEMA_ANNOTATION = "tradsys.dev/schema"
NAME_BYTES_MAX = 40
NAME_RULE = api.Rule(
    f"self.metadata.name.size() <= {NAME_BYTES_MAX}",
    f"metadata.name must be {NAME_BYTES_MAX} characters or fewer: "
    "names of pods, Jobs and Services are made from it",
)
NAME_PATTERN = "[a-z]([-a-z0-9]*[a-z0-9])?"
LABEL_RULE = api.Rule(
    f"self.metadata.name.matches('^{NAME_PATTERN}$')",
    "metadata.name must begin with a letter and have only lower case letters, digits and hyphens: "
    "Services take no other",
)


def crds() -> list[Schema]:
    """Both CustomResourceDefinitions, as they are applied."""
    return [
        _crd("Venue", "venues", [], VENUE_COLUMNS, api.VenueSpec, api.VenueStatus, [NAME_RULE, LABEL_RULE]),
        _crd("GateRun", "gateruns", ["gr"], GATE_RUN_COLUMNS, api.GateRunSpec, api.GateRunStatus, []),
    ]


def _crd(
    kind: str,
    plural: str,
    short: list[str],
    columns: list[dict[str, Any]],
    spec: type[api.Api],
    status: type[api.Api],
    rules: list[api.Rule],
) -> Schema:
    schema: Schema = {
        "type": "object",
        "description": (spec.__doc__ or "").split("\n")[0],
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": schema_of(spec),
            "status": schema_of(status, defaults=False),
        },
    }
    if rules:
        schema["x-kubernetes-validations"] = [msgspec.to_builtins(rule) for rule in rules]
    names: Schema = {
        "kind": kind,
        "listKind": f"{kind}List",
        "plural": plural,
        "singular": kind.lower(),
        "categories": ["tradsys"],
    }
    if short:
        names["shortNames"] = short
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{api.GROUP}",
            # Deleting the CRDs would delete all venues; and an older chart must see that these are newer.
            "annotations": {"helm.sh/resource-policy": "keep", SCHEMA_ANNOTATION: str(SCHEMA)},
        },
        "spec": {
            "group": api.GROUP,
            "scope": "Namespaced",
            "names": names,
            "versions": [
                {
                    "name": api.VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": columns,
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


def schema_of(struct: type[api.Api], *, defaults: bool = True) -> Schema:
    """A structural OpenAPI v3 schema of a type, with its CEL rules; a status has no defaults, it says what
    is."""
    described = inspect.type_info(struct)
    assert isinstance(described, inspect.StructType)
    return _of_struct(described, defaults)


def _of_struct(described: inspect.StructType, defaults: bool) -> Schema:
    properties, required = {}, []
    for field in described.fields:
        schema = _of(field.type, defaults)
        if field.required:
            required.append(field.encode_name)
        elif defaults and (default := _default_of(field)) is not None:
            schema["default"] = default
        properties[field.encode_name] = schema
    made: Schema = {"type": "object", "properties": properties}
    if required:
        made["required"] = required
    assert issubclass(described.cls, api.Api)
    rules = described.cls.rules
    if rules:
        made["x-kubernetes-validations"] = [msgspec.to_builtins(rule) for rule in rules]
    return made


def _default_of(field: inspect.Field) -> Any:
    if isinstance(field.default, api.Api) and field.default.rules:
        # The API server evaluates the rules on the default itself, before it fills in what is inside.
        named = zip(field.default.__struct_fields__, field.default.__struct_encode_fields__, strict=True)
        return {encoded: msgspec.to_builtins(getattr(field.default, name)) for name, encoded in named}
    if field.default is not msgspec.NODEFAULT:
        return msgspec.to_builtins(field.default) if field.default is not None else None
    return msgspec.to_builtins(field.default_factory())


def _of(kind: inspect.Type, defaults: bool = True) -> Schema:
    match kind:
        case inspect.Metadata(type=inner, extra_json_schema=extra):
            return _of(inner, defaults) | (extra or {})
        case inspect.UnionType(types=types):
            (one,) = (each for each in types if not isinstance(each, inspect.NoneType))
            return _of(one, defaults)
        case inspect.StructType():
            return _of_struct(kind, defaults)
        case inspect.LiteralType(values=values):
            if isinstance(values[0], int):
                return {"type": "integer", "format": "int32", "enum": sorted(values)}
            return {"type": "string", "enum": list(_declared(kind))}
        case inspect.BoolType():
            return {"type": "boolean"}
        case inspect.IntType(ge=least, le=most):
            number: Schema = {"type": "integer", "format": "int64"}
            return number | _given(minimum=least, maximum=most)
        case inspect.StrType(min_length=least, max_length=most, pattern=pattern):
            assert most is not None, "every string has a maximum"
            return {"type": "string"} | _given(minLength=least, maxLength=most, pattern=pattern)
        case inspect.ListType(item_type=item, min_length=least, max_length=most):
            assert most is not None, "every list has a maximum"
            return {"type": "array", "items": _of(item, defaults)} | _given(minItems=least, maxItems=most)
        case inspect.DictType(value_type=value, max_length=most):
            assert most is not None, "every map has a maximum"
            return {"type": "object", "additionalProperties": _of(value, defaults), "maxProperties": most}
        case _:
            raise TypeError(f"{kind} has no schema")


def _declared(kind: inspect.LiteralType) -> tuple[Any, ...]:
    # msgspec sorts the words; people want them in the order of the file.
    for name, value in vars(api).items():
        if name in ("Phase", "Verdict", "Tristate") and set(value.__args__) == set(kind.values):
            return tuple(value.__args__)
    return tuple(kind.values)


def _given(**values: Any) -> Schema:
    return {key: value for key, value in values.items() if value is not None}


# --- the reference ----------------------------------------------------------------------------------


def reference() -> str:
    """The field reference of both kinds, as Markdown."""
    lines = [
        "# Field reference",
        "",
        "Made from `operator/tradsys_operator/api.py` by `make charts`; a test holds it.",
        "`kubectl explain venue.spec` says the same.",
    ]
    for title, spec, status in (
        ("Venue", api.VenueSpec, api.VenueStatus),
        ("GateRun", api.GateRunSpec, api.GateRunStatus),
    ):
        for part, struct in (("spec", spec), ("status", status)):
            lines += [
                "",
                f"## {title} {part}",
                "",
                "| field | type | default | meaning |",
                "|---|---|---|---|",
            ]
            described = inspect.type_info(struct)
            assert isinstance(described, inspect.StructType)
            lines += _rows(described, "")
            rules = list(_rules_of(described))
            if rules:
                lines += ["", f"Refused in a {title}'s {part}:", ""]
                lines += [f"- {message}" for message in rules]
    lines += ["", f"- {NAME_RULE.message}", f"- {LABEL_RULE.message}", ""]
    return "\n".join(lines)


def _rows(described: inspect.StructType, prefix: str) -> Iterator[str]:
    for field in described.fields:
        schema = _of(field.type)
        name = f"{prefix}{field.encode_name}"
        inner = _struct_in(field.type)
        default = "" if field.required else _default_of(field)
        shown = "required" if field.required else "" if default in (None, {}, []) else _brief(default)
        meaning = schema.get("description", "").replace("|", r"\|")
        yield f"| `{name}` | {_type_text(schema)} | {shown} | {meaning} |"
        if inner is not None:
            yield from _rows(inner, f"{name}{'[]' if schema['type'] == 'array' else ''}.")


def _brief(default: Any) -> str:
    if isinstance(default, list):
        return ", ".join(f"`{each['name']}`" for each in default)
    if isinstance(default, dict):
        return ""
    text = "true" if default is True else "false" if default is False else str(default)
    return f"`{text}`" if text else ""


def _type_text(schema: Schema) -> str:
    if "enum" in schema:
        return " \\| ".join(str(value) for value in schema["enum"])
    match schema["type"]:
        case "integer":
            low, high = schema.get("minimum"), schema.get("maximum")
            return "integer" if low is None else f"{low} … {high}" if high is not None else f"≥ {low}"
        case "array":
            return f"list of ≤ {schema['maxItems']}"
        case "object" if "additionalProperties" in schema:
            return f"map of ≤ {schema['maxProperties']}"
        case other:
            return str(other)


def _struct_in(kind: inspect.Type) -> inspect.StructType | None:
    match kind:
        case inspect.StructType():
            return kind
        case inspect.Metadata(type=inner):
            return _struct_in(inner)
        case inspect.ListType(item_type=item):
            return _struct_in(item)
        case inspect.UnionType(types=types):
            return next((found for each in types if (found := _struct_in(each)) is not None), None)
        case _:
            return None


def _rules_of(described: inspect.StructType) -> Iterator[str]:
    assert issubclass(described.cls, api.Api)
    for rule in described.cls.rules:
        yield rule.message
    for field in described.fields:
        inner = _struct_in(field.type)
        if inner is not None:
            yield from _rules_of(inner)
