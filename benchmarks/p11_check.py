"""
P11: `levada check` over a thousand contracts: cold, warm, and of one changed contract.

CPU seconds of the command and of every process that it starts. What dbt spends (its import, parsing
the projects, building every model on nothing) is dbt's and told apart: the processes of the domains
are dbt's, the rest is ours. The peer is the same command with nothing remembered: what a change
costs, against checking all.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import psutil
from _figure import arguments, report, say
from _written import written

from levada.adapters.sqlfluff import Linting

FULL, CHANGED = 20.0, 3.0


def checked(root: Path, *words: str) -> dict[str, float]:
    """One run of the command: our and dbt's CPU seconds, and the wall seconds of its stages."""
    command = [sys.executable, "-m", "levada.cli", "check", "--json", "--project", str(root)]
    environment = {**os.environ, "LEVADA_PROJECT": str(root), "NO_COLOR": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # whoever uses it compiles our files once
    with tempfile.TemporaryFile("w+") as out:
        running = subprocess.Popen([*command, *words], stdout=out, env=environment)
        domains: dict[int, float] = {}
        watch = threading.Event()
        watcher = threading.Thread(target=_watch, args=(running.pid, domains, watch))
        watcher.start()
        _, status, usage = os.wait4(running.pid, 0)
        watch.set()
        watcher.join()
        out.seek(0)
        document = json.load(out)
    assert os.waitstatus_to_exitcode(status) == 0, document["faults"][:5]
    # The command waits for the process that imports dbt, and not for those that this one forks.
    server = domains.pop(0, 0.0)
    found = {stage["stage"]: stage["seconds"] for stage in document["stages"]}
    ours = usage.ru_utime + usage.ru_stime - server
    return {"ours": ours, "dbt": server + sum(domains.values()), **found}


def _watch(pid: int, seen: dict[int, float], end: threading.Event) -> None:
    """CPU seconds of dbt's processes, as last seen: 0 is the one that forks the others."""
    server = 0
    while not end.wait(0.05):
        for child in _children(pid):
            try:  # one that has ended, and is not waited for yet, says no command
                if not server and "dbt.worker" in " ".join(child.cmdline()):
                    server = child.pid
                forked = server and child.ppid() == server
                if child.pid != server and not forked:
                    continue  # SQLFluff's, which the command waits for: ours
                times = child.cpu_times()
            except psutil.Error:
                continue
            seen[0 if child.pid == server else child.pid] = times.user + times.system


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


def linted(root: Path) -> float:
    """CPU seconds of SQL linted in every domain, its process and its imports included."""
    domains = [path.name for path in sorted((root / "models").iterdir())]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with Linting(root, domains) as linting:
        assert linting.faults() == ()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def git(root: Path, *words: str) -> None:
    """A commit of everything, by nobody."""
    who = ("-c", "user.name=bench", "-c", "user.email=bench@bench.example")
    subprocess.run(["git", "-C", str(root), *who, *words], check=True, stdout=subprocess.DEVNULL)


def one_change(root: Path) -> None:
    """A word in the description of one contract."""
    path = min((root / "contracts" / "d03").glob("*.yaml"))
    path.write_text(path.read_text().replace("Join on id and day.", "Join on id, and day."))


def measure(tables: int, domains: int, *, build: bool, macros: bool) -> dict[str, dict[str, float]]:
    """The command cold, warm, and after one contract changed."""
    with tempfile.TemporaryDirectory(prefix="levada-p11-") as folder:
        root = Path(folder, "mesh")
        say(f"p11: writing {tables:,} contracts in {domains} domains")
        written(root, tables, domains, macros=macros)
        (root / ".gitignore").write_text(".levada/\n")
        git(root, "init", "-q")
        git(root, "add", "-A")
        git(root, "commit", "-qm", "mesh")
        # A clone that has never been checked builds every model on nothing: that is dbt's alone.
        cold = ["--changed-since", "HEAD"] if not build else []
        found = {"cold": checked(root, *cold)}
        if not build:  # what has not changed is not linted either: by itself, as the command does
            found["cold"]["ours"] += linted(root)
        say(f"p11: cold {found['cold']}")
        found["warm"] = checked(root, *cold)
        say(f"p11: warm {found['warm']}")
        one_change(root)
        found["changed"] = checked(root, "--changed-since", "HEAD")
        say(f"p11: changed {found['changed']}")
    return found


def main() -> None:
    words = arguments(
        __doc__,
        tables={"type": int, "default": 1_000},
        domains={"type": int, "default": 10},
        no_build={"action": "store_true", "help": "leave out the empty build of every model"},
        macros={"action": "store_true", "help": "models of macros, and all of Levada's rules"},
    )
    tables, domains = (20, 4) if words.small else (words.tables, words.domains)
    found = measure(tables, domains, build=not words.no_build, macros=words.macros)
    full, changed = found["cold"]["ours"], found["changed"]["ours"]
    report(
        "p11_check",
        ours=changed,
        peer=full,
        ratio=changed / full,
        goal=f"all under {FULL:g} CPU s, what changed under {CHANGED:g}, dbt's own apart",
        met=full < FULL and changed < CHANGED,
        unit="CPU s",
        warm=found["warm"]["ours"],
        dbt={name: round(each["dbt"], 2) for name, each in found.items()},
        stages={
            name: {k: v for k, v in each.items() if k not in ("ours", "dbt")}
            for name, each in found.items()
        },
        tables=tables,
        domains=domains,
        built=not words.no_build,
        macros=words.macros,
    )


if __name__ == "__main__":
    sys.exit(main())
