"""The charts as people get them: rendered, refused where a value makes no sense, checked against Kubernetes'
schemas."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import jwt
import msgspec
import pytest
import yaml
from tradsys_operator.__main__ import rendered
from tradsys_operator.api import DEFAULT_OBJECTIVES, VenueSpec
from tradsys_operator.crd import crds

from tests.kube.cluster.places import MissingProgram, program
from tradsys.adapters.auth.keys import HmacKey

ROOT = Path(__file__).parents[3]
OPERATOR, VENUE = ROOT / "charts/tradsys-operator", ROOT / "charts/tradsys"
EXAMPLES = ["minimal", "hft", "ci"]
KUBERNETES = "1.35.4"
HERE = Path(__file__).parent


def tool(name: str) -> str:
    try:
        return program(name)
    except MissingProgram as missing:
        pytest.skip(str(missing))


def helm(*arguments: str, refused: bool = False) -> str:
    ended = subprocess.run([tool("helm"), *arguments], capture_output=True, text=True, timeout=60)
    assert (ended.returncode != 0) == refused, ended.stderr
    return ended.stderr if refused else ended.stdout


def template(chart: Path, *options: str, refused: bool = False) -> str:
    where = ("crypto", str(chart), "--namespace", "trading", "--kube-version", KUBERNETES)
    return helm("template", *where, *options, refused=refused)


def objects(text: str) -> list[dict]:
    return [each for each in yaml.safe_load_all(text) if each]


def example(name: str) -> str:
    return template(VENUE, "--values", str(ROOT / f"charts/examples/{name}.yaml"))


def test_what_is_written_from_the_types_is_current():
    sys.path.insert(0, str(ROOT / "charts"))
    try:
        import write
    finally:
        sys.path.pop(0)

    stale = [name for name, text in write.files().items() if (ROOT / name).read_text() != text]

    assert stale == [], "`make charts` writes them"


@pytest.mark.parametrize("chart", [OPERATOR, VENUE], ids=lambda chart: chart.name)
def test_helm_finds_nothing_wrong(chart):
    assert "0 chart(s) failed" in helm("lint", "--kube-version", KUBERNETES, str(chart))


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_one_venue_with_a_test(name):
    made = objects(example(name))

    (venue,) = [each for each in made if each["kind"] == "Venue"]
    spec = msgspec.convert(venue["spec"], VenueSpec)
    assert spec.shards and spec.image
    scripts = [each for each in made if each["metadata"]["name"] == "crypto-k6"]
    assert "gate.js" in scripts[0]["data"] and "slo.json" in scripts[0]["data"]
    hooks = [each for each in made if each["metadata"].get("annotations", {}).get("helm.sh/hook") == "test"]
    assert {each["kind"] for each in hooks} == {"Pod", "ConfigMap"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_helm_test_of_an_example_places_an_order_that_its_instrument_takes(name):
    made = objects(example(name))
    (venue,) = [each for each in made if each["kind"] == "Venue"]
    (pod,) = [each for each in made if each["kind"] == "Pod"]
    order = {each["name"]: each["value"] for each in pod["spec"]["containers"][0]["env"]}
    spec = msgspec.convert(venue["spec"], VenueSpec)
    (instrument,) = [each for each in spec.instruments if each.symbol == order["SYMBOL"]]
    price, quantity = Decimal(order["PRICE"]), Decimal(order["QUANTITY"])

    assert price % Decimal(instrument.tick_size) == 0 and quantity % Decimal(instrument.lot_size) == 0
    assert price * quantity >= Decimal(instrument.min_notional)


@pytest.mark.parametrize(
    ("options", "auth"),
    [
        ((), {"hs256": {"secretName": "tradsys-keys", "key": "hs256.key"}}),
        (
            ("--set", "venue.auth.jwks.secretName=keys,venue.auth.jwks.key=jwks"),
            {"jwks": {"secretName": "keys", "key": "jwks"}},
        ),
        (
            ("--set", "venue.auth.hs256.secretName=mine,venue.auth.hs256.key=key"),
            {"hs256": {"secretName": "mine", "key": "key"}},
        ),
    ],
)
def test_keys_that_are_given_take_the_place_of_the_default_and_are_not_added_to_it(options, auth):
    (venue,) = [each for each in objects(template(VENUE, *options)) if each["kind"] == "Venue"]

    assert venue["spec"]["auth"] == auth


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_and_what_the_operator_makes_of_it_fit_the_schemas_of_kubernetes(name, tmp_path):
    kubeconform, schemas = tool("kubeconform"), Path(tool("helm")).parent / "kubernetes-schemas"
    ours, gateway = tmp_path / "schemas", Path(tool("helm")).parent / "gateway-api"
    crd_files = [str(OPERATOR / "files/crds.yaml")]
    make = [sys.executable, str(ROOT / "tools/schemas.py"), "--into", str(ours), *crd_files]
    subprocess.run(make, check=True, capture_output=True, timeout=60)
    text = example(name) + "\n---\n" + template(OPERATOR)
    (tmp_path / "venue.yaml").write_text(text)
    made = tmp_path / "made.yaml"
    made.write_text(yaml.safe_dump_all(rendered(tmp_path / "venue.yaml")))
    skipped = "CustomResourceDefinition,HTTPRoute,GRPCRoute,PodMonitor,PrometheusRule"
    locations = [
        f"-schema-location={where}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json" for where in (schemas, ours)
    ]

    files = [str(tmp_path / "venue.yaml"), str(made)]

    ended = subprocess.run(
        [kubeconform, "-strict", "-summary", "-output=json", f"-skip={skipped}", *locations, *files],
        capture_output=True,
        text=True,
        timeout=60,
    )  # fmt: skip

    found = json.loads(ended.stdout)
    assert (found["summary"]["invalid"], found["summary"]["errors"]) == (0, 0), found["resources"]
    assert found["summary"]["valid"] > 15
    assert gateway.name == "gateway-api"


@pytest.mark.parametrize(
    ("chart", "value", "message"),
    [
        (OPERATOR, "replica=2", "additional properties 'replica' not allowed"),
        (OPERATOR, "replicas=9", "/replicas"),
        (OPERATOR, "image.pullPolicy=Sometimes", "/image/pullPolicy"),
        (OPERATOR, "crds.make=true", "additional properties 'make' not allowed"),
        (VENUE, "venue.shardz=1", "additional properties 'shardz' not allowed"),
        (VENUE, "venue.resources.engine.cpu=500m", "/venue/resources/engine/cpu"),
        (VENUE, "venue.rollout.onInconclusive=Promote", "/venue/rollout/onInconclusive"),
        (VENUE, f"name={'x' * 41}", "/name"),
        (VENUE, "name=crypto.eu", "/name"),
        (VENUE, "tests.enabled=false", "additional properties 'tests' not allowed"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(chart, value, message):
    assert message in template(chart, "--set", value, refused=True)


def test_the_crds_are_optional_and_survive_the_release():
    with_crds = [each for each in objects(template(OPERATOR)) if each["kind"] == "CustomResourceDefinition"]

    assert with_crds == crds()
    assert all(each["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep" for each in with_crds)
    without = objects(template(OPERATOR, "--set", "crds.create=false"))
    assert not [each for each in without if each["kind"] == "CustomResourceDefinition"]


def rules(text: str) -> dict[str, list]:
    return {
        f"{each['kind']}/{each['metadata']['name']}": each["rules"]
        for each in objects(text)
        if each["kind"] in ("ClusterRole", "Role")
    }


def test_the_rights_are_those_of_the_golden_file():
    """A right that is added is added here too, where somebody sees it."""
    assert rules(template(OPERATOR)) == yaml.safe_load((HERE / "rbac.yaml").read_text())


def test_with_namespaces_the_rights_end_there():
    text = template(OPERATOR, "--set", "watchNamespaces={trading,paper}")
    kinds = sorted(
        (each["kind"], each["metadata"].get("namespace")) for each in objects(text) if "Role" in each["kind"]
    )

    assert [each for each in kinds if each[0].startswith("Cluster")] == []
    assert ("Role", "paper") in kinds and ("RoleBinding", "trading") in kinds
    (deployment,) = [each for each in objects(text) if each["kind"] == "Deployment"]
    arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    assert arguments == ["run", "--namespace=trading", "--namespace=paper"]


def test_no_right_is_a_wildcard_and_no_secret_can_be_read():
    for found in rules(template(OPERATOR)).values():
        for rule in found:
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
            if "secrets" in rule["resources"]:
                assert rule["verbs"] == ["create"]
            assert not {"nodes", "nodes/proxy", "pods/exec"} & set(rule["resources"])


@pytest.mark.parametrize("chart", [OPERATOR, VENUE], ids=lambda chart: chart.name)
def test_the_charts_own_tests_pass(chart):
    ended = subprocess.run([tool("helm-unittest"), str(chart)], capture_output=True, text=True, timeout=60)

    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_default_objectives_are_those_of_the_load_tests():
    promised = json.loads((ROOT / "loadtests/slo.json").read_text())["profiles"]["target"]["objectives"]

    ours = [
        {
            "name": each.name,
            "indicator": each.indicator,
            "threshold_us": each.threshold_microseconds,
            "target": float(each.target),
        }
        for each in DEFAULT_OBJECTIVES
    ]

    assert [{**each, "threshold_us": each.get("threshold_us")} for each in promised] == ours


def test_the_package_takes_dashboards_and_scripts_by_their_links(tmp_path):
    helm("package", str(VENUE), "--destination", str(tmp_path))
    (package,) = tmp_path.iterdir()

    made = objects(template(package, "--set", "dashboards.enabled=true"))

    boards = [each for each in made if each["metadata"].get("labels", {}).get("grafana_dashboard") == "1"]
    there = {path.name for path in (ROOT / "dashboards").glob("*.json")}
    assert {name for each in boards for name in each["data"]} == there
    # A release is kept in one Secret.
    assert package.stat().st_size < 500_000


def test_the_operators_alerts_are_rules_with_runbooks(tmp_path):
    made = objects(template(OPERATOR, "--set", "monitoring.enabled=true"))
    (found,) = [each for each in made if each["kind"] == "PrometheusRule"]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(found["spec"]))

    ended = subprocess.run([tool("promtool"), "check", "rules", str(tmp_path / "rules.yaml")], timeout=60)

    assert ended.returncode == 0
    for rule in found["spec"]["groups"][0]["rules"]:
        runbook = ROOT / "dashboards/runbooks" / rule["annotations"]["runbook_url"].rsplit("/", 1)[-1]
        assert runbook.read_text().splitlines()[0] == f"# {rule['alert']}"


def test_the_rules_that_a_venue_gets_are_rules_with_runbooks(tmp_path):
    (tmp_path / "venue.yaml").write_text(example("hft"))
    (found,) = [each for each in rendered(tmp_path / "venue.yaml") if each["kind"] == "PrometheusRule"]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(found["spec"]))

    ended = subprocess.run([tool("promtool"), "check", "rules", str(tmp_path / "rules.yaml")], timeout=60)

    assert ended.returncode == 0
    alerts = [rule for group in found["spec"]["groups"] for rule in group["rules"] if "alert" in rule]
    assert {rule["labels"]["severity"] for rule in alerts} == {"critical", "warning"}
    for rule in alerts:
        runbook = ROOT / "dashboards/runbooks" / rule["annotations"]["runbook_url"].rsplit("/", 1)[-1]
        assert runbook.read_text().splitlines()[0] == f"# {rule['alert']}"


class Seen(BaseHTTPRequestHandler):
    """Refuses everything, and keeps the token."""

    tokens: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        self.tokens.append(self.headers["Authorization"].removeprefix("Bearer "))
        self.send_error(401)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("key", [b"a" * 32, b"a" * 32 + b"\n", b"a" * 32 + b"\r\n", b"\xff" * 32 + b"\n"])
def test_the_helm_test_signs_with_the_key_that_the_engine_verifies_with(tmp_path, key):
    """An editor and `openssl rand -hex` end a file with a line end that is no part of the key."""
    (tmp_path / "key").write_bytes(key)
    with ThreadingHTTPServer(("127.0.0.1", 0), Seen) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        order = {"ACCOUNT": "helm-test", "SYMBOL": "BTC-USD", "PRICE": "1", "QUANTITY": "1"}
        where = {"VENUE_URL": f"http://127.0.0.1:{server.server_address[1]}", "SECRETS": str(tmp_path)}
        argv = [sys.executable, str(VENUE / "files/order.py")]
        ended = subprocess.run(argv, env=order | where, capture_output=True, text=True, timeout=60)
        server.shutdown()

    assert "401" in ended.stderr
    secret = HmacKey.load(tmp_path / "key").secret
    assert jwt.decode(Seen.tokens.pop(), secret, ["HS256"], audience="tradsys")["acct"] == "helm-test"
