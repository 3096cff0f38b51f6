"""The images of a cluster that has no registry.

The product's images are built by a Docker daemon of the harness's own, from its ordinary Dockerfile and a
base that debootstrap makes. It has no bridge and touches no firewall: builds and containers use the
machine's own network, which is how a build reaches the package index. Images of a single program
need no daemon: an archive is made of it.

Each archive is kept under build/cluster, and made again only when what it was made of has changed.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.kube.cluster import cgroups, mounts
from tests.kube.cluster.daemons import Daemons
from tests.kube.cluster.places import CACHE, NAME, REPOSITORY, program

APP = "localhost/tradsys:test"
OPERATOR = "localhost/tradsys-operator:test"
BUSYBOX = "localhost/busybox:test"
K6 = "localhost/k6:test"
BASE = f"localhost/{NAME}-base:bookworm"
BUILD_BASE = f"localhost/{NAME}-build-base:bookworm"

RUN = Path("/run") / f"{NAME}-docker"
SOCKET = f"unix://{RUN / 'docker.sock'}"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
"""What this machine trusts; a build needs it where a proxy signs, and it never becomes part of an image."""

CONTEXT = ("Dockerfile", ".dockerignore", "app", "operator")

Say = Callable[[str], None]


class ImageFailed(Exception):
    """Carries the last lines of what was said."""


class Docker:
    """A running daemon, spoken to by the client that came with it."""

    def build(self, target: str, tag: str) -> None:
        self.run(
            "build",
            "--network=host",
            f"--target={target}",
            f"--tag={tag}",
            f"--build-arg=BASE={BASE}",
            f"--build-arg=BUILD_BASE={BUILD_BASE}",
            *([f"--secret=id=ca,src={CERTIFICATES}"] if CERTIFICATES.exists() else []),
            str(REPOSITORY),
        )

    def has(self, tag: str) -> bool:
        return self.run("images", "--quiet", tag).strip() != ""

    def run(self, *arguments: str) -> str:
        # Debian's own client has BuildKit inside; a newer one without its plugin buildx does not.
        client = "/usr/bin/docker" if Path("/usr/bin/docker").exists() else program("docker")
        environment = os.environ | {
            "DOCKER_HOST": SOCKET,
            "DOCKER_BUILDKIT": "1",
            "BUILDKIT_PROGRESS": "plain",
        }
        ended = subprocess.run([client, *arguments], capture_output=True, text=True, env=environment)
        if ended.returncode:
            said = (ended.stdout + ended.stderr).strip().splitlines()
            raise ImageFailed(f"docker {arguments[0]}:\n" + "\n".join(said[-25:]))
        return ended.stdout


@contextmanager
def docker_daemon() -> Iterator[Docker]:
    """A Docker daemon for the time of a `with`; images and build layers stay for the next one."""
    directory = CACHE / "docker"
    directory.mkdir(parents=True, exist_ok=True)
    RUN.mkdir(exist_ok=True)
    configuration = {
        "hosts": [SOCKET],
        "data-root": str(directory / "data"),
        "exec-root": str(RUN / "exec"),
        "pidfile": str(RUN / "docker.pid"),
        "bridge": "none",
        "iptables": False,
        "ip6tables": False,
        "ip-forward": False,
        "ip-masq": False,
        "storage-driver": "overlay2",
        "exec-opts": ["native.cgroupdriver=cgroupfs"],
        "cgroup-parent": f"/{cgroups.DOCKER}",
    }
    (directory / "daemon.json").write_text(json.dumps(configuration))
    daemons = Daemons(directory / "daemons")
    daemons.stop_all()  # What a killed run has left.
    docker = Docker()
    try:
        daemons.start("dockerd", [program("dockerd"), f"--config-file={directory / 'daemon.json'}"])
        daemons.wait_until("the Docker daemon", lambda: _answers(docker), seconds=30)
        yield docker
    finally:
        daemons.stop_all()
        cgroups.clear(cgroups.DOCKER)
        mounts.clear(RUN)
        shutil.rmtree(RUN, ignore_errors=True)


def _answers(docker: Docker) -> bool:
    try:
        docker.run("version")
    except ImageFailed:
        return False
    return True


# --- what the images are made of -----------------------------------------------------------------------


def product_images(say: Say = print) -> list[Path]:
    """Archives of the product's images, built now if the sources have changed since."""
    wanted = {"app": APP, "operator": OPERATOR}
    key = _key_of_sources()
    archives = [CACHE / f"{target}-{key}.tar" for target in wanted]
    if all(archive.exists() for archive in archives):
        return archives
    with docker_daemon() as docker:
        make_bases(docker, say)
        for (target, tag), archive in zip(wanted.items(), archives, strict=True):
            say(f"building the image {tag}")
            docker.build(target, tag)
            for old in CACHE.glob(f"{target}-*.tar"):
                old.unlink()
            with _written_whole(archive) as file:
                docker.run("save", f"--output={file}", tag)
    return archives


