"""What a process uses and on which CPUs it runs, read from the kernel into its words.

A look costs some tens of microseconds, so it is taken once a second, or when somebody asks.
"""

from __future__ import annotations

import gc
import os
import resource
from collections.abc import Callable, MutableSequence
from time import perf_counter_ns, time

from tradsys.metrics import ProcessMetrics

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
NS = 1_000_000_000
_CPU_STATS = ("/sys/fs/cgroup/cpu.stat", "/sys/fs/cgroup/cpu/cpu.stat")
"""Of the own group as a container sees it: cgroup v2, and v1."""


class Evidence:
    """Keeps one process's words of `ProcessMetrics` up to date."""

    def __init__(
        self,
        metrics: ProcessMetrics,
        process: str,
        words: MutableSequence[int],
        *,
        cpu_exclusive: bool = False,
        cpu_stats: tuple[str, ...] = _CPU_STATS,
    ) -> None:
        self._words = words
        self._cpu_stats = cpu_stats
        m = metrics
        self._user, self._system = m.cpu.word(process, "user"), m.cpu.word(process, "system")
        self._voluntary = m.switches.word(process, "voluntary")
        self._involuntary = m.switches.word(process, "involuntary")
        self._minor, self._major = m.faults.word(process, "minor"), m.faults.word(process, "major")
        self._memory, self._files = m.memory.word(process), m.files.word(process)
        self._threads, self._allowed = m.threads.word(process), m.cpus_allowed.word(process)
        self._online, self._threshold = m.cpus_online.word(process), m.gc_threshold.word(process)
        self._periods, self._throttled = m.throttled_periods.word(process), m.throttled.word(process)
        self._ready = m.ready.word(process)
        self._gc_pause = m.gc_pause.series(process)
        self._gc_started = 0
        self._exclusive, self._cpu_exclusive = m.cpu_exclusive.word(process), int(cpu_exclusive)
        self._started, self._start_s = m.started.word(process), int(time())

    def look(self) -> None:
        """Read everything anew; what can't be read stays as it was, as does the threshold of a process that
        collects by itself."""
        words = self._words
        self.look_at_usage()
        words[self._started], words[self._exclusive] = self._start_s, self._cpu_exclusive
        words[self._allowed] = len(os.sched_getaffinity(0))
        words[self._online] = os.cpu_count() or 0
        if gc.isenabled():
            words[self._threshold] = gc.get_threshold()[0]
        self._look_at_quota()

    def look_at_usage(self) -> None:
        """Only what may be added up over the processes of a pool of workers."""
        words = self._words
        used = resource.getrusage(resource.RUSAGE_SELF)
        words[self._user], words[self._system] = int(used.ru_utime * NS), int(used.ru_stime * NS)
        words[self._voluntary], words[self._involuntary] = used.ru_nvcsw, used.ru_nivcsw
        words[self._minor], words[self._major] = used.ru_minflt, used.ru_majflt
        try:
            with open("/proc/self/statm", "rb") as file:
                words[self._memory] = int(file.read().split()[1]) * PAGE_BYTES
            words[self._files] = len(os.listdir("/proc/self/fd")) - 1
            words[self._threads] = len(os.listdir("/proc/self/task"))
        except OSError:
            pass

    def _look_at_quota(self) -> None:
        for path in self._cpu_stats:
            try:
                with open(path) as file:
                    facts = dict(line.split() for line in file)
            except (OSError, ValueError):
                continue
            self._words[self._periods] = int(facts.get("nr_throttled", 0))
            if "throttled_usec" in facts:
                self._words[self._throttled] = int(facts["throttled_usec"]) * 1_000
            else:
                self._words[self._throttled] = int(facts.get("throttled_time", 0))
            return

    def ready(self, ready: bool) -> None:
        self._words[self._ready] = int(ready)

    def watch_gc(self) -> Callable[[], None]:
        """Count the pauses of Python's own collector from now on; returns what ends that."""
        gc.callbacks.append(self._on_gc)
        return lambda: gc.callbacks.remove(self._on_gc)

    def _on_gc(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._gc_started = perf_counter_ns()
        else:
            self._gc_pause.observe(self._words, perf_counter_ns() - self._gc_started)
