"""The charts in a real cluster: what the operator may do, what pods may be, what an upgrade leaves alone."""

from __future__ import annotations

import json
import subprocess

import pytest
import yaml
from tradsys_operator import crd
from tradsys_operator.__main__ import rendered
from tradsys_operator.api import Gate
from tradsys_operator.render import gate
from tradsys_operator.revisions import Revision

from tests.kube.cluster.control_plane import KubectlFailed
from tests.kube.cluster.places import REPOSITORY
from tests.kube.control.process import ACCOUNT, CHART, SYSTEM, helm
from tests.kube.control.venues import a_namespace

VENUE_CHART = REPOSITORY / "charts/tradsys"
EXAMPLES = ("minimal", "hft", "ci")
KUBERNETES = "1.35.4"

FORBIDDEN = [
    # verb, group, resource, name: what a stolen token of the operator would be good for.
    ("get", "", "secrets", ""), ("list", "", "secrets", ""), ("watch", "", "secrets", ""),
    ("update", "", "secrets", ""), ("delete", "", "secrets", ""),
    ("get", "", "nodes", ""), ("list", "", "nodes", ""),
    ("get", "", "nodes/proxy", ""), ("create", "", "nodes/proxy", ""),
    ("create", "", "pods/exec", ""), ("create", "", "pods/attach", ""),
    ("create", "", "pods/portforward", ""),
    ("get", "", "pods/log", ""), ("create", "", "pods/eviction", ""), ("patch", "", "pods", ""),
    ("create", "", "serviceaccounts/token", ""), ("impersonate", "", "users", ""),
    ("delete", "", "persistentvolumeclaims", ""), ("patch", "", "persistentvolumeclaims", ""),
    ("delete", "", "persistentvolumes", ""), ("delete", "", "events", ""),
    ("delete", "", "namespaces", ""), ("list", "", "namespaces", ""),
    ("delete", "tradsys.dev", "venues", ""), ("patch", "tradsys.dev", "venues", ""),
    ("create", "tradsys.dev", "venues", ""), ("patch", "tradsys.dev", "gateruns", ""),
    ("delete", "apps", "controllerrevisions", ""),
    ("patch", "apiextensions.k8s.io", "customresourcedefinitions", ""),
    ("create", "rbac.authorization.k8s.io", "clusterrolebindings", ""),
    ("escalate", "rbac.authorization.k8s.io", "clusterroles", ""),
    ("update", "coordination.k8s.io", "leases", "somebody-elses"),
    ("delete", "coordination.k8s.io", "leases", "tradsys-operator"),
    ("create", "admissionregistration.k8s.io", "validatingwebhookconfigurations", ""),
]  # fmt: skip


def allowed(plane, namespace, asked):
    """Those of (verb, group, resource, name) that the operator's account may do, as the API server judges."""
    user = f"system:serviceaccount:{SYSTEM}:{ACCOUNT}"
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{SYSTEM}", "system:authenticated"]
    reviews = []
    for verb, group, resource, name in asked:
        resource, _, part = resource.partition("/")
        what = {"verb": verb, "group": group, "resource": resource, "subresource": part, "name": name}
        reviews.append(
            {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SubjectAccessReview",
                "spec": {
                    "user": user,
                    "groups": groups,
                    "resourceAttributes": what | {"namespace": namespace},
                },
            }
        )
    everything = json.dumps({"apiVersion": "v1", "kind": "List", "items": reviews})
    said = plane.kubectl("create", "-o", "jsonpath={.status.allowed} ", "-f", "-", stdin=everything).split()
    assert set(said) <= {"true", "false"}
    return [each for each, found in zip(asked, said, strict=True) if found == "true"]


def rules(plane, kind, name, *where):
    """(verb, group, resource, name) of everything that a role lists."""
    return [
        (verb, group, resource, (rule.get("resourceNames") or [""])[0])
        for rule in plane.get(*where, kind, name)["rules"]
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    ]


def test_what_the_operator_may_not_do_is_refused_by_the_api_server(plane, kubeconfig):
    assert allowed(plane, "default", FORBIDDEN) == []
    assert allowed(plane, SYSTEM, FORBIDDEN) == []
    with pytest.raises(KubectlFailed, match="forbidden"):
        plane.kubectl(f"--as=system:serviceaccount:{SYSTEM}:{ACCOUNT}", "get", "secrets", "-n", SYSTEM)


