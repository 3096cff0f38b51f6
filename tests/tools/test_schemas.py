"""Schemas for kubeconform, made from Kubernetes' own description and from CRDs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[2]
BUILT = ROOT / "build" / "tools"
CRD = """
kind: CustomResourceDefinition
spec:
  group: example.dev
  names: {kind: Widget}
  versions:
  - name: v1
    schema:
      openAPIV3Schema:
        type: object
        required: [spec]
        properties:
          spec:
            type: object
            properties:
              default: {type: string, description: A field of this name is no default.}
              port: {x-kubernetes-int-or-string: true}
              labels: {type: object, additionalProperties: {type: string}}
              anything:
                type: object
                x-kubernetes-preserve-unknown-fields: true
                properties: {a: {type: string}}
---
kind: ConfigMap
"""


@pytest.fixture(scope="module")
def widget(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("crd")
    (folder / "crd.yaml").write_text(CRD)
    schemas = [sys.executable, ROOT / "tools" / "schemas.py", "--into", folder / "made", folder / "crd.yaml"]

    done = subprocess.run(schemas, capture_output=True, text=True, check=True)

    assert done.stdout == f"1 schemas from {folder / 'crd.yaml'}\n"
    return json.loads((folder / "made" / "widget-example-v1.json").read_text())


def manifest(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "example.dev/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec}


@pytest.mark.parametrize(
    "spec",
    [
        {"default": "x"},
        {"port": 80},
        {"port": "http"},
        {"labels": {"a": "b"}},
        {"anything": {"a": "1", "b": 2}},
    ],
)
def test_what_the_crd_allows_is_valid(widget: Any, spec: dict[str, Any]):
    jsonschema.validate(manifest(**spec), widget)


@pytest.mark.parametrize("spec", [{"defualt": "x"}, {"default": 1}, {"port": []}, {"labels": {"a": 1}}])
def test_what_it_does_not_is_refused(widget: Any, spec: dict[str, Any]):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(manifest(**spec), widget)


DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec:
  selector: {matchLabels: {a: b}}
  template:
    metadata: {labels: {a: b}}
    spec:
      containers:
      - name: c
        image: d
        resources: {limits: {cpu: 1, memory: 1Gi}}
        livenessProbe: {httpGet: {port: http}}
"""


@pytest.mark.parametrize(
    ("change", "valid"),
    [
        (("", ""), True),
        (("containers", "cntainers"), False),
        (("image: d", "image: 1"), False),
        (("apps/v1", "apps/v2"), False),
    ],
)
def test_kubeconform_judges_by_them_without_a_network(change: tuple[str, str], valid: bool):
    manifest = DEPLOYMENT.replace(*change) if change[0] else DEPLOYMENT
    assert yaml.safe_load(manifest)
    location = BUILT / "kubernetes-schemas" / "{{.ResourceKind}}{{.KindSuffix}}.json"

    done = subprocess.run(
        [BUILT / "kubeconform", "-strict", "-schema-location", location, "-"],
        input=manifest, capture_output=True, text=True,
    )  # fmt: skip

    assert (done.returncode == 0) == valid, done.stdout
