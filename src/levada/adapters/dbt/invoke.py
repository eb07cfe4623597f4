"""One call of dbt inside this process: quiet, without network, without the author's profiles.

Only a domain's process may import this module's dbt; see `worker`.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = [
    "IN_MEMORY",
    "close_connections",
    "inside",
    "invoke",
    "line_of",
    "place",
    "plain_locks",
    "reads",
    "sentence",
]

IN_MEMORY: Mapping[str, object] = {"type": "duckdb", "path": ":memory:"}

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_HEADER = re.compile(r"^(\w+ Error|Encountered an error)\b.*$")
_FILE = re.compile(r"(?<![\w/.])([\w./-]*?[\w-]+\.(?:sql|ya?ml|py|csv|md))\b")
_LINE = re.compile(r"\bline (\d+)\b", re.IGNORECASE)
_FIELD = re.compile(r'^Field "(\w+)" of type .* in \w+ has invalid value (.*)$')
_YAML = re.compile(r"^.*?\bSyntax error near line \d+ .* Raw Error: (.*)$")
_MARK = re.compile(r' in "<unicode string>", line \d+, column \d+')
_CYCLE = re.compile(r"Found a cycle: \w+\.\w+\.(\w+)\S* --> (?:.* --> )?\w+\.\w+\.(\w+)")
_UNDEFINED = re.compile(r"'(\w+)' is undefined")
_NOISE = ("> in macro", "Error encountered in ")
_ECHO = re.compile(r"LINE (\d+): (.*)")
_SECRET = re.compile(r"(password\s*=\s*|://[^:@/\s]*:)('[^']*'|[^\s'\"@]+)", re.IGNORECASE)
_LONGEST = 700


def invoke(
    command: Sequence[str],
    *,
    project_dir: Path,
    profile: Mapping[str, object],
    log_dir: Path,
    manifest: Any = None,
    listener: Callable[[Any], None] | None = None,
) -> Any:
    """Run a dbt command; returns dbt's own result. The listener hears dbt's events."""
    from dbt.cli.main import dbtRunner

    plain_locks()
    log_dir.mkdir(parents=True, exist_ok=True)
    with _profiles(project_dir, profile) as (folder, name):
        arguments = [
            "--quiet",
            "--no-print",
            "--no-use-colors",
            "--no-use-colors-file",
            "--no-send-anonymous-usage-stats",
            f"--log-path={log_dir}",
            *command,
            "--no-write-json",
            "--no-partial-parse",
            f"--project-dir={project_dir}",
            f"--profiles-dir={folder}",
            f"--profile={name}",
            "--target=levada",
            f"--target-path={log_dir / 'target'}",
        ]
        callbacks = [listener] if listener else []
        return dbtRunner(manifest=manifest, callbacks=callbacks).invoke(arguments)


def plain_locks() -> None:
    """
    Make multiprocessing's locks those of threads: in a process that runs dbt nothing else uses
    them. Real ones lie in memory that all programs share, where a confined process may not go, and
    some start one more process that watches over them. To be called when dbt is imported.
    """
    from multiprocessing import synchronize

    def lock(*, ctx: object) -> object:  # noqa: ARG001 - as multiprocessing calls it
        return threading.Lock()

    def reentrant(*, ctx: object) -> object:  # noqa: ARG001
        return threading.RLock()

    setattr(synchronize, "Lock", lock)  # noqa: B010
    setattr(synchronize, "RLock", reentrant)  # noqa: B010


@contextmanager
def _profiles(project_dir: Path, profile: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """A profiles folder for this call alone; it may hold credentials, so nobody else reads it."""
    output = {**_literal(profile), "threads": 1}
    name = _profile_name(project_dir)
    with tempfile.TemporaryDirectory(prefix="levada-dbt-") as folder:
        document = {name: {"target": "levada", "outputs": {"levada": output}}}
        target = Path(folder, "profiles.yml")
        target.write_text(json.dumps(document, default=str), encoding="utf-8")  # JSON is YAML
        yield folder, name


def _literal(value: Any) -> Any:
    """The value such that dbt, which renders profiles as Jinja, reads it as it is."""
    if isinstance(value, Mapping):
        return {key: _literal(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_literal(item) for item in value]
    if isinstance(value, str) and any(mark in value for mark in ("{{", "{%", "{#")):
        return "{% raw %}" + value + "{% endraw %}"
    return value


def _profile_name(project_dir: Path) -> str:
    import yaml

    try:
        document = yaml.safe_load((project_dir / "dbt_project.yml").read_text(encoding="utf-8"))
        name = document.get("profile")
    except (OSError, yaml.YAMLError, AttributeError):
        name = None  # dbt tells what is wrong with the file
    return name if isinstance(name, str) and "{" not in name else "levada"


def close_connections() -> None:
    """Let go of the DuckDB file, which dbt keeps open (and locked) between calls."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager

    DuckDBConnectionManager.close_all_connections()  # type: ignore[no-untyped-call,unused-ignore]