def test_what_the_chart_grants_is_granted(plane, kubeconfig):
    """So that a refusal above is about the right, not about how it was asked."""
    everywhere = rules(plane, "clusterrole", ACCOUNT)
    lease = rules(plane, "role", f"{ACCOUNT}-lease", "-n", SYSTEM)

    assert allowed(plane, "default", everywhere) == everywhere
    assert allowed(plane, SYSTEM, lease) == lease


# --- pods ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def restricted(plane):
    """A namespace that takes no pod that is not `restricted`."""
    name = a_namespace()
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    plane.apply(
        yaml.safe_dump(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        )
    )
    plane.daemons.wait_until(
        "the service account", lambda: plane.answers(f"/api/v1/namespaces/{name}/serviceaccounts/default")
    )
    yield name
    plane.kubectl("delete", "namespace", name, "--wait=false")


def template(chart, *options):
    where = ("template", "crypto", str(chart), "--namespace", "trading", "--kube-version", KUBERNETES)
    argv = [str(REPOSITORY / "build/tools/helm"), *where, *options]
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60).stdout


@pytest.fixture(scope="module")
def pods(tmp_path_factory):
    """Every pod that comes from a chart or that the operator makes from an example, by a name."""
    made, tmp_path = {}, tmp_path_factory.mktemp("examples")
    for name in EXAMPLES:
        text = template(VENUE_CHART, "--values", str(REPOSITORY / f"charts/examples/{name}.yaml"))
        (tmp_path / "venue.yaml").write_text(text)
        for each in rendered(tmp_path / "venue.yaml"):
            if each["kind"] in ("StatefulSet", "Deployment"):
                spec = each["spec"]["template"]["spec"]
                made[f"{name}-{each['metadata']['name']}"] = spec
                if each["kind"] == "StatefulSet":
                    shard = Revision("a", "image", {"annotations": {}, "spec": spec}, {})
                    made[f"{name}-gate"] = gate.gate_pod("crypto", "run", "r0", shard, Gate())["spec"]
                    claim = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
                    made[f"{name}-{each['metadata']['name']}"] = spec | {"volumes": [*spec["volumes"], claim]}
        for each in yaml.safe_load_all(text):
            if each and each["kind"] == "Pod":
                made[f"{name}-helm-test"] = each["spec"]
    job = gate.k6_job("crypto", "run", "k6", Gate(), "10.0.0.1", "image:1", "Never")
    made["k6"] = job["spec"]["template"]["spec"]
    for each in yaml.safe_load_all(template(CHART)):
        if each and each["kind"] == "Deployment":
            made["operator"] = each["spec"]["template"]["spec"] | {"serviceAccountName": "default"}
    return made


def admitted(plane, namespace, specs):
    """What the API server says about each pod."""
    items = [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace}, "spec": spec}
        for name, spec in specs.items()
    ]
    everything = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    return plane.kubectl("create", "--dry-run=server", "-f", "-", stdin=everything).splitlines()


def test_every_pod_is_taken_where_only_restricted_ones_are(plane, restricted, pods):
    assert {"operator", "k6", "ci-gate", "hft-helm-test", "minimal-crypto-a"} <= set(pods)
    assert "ci-crypto-gateway" in pods
    assert admitted(plane, restricted, pods) == [f"pod/{name} created (server dry run)" for name in pods]


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("allowPrivilegeEscalation", True, "allowPrivilegeEscalation != false"),
        ("capabilities", {"add": ["SYS_NICE"]}, "unrestricted capabilities"),
        ("runAsUser", 0, "runAsUser=0"),
    ],
)
def test_one_that_asks_for_more_is_refused(plane, restricted, pods, field, value, said):
    spec = json.loads(json.dumps(pods["minimal-crypto-a"]))
    spec["containers"][0]["securityContext"][field] = value

    with pytest.raises(KubectlFailed) as refused:
        admitted(plane, restricted, {"planted": spec})

    assert 'violates PodSecurity "restricted' in str(refused.value) and said in str(refused.value)


# --- upgrades -----------------------------------------------------------------------------------------


