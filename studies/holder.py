"""Who holds a lease: a process, told apart from all others, and whether it is known to be dead.

A dead process of this machine need not be waited for; of another machine's nothing is known but its lease.
"""

import os
import uuid
from functools import cache
from hashlib import sha256
from pathlib import Path


def this_process() -> str:
    """Name this process: where it runs, its number, and when it began, as numbers are used again."""
    return f"{_place()}:{os.getpid()}:{_began(os.getpid())}"


def is_dead(holder: str) -> bool:
    """Tell whether a holder is known to be dead: a process of this machine that is gone or waits to be buried."""
    place, number, began = holder.split(":")
    return place == _place() and _began(int(number)) != began


@cache
def _place() -> str:
    """Name where process numbers mean the same: this boot of the kernel and this process namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return sha256(f"{boot}:{Path('/proc/self/ns/pid').readlink()}".encode()).hexdigest()[:16]
    except OSError:  # not Linux: nobody is known to be dead, and leases run out
        return uuid.uuid4().hex[:16]


def _began(number: int) -> str | None:
    """Return when a process began, in the kernel's ticks (a clock set anew changes nothing); None for a dead one."""
    try:
        stat = Path(f"/proc/{number}/stat").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError:
        return "unknown"
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else fields[18]
