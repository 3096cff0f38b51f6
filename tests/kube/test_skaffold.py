"""skaffold.yaml is understood by the skaffold that `make tools` builds, and names what exists."""

from __future__ import annotations

import os
import subprocess

import pytest
import yaml

from tests.kube.cluster.places import REPOSITORY, MissingProgram, program

CONFIG = yaml.safe_load((REPOSITORY / "skaffold.yaml").read_text())


@pytest.fixture(scope="module")
def skaffold():
    try:
        return program("skaffold")
    except MissingProgram as missing:
        if os.environ.get("E2E") == "1":
            raise
        pytest.skip(str(missing))


@pytest.mark.parametrize("profile", ["", *(each["name"] for each in CONFIG["profiles"])])
def test_skaffold_reads_it_with_each_profile(skaffold, profile, tmp_path):
    argv = [skaffold, "diagnose", "--yaml-only", "--interactive=false", f"--profile={profile}"]
    home = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}

    ended = subprocess.run(argv, cwd=REPOSITORY, env=home, capture_output=True, text=True, timeout=60)

    assert ended.returncode == 0, ended.stderr
    assert yaml.safe_load(ended.stdout)["metadata"] == {"name": "tradsys"}


def test_every_file_that_it_names_is_there():
    releases = CONFIG["deploy"]["helm"]["releases"]
    named = [name for release in releases for name in (release["chartPath"], *release.get("valuesFiles", []))]
    named += [each["docker"]["dockerfile"] for each in CONFIG["build"]["artifacts"]]
    named += [each["executionMode"]["kubernetesCluster"]["jobManifestPath"] for each in CONFIG["verify"]]
    hooks = CONFIG["deploy"]["helm"]["hooks"]
    named += [each["host"]["command"][0] for when in ("before", "after") for each in hooks[when]]

    assert [name for name in named if not (REPOSITORY / name).exists()] == []


def test_its_images_are_targets_of_the_dockerfile():
    dockerfile = (REPOSITORY / "Dockerfile").read_text()

    targets = [each["docker"]["target"] for each in CONFIG["build"]["artifacts"]]

    assert targets == ["app", "operator"]
    assert [target for target in targets if f" AS {target}\n" not in dockerfile] == []
