"""What a Venue becomes: properties that hold for every object, and the details that something depends on."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
import yaml
from tradsys_operator import names
from tradsys_operator.api import SHARDS_MAX, Gateway, Ingress, Monitoring, ParentRef, VenueSpec
from tradsys_operator.render import gate
from tradsys_operator.render.venue import desired, revision_of
from tradsys_operator.revisions import PARTS, Revision, read, revision_hash, stored

from tests.kube.operator.world import served, spec

ROOT = Path(__file__).parents[3]
SETTINGS = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "app/SETTINGS.md").read_text(), re.M))


def objects(venue: VenueSpec | None = None) -> dict[tuple[str, str], dict]:
    venue = venue or spec(monitoring={"enabled": True})
    revision = revision_of("crypto", venue)
    made = desired(
        "crypto", "trading", venue, {s.name: revision for s in venue.shards}, revision, "tradsys-system"
    )
    return {(each["kind"], each["metadata"]["name"]): each for each in made}


def pod_specs(venue: VenueSpec | None = None) -> dict[str, dict]:
    made = {
        name: each["spec"]["template"]["spec"]
        for (kind, name), each in objects(venue).items()
        if kind in ("StatefulSet", "Deployment")
    }
    venue = venue or spec()
    revision = revision_of("crypto", venue)
    made["gate"] = gate.gate_pod("crypto", "run", "run-r0", revision, venue.rollout.gate)["spec"]
    job = gate.k6_job("crypto", "run", "run-k6-0", venue.rollout.gate, "10.0.0.1", "image:1", "Never")
    made["k6"] = job["spec"]["template"]["spec"]
    return made


def containers(pod):
    return [*pod.get("initContainers", []), *pod["containers"]]


@pytest.mark.parametrize("name", ["crypto-a", "crypto-gateway", "gate"])
def test_every_pod_that_is_measured_is_guaranteed(name):
    for container in pod_specs()[name]["containers"]:
        assert container["resources"]["requests"] == container["resources"]["limits"]


def test_what_makes_load_is_not_stopped_by_a_quota_that_it_would_measure():
    for container in containers(pod_specs()["k6"]):
        assert container["resources"]["limits"]["cpu"] == "1"


def test_only_the_engine_decides_whether_a_shard_takes_orders():
    engine, *companions = pod_specs()["crypto-a"]["containers"]

    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= engine.keys()
    assert [each["name"] for each in companions] == ["history", "feed", "query"]
    for companion in companions:
        assert [key for key in companion if key.endswith("Probe")] == ["livenessProbe"]


def test_a_pod_that_leaves_ends_at_once_and_history_after_the_engine_whose_last_frame_it_reads():
    """A shard has one pod: nobody has another way to go while it waits."""
    waits = {each["name"]: each.get("lifecycle") for each in pod_specs()["crypto-a"]["containers"]}

    assert waits == {
        "engine": None, "feed": None, "query": None, "history": {"preStop": {"sleep": {"seconds": 1}}},
    }  # fmt: skip


@pytest.mark.parametrize("name", ["crypto-a", "crypto-gateway", "gate", "k6"])
def test_every_pod_is_restricted(name):
    pod = pod_specs()[name]

    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in containers(pod):
        security = container["securityContext"]
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security["allowPrivilegeEscalation"] is False and security["readOnlyRootFilesystem"] is True


def test_a_gate_pod_that_needs_no_cpu_of_its_own_fits_where_none_is_spare():
    pod = pod_specs(spec(rollout={"gate": {"pinning": "None"}}))["gate"]

    asked = {each["name"]: each["resources"]["requests"]["cpu"] for each in pod["containers"]}
    allowed = {each["name"]: each["resources"]["limits"]["cpu"] for each in pod["containers"]}
    told = {each["name"]: each.get("value") for each in pod["containers"][0]["env"]}
    assert asked == {"engine": "25m", "history": "25m"}
    assert allowed["engine"] == "1"
    assert told["TRADSYS_CPU_EXCLUSIVE"] == "0"


@pytest.mark.parametrize("name", ["crypto-a", "crypto-gateway", "gate"])
def test_every_variable_is_a_setting_of_the_app(name):
    for container in pod_specs()[name]["containers"]:
        given = {each["name"] for each in container["env"]} - {"MALLOC_ARENA_MAX", "TRADSYS_CONFIG"}
        assert {each.removeprefix("TRADSYS_").lower() for each in given} <= SETTINGS


def test_only_the_engine_is_told_that_its_cpus_are_its_own_and_only_where_that_was_asked():
    def told(venue):
        return {
            each["name"]: next(e["value"] for e in each["env"] if e["name"] == "TRADSYS_CPU_EXCLUSIVE")
            for each in pod_specs(venue)["crypto-a"]["containers"]
        }

    assert told(spec()) == {"engine": "1", "feed": "0", "history": "0", "query": "0"}
    assert told(spec(pinning={"mode": "None"}))["engine"] == "0"


def test_the_engine_asks_for_whole_cpus():
    engine = pod_specs(spec(resources={"engine": {"cpu": 2}}))["crypto-a"]["containers"][0]

    assert engine["resources"]["limits"]["cpu"] == "2"


def test_a_shard_is_one_pod_that_a_drain_may_take_and_whose_volume_stays():
    made = objects()
    stateful, budget = (
        made["StatefulSet", "crypto-a"]["spec"],
        made["PodDisruptionBudget", "crypto-a"]["spec"],
    )

    assert stateful["replicas"] == 1
    assert stateful["podManagementPolicy"] == "Parallel"
    assert stateful["persistentVolumeClaimRetentionPolicy"] == {
        "whenDeleted": "Retain",
        "whenScaled": "Retain",
    }
    assert (budget["maxUnavailable"], budget["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")


def test_all_shards_have_one_template():
    made = objects()

    first, second = (made["StatefulSet", f"crypto-{shard}"]["spec"]["template"]["spec"] for shard in "ab")
    assert first == second


def test_fees_and_bands_become_parts_per_million():
    data = objects()["ConfigMap", "crypto-config"]["data"]

    assert yaml.safe_load(data["a.yaml"])["seed"]["symbols"][0] == {
        "symbol": "BTC-USD", "tick_size": "0.01", "lot_size": "0.00001",
        "maker_fee_ppm": 100, "taker_fee_ppm": 250,
    }  # fmt: skip
    assert yaml.safe_load(data["b.yaml"])["seed"]["symbols"][0]["band_ppm"] == 50_000


def test_gate_pods_never_touch_the_live_volume_keys_or_services():
    made = objects()
    pod = gate.gate_pod("crypto", "run", "run-r0", revision_of("crypto", spec()), spec().rollout.gate)

    volumes = {each["name"]: each for each in pod["spec"]["volumes"]}
    assert volumes["data"] == {"name": "data", "emptyDir": {}}
    assert volumes["keys"]["secret"]["secretName"] == "run"
    for (kind, _), each in made.items():
        if kind == "Service":
            assert not each["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
        if kind == "PodMonitor":
            assert each["spec"]["selector"]["matchExpressions"] == [
                {"key": names.ROLE, "operator": "DoesNotExist"}
            ]
            assert names.ROLE in pod["metadata"]["labels"]


@pytest.mark.parametrize(
    "change",
    [
        {"image": "registry.example/tradsys:2"},
        {"durability": "durable"},
        {"resources": {"engine": {"cpu": 2}}},
        {"runtime": {"gc": {"percent": 400}}},
        {"pinning": {"mode": "Required"}},
        {"tracing": {"endpoint": "http://collector:4318/v1/traces"}},
        {"auth": {"hs256": {"secretName": "x", "key": "y"}}},
    ],
)
def test_what_only_a_new_pod_can_change_is_a_new_revision(change):
    assert revision_hash(spec(**change)) != revision_hash(spec())


@pytest.mark.parametrize(
    "change",
    [
        {"gateway": {"replicas": 5}},
        {"paused": True},
        {"slo": {"windowDays": 7}},
        {"rollout": {"bakeSeconds": 1}},
        {"ingress": {"provider": "Ingress", "host": "a.example"}},
        {"runtime": {}},
        {"runtime": {"profile": "hft"}},
        {"tracing": {"endpoint": "", "oneIn": 100}},
        {"pinning": {"mode": "Preferred", "spin": "auto"}},
    ],
)
def test_everything_else_and_every_default_is_not(change):
    assert revision_hash(spec(**change)) == revision_hash(spec())


def test_the_hash_of_a_spec_never_changes_between_versions():
    """If this fails, an upgrade of the operator would restart every venue. Defaults of v1alpha1 do not
    change."""
    assert revision_hash(spec()) == "627d26be"
    assert PARTS == (
        "image", "imagePullPolicy", "resources", "durability", "auth", "runtime", "tracing", "pinning",
    )  # fmt: skip


def test_a_stored_revision_reads_back():
    revision = revision_of("crypto", spec())
    there = msgspec.json.decode(msgspec.json.encode(stored("crypto", 3, revision)))

    assert read(there) == revision


def test_the_labels_of_a_pod_never_change_between_versions():
    """They are no part of the stored template: another one would restart all venues at an upgrade."""
    made = objects()
    own = {
        "app.kubernetes.io/name": "tradsys",
        "app.kubernetes.io/instance": "crypto",
        "app.kubernetes.io/managed-by": "tradsys-operator",
        "tradsys.dev/venue": "crypto",
        "tradsys.dev/revision": revision_of("crypto", spec()).hash,
    }

    shard, gateway = (made[key]["spec"]["template"]["metadata"]["labels"] for key in (
        ("StatefulSet", "crypto-a"), ("Deployment", "crypto-gateway"),
    ))  # fmt: skip
    assert shard == own | {"app.kubernetes.io/component": "shard", "tradsys.dev/shard": "a"}
    assert gateway == own | {"app.kubernetes.io/component": "gateway"}


def test_a_stored_template_is_used_as_it_is():
    world = served()
    old = world.revisions[revision_hash(world.spec)]
    kept = Revision(
        old.hash, old.image, old.shard | {"annotations": {"of": "an older operator"}}, old.gateway
    )
    world.revisions[old.hash] = kept

    world.settle()

    template = world.objects["StatefulSet", "crypto-a"]["spec"]["template"]
    assert template["metadata"]["annotations"] == {"of": "an older operator"}


def paths(manifest):
    return [
        (rule["matches"][0]["path"]["value"], rule["backendRefs"][0]["name"], rule["backendRefs"][0]["port"])
        for rule in manifest["spec"]["rules"]
    ]


def test_a_gateway_routes_each_shard_by_its_path():
    venue = spec(
        ingress=msgspec.to_builtins(
            Ingress(provider="Gateway", host="x.example", parent_refs=[ParentRef(name="p")])
        )
    )

    assert paths(objects(venue)["HTTPRoute", "crypto"]) == [
        ("/s/a/ws", "crypto-a", 8001),
        ("/q/a", "crypto-a", 8002),
        ("/s/b/ws", "crypto-b", 8001),
        ("/q/b", "crypto-b", 8002),
        ("/s/a", "crypto-a", 8000),
        ("/s/b", "crypto-b", 8000),
        ("/api/v1", "crypto-a", 8000),
        ("/ws", "crypto-a", 8001),
        ("/", "crypto-a", 8002),
    ]


def test_the_routes_of_as_many_shards_as_there_may_be_are_within_what_a_gateway_takes():
    """16 rules a route; an object that the API server refuses stops every pass over the venue."""
    names_ = [f"s{number}" for number in range(SHARDS_MAX)]
    many = spec(
        shards=[{"name": name, "symbols": [f"{name.upper()}X-USD"]} for name in names_],
        instruments=[
            {"symbol": f"{name.upper()}X-USD", "tickSize": "0.01", "lotSize": "0.01"} for name in names_
        ],
        ingress={"provider": "Gateway", "host": "trade.example.com", "parentRefs": [{"name": "public"}]},
    )

    routes = [each for (kind, _), each in objects(many).items() if kind == "HTTPRoute"]

    assert all(len(route["spec"]["rules"]) <= 16 for route in routes)
    found = [rule["matches"][0]["path"]["value"] for route in routes for rule in route["spec"]["rules"]]
    assert len(found) == len(set(found)) == 3 * SHARDS_MAX + 3
    assert all(route["spec"]["hostnames"] == ["trade.example.com"] for route in routes)
    assert routes[0]["metadata"]["name"] == "crypto"


def test_every_prefix_of_an_ingress_ends_in_a_slash_and_each_shard_has_its_read_model():
    venue = spec(ingress={"provider": "Ingress", "host": "x.example"})
    made = objects(venue)
    entries = made["Ingress", "crypto"]["spec"]["rules"][0]["http"]["paths"]

    assert all(each["path"].endswith("/") for each in entries if each["pathType"] == "Prefix")
    services = [(each["path"], each["backend"]["service"]) for each in entries]
    assert [(path, each["name"], each["port"]["number"]) for path, each in services] == [
        ("/q/a/", "crypto-a", 8002),
        ("/q/b/", "crypto-b", 8002),
        ("/s/a/", "crypto-a", 8000),
        ("/s/b/", "crypto-b", 8000),
        ("/api/v1/", "crypto-a", 8000),
        ("/ws", "crypto-a", 8001),
        ("/", "crypto-a", 8002),
    ]
    settings = yaml.safe_load(made["ConfigMap", "crypto-config"]["data"]["b.yaml"])
    assert settings["public_query_url"] == "https://x.example/q/b"


def test_without_a_gateway_there_is_none_and_no_route_to_it():
    venue = spec(
        gateway=msgspec.to_builtins(Gateway(replicas=0)),
        monitoring=msgspec.to_builtins(Monitoring(enabled=True)),
    )

    assert not [key for key in objects(venue) if "gateway" in key[1] and key[0] != "NetworkPolicy"]


def test_names_of_a_venue_with_the_longest_name_fit():
    venue = spec(shards=[{"name": "12345678", "symbols": ["BTC-USD"]}])
    name = "x" * 40
    revision = revision_of(name, venue)
    made = desired(name, "n", venue, {"12345678": revision}, revision, "o")
    run = names.gate_run(name, f"{revision.hash[:4]}{1_800_000_000:x}", 12)

    assert max(len(each["metadata"]["name"]) for each in made) <= 63
    # The StatefulSet's pods carry its name and a hash of ten characters in a label.
    assert len(names.shard(name, "12345678")) + 11 <= 63
    assert max(len(names.gate_job(run, 19)), len(names.gate_pod(run, 19))) <= 63


ALLOWED = {
    # from, to, port: who may talk to whom.
    ("outside", "shard", 8000), ("outside", "shard", 8001), ("outside", "shard", 8002),
    ("operator", "shard", 9100), ("operator", "shard", 9102),
    ("gateway", "shard", 8090), ("gateway", "shard", 8091),
    ("outside", "gateway", 50051), ("operator", "gateway", 9103),
    ("k6", "gate", 8000), ("operator", "gate", 9100),
}  # fmt: skip
REFUSED = {
    ("outside", "shard", 8081), ("outside", "shard", 8090), ("outside", "shard", 9100), ("k6", "shard", 8090),
    ("outside", "shard", 8091), ("k6", "shard", 8091),
    ("outside", "gate", 8000), ("outside", "gate", 9100), ("gateway", "gate", 8000), ("gate", "shard", 8090),
    ("outside", "k6", 8000), ("k6", "shard", 9100), ("outside", "gateway", 9103),
}  # fmt: skip


def may(policies, source, target, port):
    """Whether the policies let `source` reach `target`; `outside` is a pod of another namespace."""
    (policy,) = [
        each for each in policies if each["spec"]["podSelector"]["matchLabels"][names.PART] == target
    ]
    for rule in policy["spec"]["ingress"]:
        if port not in {each["port"] for each in rule.get("ports", [])}:
            continue
        if "from" not in rule:
            return True
        for peer in rule["from"]:
            part = peer.get("podSelector", {}).get("matchLabels", {})
            if part.get(names.PART) == source and "namespaceSelector" not in peer:
                return True
            if source == "operator" and part.get("app.kubernetes.io/name") == "tradsys-operator":
                return True
    return False


def test_the_flow_table_of_the_network_policies():
    policies = [each for (kind, _), each in objects(spec()).items() if kind == "NetworkPolicy"]

    assert {flow for flow in ALLOWED | REFUSED if may(policies, *flow)} == ALLOWED
    assert all(each["spec"]["policyTypes"] == ["Ingress", "Egress"] for each in policies)


def leaving(venue, part):
    """Ports of the rules that let pods of this part go anywhere."""
    (policy,) = [
        each
        for (kind, name), each in objects(venue).items()
        if (kind, name) == ("NetworkPolicy", f"crypto-{part}")
    ]
    rules = [rule for rule in policy["spec"]["egress"] if "to" not in rule]
    return [each["port"] for rule in rules for each in rule["ports"]]


@pytest.mark.parametrize(
    ("endpoint", "port"),
    [
        ("http://collector.monitoring:4318/v1/traces", 4318),
        ("https://traces.example/v1/traces", 443),
        ("http://traces.example", 80),
    ],
)
def test_traces_are_asked_of_every_process_and_find_their_way_out(endpoint, port):
    venue = spec(tracing={"endpoint": endpoint, "oneIn": 10})

    for name in ("crypto-a", "crypto-gateway"):
        for container in pod_specs(venue)[name]["containers"]:
            told = {each["name"]: each.get("value") for each in container["env"]}
            assert told["TRADSYS_TRACING_ENDPOINT"] == endpoint
            assert told["TRADSYS_TRACING_ONE_IN"] == "10"
    assert [leaving(venue, part) for part in ("shard", "gateway", "gate", "k6")] == [[port], [port], [], []]


def test_without_an_endpoint_there_are_no_traces_and_no_way_out():
    for container in [each for pod in pod_specs().values() for each in pod["containers"]]:
        assert not [each["name"] for each in container["env"] if "TRACING" in each["name"]]
    assert [leaving(spec(), part) for part in ("shard", "gateway")] == [[], []]


def told_of_shards(made):
    return yaml.safe_load(made["ConfigMap", "crypto-config"]["data"]["gateway.yaml"])["gateway_shards"]


def test_a_gateway_follows_the_feed_of_every_shard():
    made = objects()

    assert told_of_shards(made) == ["a=crypto-a:8000:8090:8091", "b=crypto-b:8000:8090:8091"]
    ports = {each["name"]: each["port"] for each in made["Service", "crypto-a"]["spec"]["ports"]}
    assert ports["feed-internal"] == 8091
    listening = {
        container["name"]: [each["name"] for each in container["env"] if "FEED_INTERNAL" in each["name"]]
        for container in pod_specs()["crypto-a"]["containers"]
    }
    assert listening == {
        "engine": [], "feed": ["TRADSYS_FEED_INTERNAL_PORT"], "history": [], "query": [],
    }  # fmt: skip


def test_a_gateway_does_not_wait_for_a_feed_whose_template_is_from_before_it_could_be_followed():
    venue = spec()
    new = revision_of("crypto", venue)
    older = msgspec.json.decode(msgspec.json.encode(new.shard))
    for container in older["spec"]["containers"]:
        container["env"] = [each for each in container["env"] if "FEED_INTERNAL" not in each["name"]]
    running = {"a": Revision(new.hash, new.image, older, new.gateway), "b": new}

    made = desired("crypto", "trading", venue, running, new, "tradsys-system")

    found = {(each["kind"], each["metadata"]["name"]): each for each in made}
    assert told_of_shards(found) == ["a=crypto-a:8000:8090", "b=crypto-b:8000:8090:8091"]
