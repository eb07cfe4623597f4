"""
What a process may still touch, taken away for good: Linux's Landlock, asked for without any right.

Rights of the operating system are given to users, and on one laptop all is one user. Landlock gives
them to a process: what is not listed cannot be opened, whoever owns it, and neither the process nor
what it starts can ask for more. A confined process cannot look into others (ptrace, `/proc/<pid>/`
`environ` and `mem`) nor send them signals. Where the kernel knows no Landlock nothing happens.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import struct
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

__all__ = ["confine", "confine_network", "system", "version"]

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_BENEATH, _PORT = 1, 2
_NO_NEW_PRIVILEGES = 38
_CAPABILITIES = 0x20080522
"""The third layout of capset, which has stood since 2008."""

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_TRUNCATE = 1 << 14
_OF_A_FILE = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | 1 << 15
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_KNOWN = {1: 13, 2: 14, 3: 15, 4: 15}
"""How many rights on files each version knows; 16 since the fifth."""
_CONNECT_TCP = 1 << 1
_SCOPES = 0b11
"""Abstract sockets and signals stay among the confined."""

_PLACES = ("/bin", "/etc", "/lib", "/lib64", "/proc", "/sbin", "/sys", "/usr", "/dev")
_RESOLVER = "/run/systemd/resolve"
_DEVICES = ("/dev/full", "/dev/null", "/dev/zero")


def version() -> int:
    """The version of Landlock that this kernel has; 0 where it has none."""
    return max(0, _call(_CREATE, None, 0, 1)) if sys.platform == "linux" else 0


def system() -> tuple[Path, ...]:
    """What any program reads: the system, and this interpreter with its packages."""
    own = (sys.prefix, sys.base_prefix, sys.exec_prefix, *(p for p in sys.path if p))
    return tuple(Path(place) for place in dict.fromkeys((*_PLACES, _RESOLVER, *own)))


def confine(read: Iterable[Path], write: Iterable[Path]) -> bool:
    """
    From now on this thread, and what it starts, reads beneath `read` and writes beneath `write`.

    It keeps no capability, either. What is not there when it is asked for is left out. Returns
    whether the kernel does it.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump would hold the credentials
    known = version()
    _drop_capabilities()
    if not known:
        return False
    handled = (1 << _KNOWN.get(known, 16)) - 1
    words = [handled]
    words += [0] * (known >= 4)
    words += [_SCOPES] * (known >= 6)
    with _ruleset(words) as rules:
        for places, rights in ((read, _READ), (write, handled)):
            for place in places:
                _allow(rules, place, rights & handled)
        for device in _DEVICES:
            _allow(rules, Path(device), (_READ_FILE | _WRITE_FILE | _TRUNCATE) & handled)
        _restrict(rules)
    return True


def confine_network(port: int) -> bool:
    """From now on this thread opens TCP connections to this port only, of whatever host."""
    if version() < 4:
        return False
    with _ruleset([0, _CONNECT_TCP]) as rules:
        _checked(_call(_ADD, rules, _PORT, struct.pack("=QQ", _CONNECT_TCP, port), 0))
        _restrict(rules)
    return True


@contextlib.contextmanager
def _ruleset(words: list[int]) -> Iterator[int]:
    asked = struct.pack(f"={len(words)}Q", *words)
    rules = _checked(_call(_CREATE, asked, len(asked), 0))
    try:
        yield rules
    finally:
        os.close(rules)


def _allow(rules: int, place: Path, rights: int) -> None:
    try:
        file = os.open(place, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not place.is_dir():
            rights &= _OF_A_FILE
        _checked(_call(_ADD, rules, _BENEATH, struct.pack("=Qi", rights, file), 0))
    finally:
        os.close(file)


def _drop_capabilities() -> None:
    """Be no more than one's user: root, too, could otherwise look into others by profiling them."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        header, nothing = struct.pack("=Ii", _CAPABILITIES, 0), struct.pack("=6I", *[0] * 6)
        _checked(libc.capset(header, nothing))


def _restrict(rules: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    _checked(libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
    _checked(_call(_RESTRICT, rules, 0))


def _call(number: int, *words: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return int(libc.syscall(ctypes.c_long(number), *words))


def _checked(answer: int) -> int:
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"Landlock: {os.strerror(number)}")
    return answer
