"""The image of the app, in a container of the harness's own Docker daemon: read-only, without a right,
without root."""

from __future__ import annotations

import json
import socket
import time
from contextlib import ExitStack

import httpx
import pytest
from testcontainers.core.container import DockerContainer

from tests.kube.cluster import images

LISTENERS = (
    "PORT", "ADMIN_PORT", "INTERNAL_PORT", "OPS_PORT", "HISTORY_PORT", "QUERY_PORT", "WS_PORT", "GRPC_PORT",
    "FEED_OPS_PORT", "GATEWAY_OPS_PORT", "QUERY_OPS_PORT",
)  # fmt: skip


@pytest.fixture(scope="module")
def docker():
    images.product_images()
    with images.docker_daemon() as docker, pytest.MonkeyPatch.context() as environment:
        environment.setenv("DOCKER_HOST", images.SOCKET)
        environment.setenv("TESTCONTAINERS_RYUK_DISABLED", "true")
        yield docker


@pytest.fixture(scope="module")
def venue(docker):
    """The whole venue in one container, and its address."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in LISTENERS]
        ports = dict(zip(LISTENERS, (each.getsockname()[1] for each in sockets), strict=True))
    container = DockerContainer(images.APP).with_env("TRADSYS_HOST", "127.0.0.1")
    for name, port in ports.items():
        container.with_env(f"TRADSYS_{name}", str(port))
    container.with_tmpfs_mount("/tmp", "size=16m")
    container.with_kwargs(
        network_mode="host",  # The daemon has no bridge.
        read_only=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
    )
    with container:
        container.url = f"http://127.0.0.1:{ports['PORT']}"
        deadline = time.monotonic() + 60
        while not answers(container.url):
            assert time.monotonic() < deadline, container.get_logs()
            time.sleep(0.1)
        yield container
        container.get_wrapped_container().stop(timeout=10)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/api/v1/symbols", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def printed(container, *argv: str) -> str:
    code, output = container.exec(list(argv))
    assert code == 0, output
    return output.decode().strip()


def in_image(docker, image: str, program: str) -> str:
    options = ("--rm", "--network=none", "--read-only", "--entrypoint=python")
    return docker.run("run", *options, image, "-c", program).strip()


def test_an_order_is_placed_and_trades(venue):
    headers = {"Authorization": f"Bearer {printed(venue, 'tradsys', 'token', '--account', 'demo')}"}
    order = {"symbol": "BTC-USD", "type": "limit", "price": "50000", "quantity": "0.5"}

    statuses = [
        httpx.post(
            f"{venue.url}/api/v1/orders", json=order | {"side": side}, headers=headers, trust_env=False
        )
        .raise_for_status()
        .json()["status"]
        for side in ("sell", "buy")
    ]

    assert statuses == ["new", "filled"]


def test_it_runs_as_nobody_special_on_a_root_that_can_not_be_written(venue):
    status = printed(venue, "python", "-c", "print(open('/proc/1/status').read())")

    assert printed(venue, "id", "-u") == "10001"
    assert venue.exec(["touch", "/opt/tradsys/x"])[0] != 0
    assert "CapEff:\t0000000000000000" in status


def test_its_core_is_compiled_and_its_messages_are_generated(docker):
    program = "import tradsys.core.shard as shard, tradsys.v1.orders_pb2; print(shard.__file__)"

    assert in_image(docker, images.APP, program).endswith(".so")


@pytest.mark.parametrize(
    ("image", "project"), [(images.APP, "tradsys"), (images.OPERATOR, "tradsys-operator")]
)
def test_its_bill_of_materials_names_what_is_installed_and_nothing_that_builds(docker, image, project):
    bill = json.loads(in_image(docker, image, "print(open('/opt/tradsys/sbom.cdx.json').read())"))
    listing = "json.dumps([(each.name, each.version) for each in metadata.distributions()])"
    installed = json.loads(
        in_image(docker, image, f"import json; from importlib import metadata; print({listing})")
    )

    named = {(plain(part["name"]), part["version"]) for part in bill["components"]}
    assert bill["bomFormat"] == "CycloneDX"
    assert named == {(plain(name), version) for name, version in installed}
    assert project in {name for name, _ in named}
    assert {name for name, _ in named} & {"setuptools", "pip", "mypy", "grpcio-tools", "pytest"} == set()


def plain(name: str) -> str:
    """A project's name as indexes compare it."""
    return name.lower().replace("_", "-").replace(".", "-")