def reads(node: Any) -> list[str]:
    """The nodes that a node of a manifest reads. Seeds read none, and raise when asked."""
    return [] if node.resource_type == "seed" else list(node.depends_on.nodes)


def sentence(message: object) -> str:
    r"""
    The words of dbt itself, without its headings, carets and colours.

    >>> sentence("Runtime Error in model a (models/a.sql)\n  Binder Error: no column x\n\n  "
    ...          "LINE 3: select x\n                 ^")
    'Binder Error: no column x'
    >>> sentence("IO Error: unable to connect to Postgres at host=a user=b password=c dbname=d")
    'IO Error: unable to connect to Postgres at host=a user=b password=*** dbname=d'
    >>> sentence('Field "type" of type ConstraintType in ColumnConstraint has invalid value 3')
    'type is 3, which dbt does not read'
    >>> sentence('Syntax error near line 2\n1 | a: b: c\n\nRaw Error:\nno mapping here\n'
    ...          '  in "<unicode string>", line 1, column 5')
    'is no YAML: no mapping here'
    """
    lines = [line.strip() for line in _ANSI.sub("", str(message)).splitlines()]
    lines = [line for line in lines if line and not set(line) <= set("^~ -")]
    if len(lines) > 1 and _HEADER.match(lines[0]):
        del lines[0]
    told = [line for line in lines if not _ECHO.match(line) and not line.startswith(_NOISE)]
    text = " ".join(told or lines).removeprefix("at path []: ")
    text = _FIELD.sub(r"\1 is \2, which dbt does not read", text)
    text = _MARK.sub("", _YAML.sub(r"is no YAML: \1", text))
    text = _SECRET.sub(r"\1***", text)  # what is said here is recorded, and read by every domain
    half = _LONGEST // 2  # a statement may stand between dbt's words and the database's
    return text if len(text) <= _LONGEST else f"{text[: half - 3]} ... {text[-half + 2 :]}"


def place(message: object, project_dir: Path, path: str = "") -> tuple[str, int]:
    """File (from the project's folder) and line that dbt, or DuckDB, means; line 0 if unknown."""
    text = _ANSI.sub("", str(message))
    if circle := _CYCLE.search(text):  # the last one named is read by the first
        path = _find(project_dir, f"{circle[1]}.sql")
        called = rf"ref\s*\(.*?['\"]{circle[2]}['\"]"
        return path or "dbt_project.yml", line_of(project_dir / path, called, pattern=True)
    if not path:
        named = (match.group(1) for match in _FILE.finditer(text))
        path = next((found for name in named if (found := _find(project_dir, name))), "")
        path = path or "dbt_project.yml"
    echo = _ECHO.search(text)
    if echo:  # a line of the statement that was sent: look for the same text in the file
        return path, line_of(project_dir / path, echo.group(2).strip().strip("."))
    if undefined := _UNDEFINED.search(text):
        return path, line_of(project_dir / path, rf"\b{undefined.group(1)}\b", pattern=True)
    said = _LINE.search(text)
    return path, int(said.group(1)) if said else 0


def _find(project_dir: Path, name: str) -> str:
    """The file that dbt names, from the project's folder or from that of its models."""
    if (project_dir / name).is_file():
        return name
    found = [path for path in project_dir.rglob(Path(name).name) if path.as_posix().endswith(name)]
    return found[0].relative_to(project_dir).as_posix() if len(found) == 1 else ""


def line_of(path: Path, text: str, *, pattern: bool = False) -> int:
    """The first line of a file that holds a text (or matches a pattern); 0 if none does."""
    if not text:
        return 0
    wanted = re.compile(text if pattern else re.escape(text))
    try:
        content = path.read_text(encoding="utf-8")
    except OSError:
        return 0
    found = wanted.search(content)
    return content.count("\n", 0, found.start()) + 1 if found else 0


def inside(root: Path, path: Path) -> str:
    """A path as the mesh's root sees it."""
    return Path(os.path.relpath(path, root)).as_posix()
