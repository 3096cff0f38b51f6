"""The verdict about a pod's CPUs, from files as kernels write them: cgroup v1 and v2."""

from __future__ import annotations

import pytest
from tradsys_operator.pinning import Evidence, cpu_set, evidence_of, judge, text_of

V2 = {
    "/sys/devices/system/cpu/online": "0-3\n",
    "/sys/fs/cgroup/cpuset.cpus.effective": "2\n",
    "/sys/fs/cgroup/cpu.max": "max 100000\n",
    "/sys/fs/cgroup/cpu.stat": "usage_usec 81\nuser_usec 80\nsystem_usec 1\nnr_periods 0\nnr_throttled 0\n",
}
V1 = {
    "/sys/devices/system/cpu/online": "0-3\n",
    "/sys/fs/cgroup/cpuset/cpuset.cpus": "2\n",
    "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
    "/sys/fs/cgroup/cpu/cpu.stat": "nr_periods 0\nnr_throttled 0\nthrottled_time 0\n",
}


def files(version, cpus="2", **changed):
    status = (
        f"Name:\tpython3\nThreads:\t1\nCpus_allowed:\t4\nCpus_allowed_list:\t{cpus}\nMems_allowed_list:\t0\n"
    )
    made = dict(version) | {"/proc/self/status": status}
    for path in list(made):
        short = path.rsplit("/", 1)[-1].replace(".", "_")
        if short in changed:
            text = changed[short]
            made.pop(path)
            if text is not None:
                made[path] = text
    return made


def said(made, requested=1, others=None, threads=None):
    return judge(Evidence(made, threads or {}), requested, others or {}).verdict


@pytest.mark.parametrize("version", [V1, V2], ids=["v1", "v2"])
def test_a_cpu_of_its_own_without_a_quota_is_pinned(version):
    assert said(files(version), threads={"7": "2", "8": "2"}) == "Pinned"


def test_all_cpus_are_unpinned():
    assert said(files(V2, "0-3")) == "Unpinned"


def test_the_shared_pool_of_a_pinning_node_is_shared():
    assert said(files(V2, "0-1,3")) == "Shared"


@pytest.mark.parametrize(
    "made",
    [files(V2, "0", cpu_max="20000 100000\n"), files(V1, "0", cpu_cfs_quota_us="20000\n")],
    ids=["v2", "v1"],
)
def test_one_cpu_in_the_mask_alone_proves_nothing(made):
    """A shared container on a node whose other CPUs are taken reads one CPU too; its quota gives it away."""
    assert said(made) == "Shared"


def test_a_node_of_one_cpu_proves_nothing_without_the_quota():
    assert said(files(V2, "0", online="0\n", cpu_max=None)) == "Unknown"
    assert said(files(V2, "0", online="0\n")) == "Pinned"


def test_a_thread_that_may_leave_is_unpinned():
    assert said(files(V2), threads={"7": "2", "8": "0-3"}) == "Unpinned"


def test_a_neighbour_on_the_same_cpu_is_an_overlap():
    assert said(files(V2), others={"other-0/engine": frozenset({2, 3})}) == "Overlap"
    assert said(files(V2), others={"other-0/engine": frozenset({0, 1, 3})}) == "Pinned"


@pytest.mark.parametrize(
    "made",
    [
        files(V2, cpu_stat="nr_periods 9\nnr_throttled 3\n"),
        files(V1, cpu_stat="nr_periods 9\nnr_throttled 3\n"),
    ],
    ids=["v2", "v1"],
)
def test_a_throttled_engine_says_so(made):
    assert said(made) == "Throttled"


@pytest.mark.parametrize(
    "made",
    [
        {},
        files(V2, online=None),
        files(V2, cpu_max=None),
        files(V2, cpu_max=""),
        files(V2, cpu_stat=None),
        files(V2, status="Name:\tpython3\n"),
        files(V2, "x-y"),
        files(V1, cpu_cfs_quota_us="what\n"),
    ],
)
def test_what_is_not_known_is_unknown(made):
    assert said(made) == "Unknown"


def test_no_answer_is_unknown():
    assert judge(None, 1, {}).verdict == "Unknown"
    assert judge(evidence_of({}), 1, {}).verdict == "Unknown"


def test_an_answer_without_files_is_unknown_with_its_mask():
    found = judge(evidence_of({"cpus_allowed_list": "1", "cpu_exclusive": True}), 1, {})

    assert (found.verdict, found.reason) == ("Unknown", "the node's CPUs are not known")


def test_two_cpus_that_were_asked_for_are_pinned():
    assert said(files(V2, "2-3"), requested=2) == "Pinned"
    assert said(files(V2, "2"), requested=2) == "Shared"


@pytest.mark.parametrize(
    ("text", "cpus"), [("0-2,5\n", {0, 1, 2, 5}), ("7", {7}), ("", set()), ("0-1,3-4", {0, 1, 3, 4})]
)
def test_a_cpu_list_reads_and_writes(text, cpus):
    assert cpu_set(text) == cpus
    assert text_of(frozenset(cpus)) == text.strip()
