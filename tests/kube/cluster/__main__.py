"""python -m tests.kube.cluster up | down | status | control-plane | images

`up` starts a node with everything and leaves it running; `control-plane` runs an API server with
controllers on 127.0.0.1 until Ctrl-C. Both print the line that points kubectl at them.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.kube.cluster.cluster import Cluster, Refused
from tests.kube.cluster.control_plane import KubectlFailed, control_plane
from tests.kube.cluster.daemons import DaemonDied, TookTooLong
from tests.kube.cluster.images import ImageFailed, product_images
from tests.kube.cluster.network import NetworkInUse
from tests.kube.cluster.places import INGRESS, KUBECONFIG, MissingProgram, program

EXPECTED = (DaemonDied, ImageFailed, KubectlFailed, MissingProgram, NetworkInUse, Refused, TookTooLong)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="cluster", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("command", choices=("up", "down", "status", "control-plane", "images"))
    command = parser.parse_args().command
    # A session that is closed must not leave half a cluster: SIGTERM ends it as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return {
            "up": _up, "down": _down, "status": _status, "control-plane": _control_plane, "images": _images,
        }[command]()  # fmt: skip
    except EXPECTED as fault:
        print(f"cluster: {fault}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _up() -> int:
    cluster = Cluster()
    cluster.up()
    _point_at(KUBECONFIG)
    print(f"The ingress address is {INGRESS}; `make cluster-down` ends it.")
    return 0


def _down() -> int:
    Cluster().down()
    return 0


def _status() -> int:
    cluster = Cluster()
    up = cluster.is_up()
    print("up" if up else "not up")
    for name in cluster.plane.daemons.running():
        alive = cluster.plane.daemons.is_alive(name)
        print(f"  {name}: {'runs' if alive else 'has died: ' + cluster.plane.daemons.last_line(name)}")
    return 0 if up else 1


def _control_plane() -> int:
    with (
        tempfile.TemporaryDirectory(prefix="tradsys-kube-") as directory,
        control_plane(Path(directory)) as plane,
    ):
        _point_at(plane.kubeconfig)
        print("Ctrl-C ends it.", flush=True)
        while True:
            plane.daemons.check()
            time.sleep(1)


def _images() -> int:
    for archive in product_images():
        print(archive)
    return 0


def _point_at(kubeconfig: Path) -> None:
    print(f"\nexport KUBECONFIG={kubeconfig}\nalias kubectl={program('kubectl')}\n")


if __name__ == "__main__":
    sys.exit(main())
