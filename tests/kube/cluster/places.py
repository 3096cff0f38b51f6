"""Where the harness finds programs, and where it keeps what it makes.

Programs come from `make tools` (build/tools, or the folder that TRADSYS_TOOLS names) and from the system
packages of `make cluster-packages`. Nothing is downloaded while a cluster starts.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]
TOOLS = Path(os.environ.get("TRADSYS_TOOLS", REPOSITORY / "build" / "tools"))
GATEWAY_API = TOOLS / "gateway-api"
"""The manifests of the Gateway API's standard channel, copied there by `make tools`."""
CACHE = REPOSITORY / "build" / "cluster"
"""Images and their bases: worth keeping between clusters, made again when missing."""

NAME = "tradsys-kube"
"""Prefix or whole name of everything that the harness makes on this machine."""
STATE = Path("/var/lib") / NAME
"""The one node of this machine. A fixed place and a short one: the sockets below it must stay under 108
bytes."""
KUBECONFIG = STATE / "admin.kubeconfig"
LOCK = Path("/run") / f"{NAME}.lock"

NODE = "node1"
NODE_ADDRESS = "10.200.0.2"
HOST_ADDRESS = "10.200.0.1"
NODE_RANGE = "10.200.0.0/16"
POD_RANGE = "10.88.0.0/16"
SERVICE_RANGE = "10.96.0.0/24"
API_SERVICE = "10.96.0.1"
DNS_SERVICE = "10.96.0.10"
INGRESS = f"http://{NODE_ADDRESS}"

CNI_PLUGINS = Path("/usr/lib/cni")


class MissingProgram(Exception):
    """Names the program and the command that brings it."""


def program(name: str) -> str:
    """Path of a program that `make tools` has built or that a system package brings."""
    built = TOOLS / name
    if built.is_file():
        return str(built)
    # Daemons live in sbin, which is not on everybody's PATH.
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        raise MissingProgram(
            f"{name} is missing: `make tools` builds it, or `make cluster-packages` installs it"
        )
    return found
