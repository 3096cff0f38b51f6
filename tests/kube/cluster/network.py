"""The network of the node: a namespace of its own, joined to this machine by one pair of interfaces.

No packet may leave the machine. So before anything starts, the ranges of nodes, pods and services become
blackholes here: without the namespace, a client that still asks for a pod gets an error, and nothing goes
out by the default route. Inside the namespace there is no default route at all. All routes carry a mark, by
which they are taken away.
"""

from __future__ import annotations

import ipaddress
import json
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from tests.kube.cluster.places import (
    HOST_ADDRESS,
    NAME,
    NODE_ADDRESS,
    NODE_RANGE,
    POD_RANGE,
    SERVICE_RANGE,
    program,
)

NAMESPACE = NAME
HOST_INTERFACE = "tradsyskube0"
MARK = "117"
"""The routing protocol of our routes, a number that has no name; the kernel only keeps it."""
RANGES = (NODE_RANGE, POD_RANGE, SERVICE_RANGE)

INSIDE = ("nsenter", f"--net=/run/netns/{NAMESPACE}")
"""Prefix of a command inside. Not `ip netns exec`: that mounts another /sys, without the cgroups."""


class NetworkInUse(Exception):
    """Somebody else's route goes where the cluster would be."""


def up() -> None:
    """Blackholes first, then the namespace, then the ways into it."""
    refuse_overlaps(_listed("route", "show"))
    for each in RANGES:
        _ip("route", "replace", "blackhole", each, "metric", "4096", "proto", MARK)
    _ip("netns", "add", NAMESPACE)
    _ip("link", "add", HOST_INTERFACE, "type", "veth", "peer", "name", "eth0", "netns", NAMESPACE)
    _ip("address", "add", f"{HOST_ADDRESS}/30", "dev", HOST_INTERFACE)
    _ip("link", "set", HOST_INTERFACE, "up")
    _ip("-n", NAMESPACE, "address", "add", f"{NODE_ADDRESS}/30", "dev", "eth0")
    _ip("-n", NAMESPACE, "link", "set", "lo", "up")
    _ip("-n", NAMESPACE, "link", "set", "eth0", "up")
    # A pod that asks for the world outside hears at once that there is none.
    _ip("-n", NAMESPACE, "route", "add", "unreachable", "default")
    # Processes of the node ask for services too: they need a route before iptables chooses a pod.
    _ip("-n", NAMESPACE, "route", "add", SERVICE_RANGE, "dev", "eth0")
    # Services go through the bridge, where iptables must see them.
    for switch in ("net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables"):
        _run([*INSIDE, "sh", "-c", f"echo 1 > /proc/sys/{switch}"])
    for each in (POD_RANGE, SERVICE_RANGE):
        _ip("route", "add", each, "via", NODE_ADDRESS, "proto", MARK)


def down() -> None:
    """Take everything away again; the blackholes last."""
    # The interface first: with the namespace it would go too, but a moment later.
    if any(each["ifname"] == HOST_INTERFACE for each in _listed("link", "show")):
        _ip("link", "delete", HOST_INTERFACE)
    if any(each["name"] == NAMESPACE for each in _listed("netns", "list")):
        _ip("netns", "delete", NAMESPACE)
    _ip("route", "flush", "proto", MARK)


def refuse_overlaps(routes: Sequence[Mapping[str, Any]]) -> None:
    """NetworkInUse when a route, as `ip -json` lists it, is not ours and leads into one of our ranges."""
    ours = [ipaddress.ip_network(each) for each in RANGES]
    for route in routes:
        if route["dst"] == "default" or route.get("protocol") == MARK:
            continue
        theirs = ipaddress.ip_network(route["dst"])
        if any(theirs.overlaps(each) for each in ours):
            raise NetworkInUse(
                f"a route of this machine, {route['dst']}, overlaps the cluster's {', '.join(RANGES)}"
            )


def _listed(*arguments: str) -> list[dict[str, Any]]:
    said = _ip("-json", *arguments)
    # `ip` prints nothing at all for an empty list.
    listed: list[dict[str, Any]] = json.loads(said) if said.strip() else []
    return listed


def _ip(*arguments: str) -> str:
    return _run(["ip", *arguments])


def _run(argv: list[str]) -> str:
    ended = subprocess.run([program(argv[0]), *argv[1:]], capture_output=True, text=True)
    if ended.returncode:
        raise OSError(f"{' '.join(argv)}: {ended.stderr.strip()}")
    return ended.stdout