def package(chart, version, directory):
    """The chart as it is, with another version."""
    argv = [str(REPOSITORY / "build/tools/helm"), "package", str(chart), "--destination", str(directory)]
    subprocess.run([*argv, "--version", version, "--app-version", version], check=True, capture_output=True)
    return str(next(directory.glob(f"{chart.name}-{version}.tgz")))


def uids(plane, namespace, release):
    """Everything of a release, and the CRDs, by kind and name."""
    found = {}
    for kind in ("deployment", "serviceaccount", "role", "rolebinding", "configmap", "venue"):
        for each in plane.get("-n", namespace, kind, "-l", f"app.kubernetes.io/instance={release}")["items"]:
            found[kind, each["metadata"]["name"]] = each["metadata"]["uid"]
    for kind in ("clusterrole", "clusterrolebinding"):
        for each in plane.get(kind, "-l", f"app.kubernetes.io/instance={release}")["items"]:
            found[kind, each["metadata"]["name"]] = each["metadata"]["uid"]
    for each in crd.crds():
        name = each["metadata"]["name"]
        found["crd", name] = plane.get("crd", name)["metadata"]["uid"]
    return found


@pytest.fixture
def installed(plane, tmp_path):
    """The chart of the operator in its last version, with the CRDs, and the chart of a venue; (namespace,
    release of the operator)."""
    namespace, release = a_namespace(), "before"
    where = ("-n", namespace, "--create-namespace")
    old = package(CHART, "0.0.9", tmp_path)
    helm(plane, "install", release, old, *where, "--take-ownership")
    helm(plane, "install", "crypto", package(VENUE_CHART, "0.0.9", tmp_path), *where)
    yield namespace, release
    plane.kubectl("delete", "namespace", namespace, "--wait=false")
    plane.kubectl("delete", "clusterrole,clusterrolebinding", "-l", f"app.kubernetes.io/instance={release}")


def test_an_upgrade_keeps_every_object(plane, installed):
    namespace, release = installed
    before, venue = uids(plane, namespace, release), uids(plane, namespace, "crypto")
    assert {"deployment", "clusterrole", "serviceaccount", "crd"} <= {kind for kind, _ in before}
    assert ("venue", "crypto") in venue

    helm(plane, "upgrade", release, str(CHART), "-n", namespace)
    helm(plane, "upgrade", "crypto", str(VENUE_CHART), "-n", namespace)

    assert uids(plane, namespace, release) == before
    assert uids(plane, namespace, "crypto") == venue
    deployment = plane.get("-n", namespace, "deployment", f"{release}-tradsys-operator")
    assert deployment["metadata"]["labels"]["helm.sh/chart"] == "tradsys-operator-0.1.0"


def test_a_second_installation_leaves_the_crds_to_the_first(plane, installed):
    namespace, _ = installed
    second = ("second", str(CHART), "-n", namespace)

    with pytest.raises(subprocess.CalledProcessError) as refused:
        helm(plane, "install", *second)
    assert "invalid ownership metadata" in refused.value.stderr

    helm(plane, "install", *second, "--set", "crds.create=false")
    helm(plane, "uninstall", "second", "-n", namespace)


def test_an_older_chart_does_not_replace_newer_crds(plane, installed):
    namespace, release = installed
    name, schema = "venues.tradsys.dev", crd.SCHEMA_ANNOTATION
    plane.kubectl("annotate", "--overwrite", "crd", name, f"{schema}=99")
    try:
        with pytest.raises(subprocess.CalledProcessError) as refused:
            helm(plane, "upgrade", release, str(CHART), "-n", namespace)
        assert "newer (schema 99)" in refused.value.stderr
        assert "set crds.create=false" in refused.value.stderr
        assert plane.get("crd", name)["metadata"]["annotations"][schema] == "99"
        helm(plane, "upgrade", release, str(CHART), "-n", namespace, "--set", "crds.create=false")
        # Not part of the release any more, and kept all the same.
        assert plane.get("crd", name)["metadata"]["annotations"][schema] == "99"
    finally:
        plane.kubectl("annotate", "--overwrite", "crd", name, f"{schema}={crd.SCHEMA}")


def test_without_its_operator_a_venue_is_still_there(plane, installed):
    namespace, release = installed
    venue = uids(plane, namespace, "crypto")

    helm(plane, "uninstall", release, "-n", namespace)

    assert uids(plane, namespace, "crypto") == venue
