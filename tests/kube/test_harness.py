"""What the harness promises about processes, keys and archives, on real ones; it needs neither root nor the
tools."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import time

import pytest

from tests.kube.cluster import images, network, places
from tests.kube.cluster.daemons import DaemonDied, Daemons, TookTooLong
from tests.kube.cluster.pki import Authority

SLEEPS = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def daemons(tmp_path):
    daemons = Daemons(tmp_path)
    yield daemons
    daemons.stop_all()


def test_a_wait_fails_at_once_with_the_last_words_of_the_process_that_died(daemons):
    daemons.start("good", SLEEPS)
    daemons.start("bad", [sys.executable, "-c", "print('starting'); raise SystemExit('no such port')"])

    with pytest.raises(DaemonDied) as caught:
        daemons.wait_until("what never comes", lambda: False, seconds=50)

    assert str(caught.value) == "bad has died: no such port"


def test_a_wait_that_ends_without_a_death_says_what_it_waited_for(daemons):
    daemons.start("good", SLEEPS)

    with pytest.raises(TookTooLong) as caught:
        daemons.wait_until("what never comes", lambda: False, seconds=0.2)

    assert str(caught.value) == "what never comes: not within 0.2 s. good: (it said nothing)"


def test_a_stopped_process_is_gone_when_stop_returns(daemons):
    daemons.start("good", SLEEPS)
    pid = daemons.pid("good")

    daemons.stop("good")

    assert not os.path.exists(f"/proc/{pid}")
    assert daemons.running() == []


def test_a_process_that_ignores_the_signal_is_killed(daemons, monkeypatch):
    monkeypatch.setattr("tests.kube.cluster.daemons.STOP_S", 0.2)
    ignores = (
        "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    )
    daemons.start("stubborn", [sys.executable, "-c", ignores])
    daemons.wait_until("the process", lambda: daemons.last_line("stubborn") == "ready")

    daemons.stop("stubborn")

    assert daemons.running() == []


def test_whoever_comes_later_stops_what_an_earlier_one_has_started(daemons, tmp_path):
    daemons.start("old", SLEEPS)
    daemons.start("young", SLEEPS)
    later = Daemons(tmp_path)

    names = later.running()
    later.stop_all()

    assert names == ["old", "young"]
    assert later.running() == []


def test_another_process_with_the_same_pid_is_left_alone(daemons, tmp_path):
    other = subprocess.Popen(SLEEPS)
    started_earlier = 1
    (tmp_path / "gone.pid").write_text(f"{other.pid} {started_earlier} {time.monotonic_ns()}")

    daemons.stop("gone")

    assert other.poll() is None
    other.send_signal(signal.SIGKILL)
    other.wait()


def test_a_certificate_is_signed_for_its_hosts_by_the_authority_of_the_directory(tmp_path):
    authority = Authority(tmp_path)
    authority.certificate("api", "kube-apiserver", hosts=("localhost", "10.96.0.1"))

    verified = subprocess.run(
        [
            "openssl",
            "verify",
            "-CAfile",
            tmp_path / "ca.crt",
            "-verify_ip",
            "10.96.0.1",
            tmp_path / "api.crt",
        ],
        capture_output=True,
        text=True,
    )

    assert verified.returncode == 0, verified.stderr
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}


def test_an_image_of_one_program_holds_that_program_and_is_not_made_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "CACHE", tmp_path / "cache")
    program = tmp_path / "server"
    program.write_bytes(b"\x7fELF")

    archive = images.program_image("localhost/server:test", str(program), ["/server"])
    made = archive.stat().st_mtime_ns
    again = images.program_image("localhost/server:test", str(program), ["/server"])

    with tarfile.open(archive) as image:
        manifest = json.load(image.extractfile("manifest.json"))
        with tarfile.open(fileobj=image.extractfile(manifest[0]["Layers"][0])) as layer:
            inside = {member.name: (member.uid, oct(member.mode)) for member in layer}
    assert manifest[0]["RepoTags"] == ["localhost/server:test"]
    assert inside == {"server": (0, "0o755"), "tmp": (0, "0o1777")}
    assert (again, again.stat().st_mtime_ns) == (archive, made)


def test_a_changed_program_replaces_its_image(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "CACHE", tmp_path / "cache")
    program = tmp_path / "server"
    program.write_bytes(b"one")
    first = images.program_image("localhost/server:test", str(program), ["/server"])
    program.write_bytes(b"two")

    second = images.program_image("localhost/server:test", str(program), ["/server"])

    assert [file.name for file in (tmp_path / "cache").iterdir()] == [second.name]
    assert first != second


def test_a_missing_program_is_named_with_the_command_that_brings_it():
    with pytest.raises(places.MissingProgram) as caught:
        places.program("no-such-program")

    assert str(caught.value) == (
        "no-such-program is missing: `make tools` builds it, or `make cluster-packages` installs it"
    )


@pytest.mark.parametrize("theirs", ["10.88.3.0/24", "10.0.0.0/8", "10.96.0.7"])
def test_a_range_that_leads_elsewhere_already_is_refused(theirs):
    with pytest.raises(network.NetworkInUse, match=theirs):
        network.refuse_overlaps([{"dst": "default"}, {"dst": theirs, "protocol": "kernel"}])


def test_our_own_routes_and_those_of_others_elsewhere_are_no_obstacle():
    ours = [{"dst": each, "protocol": network.MARK} for each in network.RANGES]

    network.refuse_overlaps([*ours, {"dst": "default"}, {"dst": "192.0.2.0/24", "protocol": "kernel"}])