def changed_app(tag: str, program: str, say: Say = print) -> Path:
    """An archive of the app's image in which a Python program, run as root, has changed something: for tests
    that need another release."""
    key = hashlib.sha256(f"{tag} {program} {_key_of_sources()}".encode()).hexdigest()[:16]
    name = tag.rpartition("/")[2].replace(":", "-")
    archive = CACHE / f"{name}-{key}.tar"
    if archive.exists():
        return archive
    product_images(say)
    with tempfile.TemporaryDirectory() as context, docker_daemon() as docker:
        Path(context, "change.py").write_text(program)
        Path(context, "Dockerfile").write_text(
            f"FROM {APP}\nUSER 0\n"
            "RUN --mount=type=bind,target=/context python /context/change.py\n"
            "USER 10001:10001\n"
        )
        say(f"building the image {tag}")
        docker.run("build", "--network=none", f"--tag={tag}", context)
        for old in CACHE.glob(f"{name}-*.tar"):
            old.unlink()
        with _written_whole(archive) as file:
            docker.run("save", f"--output={file}", tag)
    return archive


def make_bases(docker: Docker, say: Say = print) -> None:
    """The smallest Debian with Python 3.11, and the same with what compiles; once for a machine."""
    if docker.has(BASE) and docker.has(BUILD_BASE):
        return
    say("making the base images with debootstrap; once, about a minute and a half")
    with tempfile.TemporaryDirectory(dir=CACHE) as directory:
        root = Path(directory) / "root"
        _run(["debootstrap", "--variant=minbase", "--include=python3", "bookworm", str(root)])
        _import(docker, root, BASE)
        shutil.copy("/etc/resolv.conf", root / "etc" / "resolv.conf")
        compiler = "gcc libc6-dev python3-dev python3-venv"
        apt = "apt-get update -qq && apt-get install -qq -y --no-install-recommends"
        chroot = ["chroot", str(root), "env", "DEBIAN_FRONTEND=noninteractive", "sh", "-c"]
        _run([*chroot, f"{apt} {compiler}"])
        _import(docker, root, BUILD_BASE)


def _import(docker: Docker, root: Path, tag: str) -> None:
    for folder in (
        "var/cache/apt",
        "var/lib/apt/lists",
        "usr/share/doc",
        "usr/share/locale",
        "usr/share/man",
    ):
        shutil.rmtree(root / folder, ignore_errors=True)
    archive = root.parent / "root.tar"
    _run(["tar", "--directory", str(root), "--create", "--file", str(archive), "."])
    docker.run("import", str(archive), tag)
    archive.unlink()


def _run(argv: Sequence[str]) -> None:
    ended = subprocess.run([program(argv[0]), *argv[1:]], capture_output=True, text=True)
    if ended.returncode:
        said = (ended.stdout + ended.stderr).strip().splitlines()
        raise ImageFailed(f"{argv[0]}:\n" + "\n".join(said[-10:]))


def _key_of_sources() -> str:
    """Changes with every file that git knows, or would add, below what the Dockerfile copies."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *CONTEXT],
        cwd=REPOSITORY,
        capture_output=True,
        check=True,
    ).stdout
    sums = hashlib.sha256()
    for name in sorted(filter(None, listed.decode().split("\0"))):
        path = REPOSITORY / name
        if path.is_file():
            sums.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return sums.hexdigest()[:16]


# --- images of one program -----------------------------------------------------------------------------


def program_image(tag: str, path: str, entry_point: Sequence[str]) -> Path:
    """An archive of an image that holds one program, at /NAME, with the libraries it needs."""
    name = Path(path).name
    key = hashlib.sha256(repr((tag, list(entry_point))).encode() + Path(path).read_bytes()).hexdigest()[:16]
    archive = CACHE / f"{name}-{key}.tar"
    if archive.exists():
        return archive
    CACHE.mkdir(parents=True, exist_ok=True)
    for old in CACHE.glob(f"{name}-*.tar"):
        old.unlink()
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as files:
        files.add(os.path.realpath(path), arcname=name, filter=_as_root)
        for library in _libraries(path):
            files.add(os.path.realpath(library), arcname=library.lstrip("/"), filter=_as_root)
        folder = tarfile.TarInfo("tmp")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
        files.addfile(folder)
    digest = hashlib.sha256(layer.getvalue()).hexdigest()
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": list(entry_point)},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = [{"Config": config_name, "RepoTags": [tag], "Layers": [f"{digest}/layer.tar"]}]
    members = {
        config_name: config,
        f"{digest}/layer.tar": layer.getvalue(),
        "manifest.json": json.dumps(manifest).encode(),
    }
    with _written_whole(archive) as file, tarfile.open(file, "w") as image:
        for member, content in members.items():
            info = tarfile.TarInfo(member)
            info.size = len(content)
            image.addfile(info, io.BytesIO(content))
    return archive


def _libraries(path: str) -> list[str]:
    """Paths of the loader and the shared libraries of a program; none of a static one."""
    said = subprocess.run(["ldd", path], capture_output=True, text=True).stdout
    return [word for line in said.splitlines() for word in line.split() if word.startswith("/")]


def _as_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.mode = 0o755
    return member


@contextmanager
def _written_whole(path: Path) -> Iterator[Path]:
    """A file that has its name only once it is complete."""
    part = path.with_suffix(".part")
    try:
        yield part
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)
