"""Processor time of a process and of all that it started: workers that wait for more count as those that ended."""

from __future__ import annotations

import resource

import psutil


def processor_seconds() -> float:
    """Return user and system time of this process, of its children that ended, and of those that live."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    total = sum(one.ru_utime + one.ru_stime for one in used)
    for child in psutil.Process().children(recursive=True):
        try:
            times = child.cpu_times()
        except psutil.Error:
            continue  # it has ended meanwhile
        total += times.user + times.system
        # What it had started itself and saw end is counted with it, as the system does once it ends.
        total += getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return total
