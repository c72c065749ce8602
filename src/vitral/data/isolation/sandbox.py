"""What a process that decodes images may use: limits of the system, and a filter of system calls."""

import errno
import fcntl
import os
import resource
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["Limits", "confine", "has_filter", "limit_time"]

SLACK = 2**28
"""Bytes that Python and the decoders' libraries take beside images."""
ADDRESSES = 2**30
"""Bytes of addresses that threads of decoders reserve and do not use."""

CALLS = (
    # files that are open already, and what comes from them
    *("read", "readv", "pread64", "write", "writev", "lseek", "close", "dup", "fstat", "newfstatat", "statx"),
    *("recvfrom", "recvmsg", "sendto", "sendmsg", "poll", "ppoll", "select", "pselect6", "shutdown"),
    *("mmap", "munmap", "mremap", "mprotect", "madvise", "brk", "membarrier"),
    *("futex", "futex_wait", "futex_wake", "sched_yield", "sched_getaffinity", "set_robust_list", "rseq", "getcpu"),
    *("rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "restart_syscall", "exit", "exit_group"),
    *("clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time", "getrusage", "times"),
    *("getpid", "gettid", "getppid", "getuid", "geteuid", "getgid", "getegid", "getrandom", "sysinfo", "uname"),
)
"""System calls that decoders make. All others fail: those that open, create, remove, connect, execute or fork."""

FILE_COMMANDS = (fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_DUPFD_CLOEXEC, fcntl.F_SETLK, fcntl.F_SETLKW)
"""What decoders do with `fcntl`, which can also have signals sent to any process."""

CLONE_THREAD = 0x00010000


@cache
def has_filter() -> bool:
    """Whether system calls can be filtered: with libseccomp and the package pyseccomp, on a kernel that does it."""
    try:
        import pyseccomp

        return pyseccomp.get_api() >= 2 and Path("/proc/sys/kernel/seccomp").exists()
    # without the package, without the library that it looks for, or with an old one
    except (ImportError, RuntimeError, OSError):
        return False


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Of a process that decodes images.

    The process writes no file and leaves no core dump.
    """

    memory: int
    """Bytes, beside what Python and its libraries take."""
    cpu_seconds: int = 30
    """Processor time for one image."""
    open_files: int = 32
    filtered: bool = field(default_factory=has_filter)
    """Whether its system calls are filtered. Decided once: a process that cannot do so ends."""


def confine(limits: Limits) -> None:
    """Limits this process for good, and filters its system calls if they are to be."""
    size, data = _memory_used()
    _set(resource.RLIMIT_DATA, data + limits.memory + SLACK)
    _set(resource.RLIMIT_AS, size + limits.memory + SLACK + ADDRESSES)
    _set(resource.RLIMIT_NOFILE, limits.open_files)
    for number in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        _set(number, 0)
    if limits.filtered:
        _filter_calls()


def limit_time(seconds: int) -> None:
    """Gives this process some seconds of processor time from now on, after which the system kills it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    # whole seconds only: the one that has begun does not count
    soft = int(used.ru_utime + used.ru_stime) + seconds + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def _filter_calls() -> None:
    import pyseccomp as seccomp

    rules = seccomp.SyscallFilter(defaction=seccomp.ERRNO(errno.EPERM))
    for name in CALLS:
        _allow(seccomp, rules, name)
    for command in FILE_COMMANDS:
        _allow(seccomp, rules, "fcntl", seccomp.Arg(1, seccomp.EQ, command))
    # threads, but no processes; the arguments of clone3 cannot be looked at, and without it glibc calls clone
    _allow(seccomp, rules, "clone", seccomp.Arg(0, seccomp.MASKED_EQ, CLONE_THREAD, CLONE_THREAD))
    rules.add_rule(seccomp.ERRNO(errno.ENOSYS), "clone3")
    # the time for the next image, and abort
    _allow(seccomp, rules, "prlimit64", seccomp.Arg(0, seccomp.EQ, 0), seccomp.Arg(1, seccomp.EQ, resource.RLIMIT_CPU))
    _allow(seccomp, rules, "tgkill", seccomp.Arg(0, seccomp.EQ, os.getpid()))
    rules.load()


def _allow(seccomp: Any, rules: Any, name: str, *arguments: Any) -> None:
    # not all calls exist on all processors, and an old library does not know new ones
    if seccomp.resolve_syscall(seccomp.Arch.NATIVE, name) >= 0:
        rules.add_rule(seccomp.ALLOW, name, *arguments)


def _memory_used() -> tuple[int, int]:
    """Bytes of this process's addresses, and of those that it may write."""
    fields = Path("/proc/self/statm").read_text().split()
    page = resource.getpagesize()
    return int(fields[0]) * page, int(fields[5]) * page


def _set(number: int, most: int) -> None:
    _, hard = resource.getrlimit(number)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(number, (most, most))
