"""
SQL linted for `levada check`: in a child process of its own, beside dbt.

A `.sqlfluff` may name Python to be imported: linting is the domain's code, and holds none of the
platform's credentials. LV01 to LV03 always run, since what they tell makes the wiring wrong; the
rules of taste, LV04 and LV05, run where a project's `.sqlfluff` selects them by name or by group.
"""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import astuple
from fnmatch import fnmatchcase
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from levada.adapters.remembered import Memory, Nothing
from levada.errors import Fault, ToolError

if TYPE_CHECKING:
    from sqlfluff.core import FluffConfig
    from sqlfluff.core.templaters import TemplatedFile

    from levada.adapters.sqlfluff.quick import Asked

__all__ = ["Linting", "lint", "main", "told_once"]

_LAW = ("LV01", "LV02", "LV03")
_TASTE = {"LV04": "levada.table_names", "LV05": "levada.complexity"}
_GROUP = "levada"
_NEVER_RUN = "LT01"
"""A rule of SQLFluff's own: to leave it out leaves out nothing."""
_DIALECT = "duckdb"
_PROGRAM = "from levada.adapters.sqlfluff.linting import main; main()"
_INLINE = re.compile(r"^--\s*sqlfluff:(?!rules:levada\.(?:table_names|complexity):)", re.MULTILINE)
_NOQA = re.compile(r"\bnoqa\b(?!\s*:\s*LV0[45](?:\s*,\s*LV0[45])*\s*(?:[-#]|$))", re.MULTILINE)
"""A comment that silences more than taste."""
_UNREAD = "does not parse"
_LIMIT = 600.0


class Linting:
    """
    The models of some domains, linted beside whatever the caller does next; those that a memory
    knows to be sound are left out, and where none is left there is no child.

    Raises ToolError from `faults` where the child dies or says nothing in ten minutes.
    """

    def __init__(self, root: Path, domains: Sequence[str], memory: Memory | None = None) -> None:
        # SQLFluff loads this package in any project: there it must import nothing of a mesh.
        from levada.adapters.sqlfluff.kept import Sound

        self._root = root
        self._sound = Sound(memory or Nothing(), root, domains)
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        from levada.adapters.dbt.worker import scrubbed

        unknown = self._sound.unknown()
        if not unknown:
            return self
        self._said = tempfile.TemporaryFile("w+")
        # The settings of the mesh count, not those of whoever checks it.
        own = {"HOME": str(self._root), "XDG_CONFIG_HOME": str(self._root / ".config")}
        with tempfile.TemporaryFile("w+") as asked:
            json.dump([str(path) for path in unknown], asked)
            asked.seek(0)
            self._process = subprocess.Popen(
                # -P: no folder of the mesh may stand in for a module.
                [sys.executable, "-P", "-c", _PROGRAM, str(self._root)],
                env=scrubbed(os.environ) | own,
                cwd=self._root,
                stdin=asked,
                stdout=subprocess.PIPE,
                stderr=self._said,
                text=True,
                start_new_session=True,  # Ctrl-C is for us, who then end it
            )
        return self

    def faults(self) -> tuple[Fault, ...]:
        """Every fault, once the child has ended."""
        if self._process is None:
            return ()
        try:
            said, _ = self._process.communicate(timeout=_LIMIT)
        except subprocess.TimeoutExpired:
            raise ToolError("sqlfluff", f"no answer in {_LIMIT:g} s") from None
        if self._process.returncode:
            self._said.seek(0)
            last = self._said.read().strip().splitlines()[-1:] or ["it said nothing"]
            raise ToolError("sqlfluff", last[0])
        found = tuple(Fault(*each) for each in json.loads(said))
        self._sound.keep({fault.path for fault in found})
        return found

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()
        self._said.close()


def told_once(linted: Sequence[Fault], others: Sequence[Fault]) -> tuple[Fault, ...]:
    """
    The faults of SQL and all others, without what the others say again: dbt tells an unpromised
    read too, and the warehouse what does not parse.

    >>> lv = Fault("m.sql", 3, "LV02: model m reads fleet.x, which nobody promises", "promise it")
    >>> dbt = Fault("m.sql", 1, "model m reads fleet.x, which nobody promises")
    >>> told_once([lv], [dbt, Fault("n.sql", 1, "wrong")]) == (lv, Fault("n.sql", 1, "wrong"))
    True
    """
    said = {(fault.path, fault.wrong.partition(": ")[2]) for fault in linted}
    rest = [
        fault
        for fault in others
        if (fault.path, fault.wrong) not in said
        and not any(_same(each, fault) for each in linted if each.path == fault.path)
    ]
    return (*linted, *rest)


def _same(linted: Fault, other: Fault) -> bool:
    """Whether the empty build tells of a file what was told of its SQL."""
    if linted.wrong.startswith(_UNREAD):
        return "Parser Error" in other.wrong
    missing = re.search(r'Catalog Error: Table with name "?([\w.]+)"? does not exist', other.wrong)
    return bool(missing and linted.wrong.startswith("LV01") and missing[1] in linted.wrong)


def main() -> None:
    """The child: lints the models that it reads the names of, and writes the faults as JSON."""
    root, paths = Path(sys.argv[1]), [Path(path) for path in json.load(sys.stdin)]
    answer = sys.stdout
    sys.stdout = sys.stderr  # whatever SQLFluff prints is no answer
    faults = lint(root, paths)
    json.dump([astuple(fault) for fault in faults], answer)
    answer.flush()


def lint(root: Path, paths: Sequence[Path]) -> tuple[Fault, ...]:
    """
    Every fault of Levada's rules in these models of a mesh, and what does not parse, in this
    process. The jinja templater is used whatever a project says: no warehouse is needed for it.
    """
    from sqlfluff.core.config import clear_config_caches

    from levada.adapters.sqlfluff import facts

    clear_config_caches()
    _config.cache_clear()
    _rules.cache_clear()
    facts.forget()
    faults = [fault for path in paths for fault in _faults(root, path)]
    return tuple(sorted(set(faults)))


def _faults(root: Path, path: Path) -> Iterator[Fault]:
    from sqlfluff.core import Linter
    from sqlfluff.core.errors import (
        SQLFluffUserError,
        SQLLexError,
        SQLLintError,
        SQLParseError,
        SQLTemplaterError,
    )

    from levada.adapters.sqlfluff import quick
    from levada.adapters.sqlfluff.facts import here

    shown = path.relative_to(root).as_posix()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        yield Fault(shown, 0, f"cannot be read: {error}", "write it as UTF-8")
        return
    try:
        config = _config(root, path.parent)
    except (SQLFluffUserError, KeyError, ValueError) as error:
        yield Fault(shown, 0, f"cannot be linted: {error}", "mend the .sqlfluff above it")
        return
    rules, asked = _rules(root, path.parent)
    model = here(path) if asked else None
    if model and asked and quick.sound(model, text, asked):
        return
    linter = Linter(config=config)
    try:
        linted = linter.lint_string(_lawful(text), fname=str(path), config=config)
    except Exception:  # what an author's jinja raises; dbt's parse tells it
        yield from _without_tree(path, text, shown, rules)
        return
    violations = linted.get_violations()
    for each in violations:
        if isinstance(each, SQLLintError) and each.rule_code().startswith("LV"):
            if each.desc().startswith("Unexpected exception"):
                raise ToolError("sqlfluff", f"{each.rule_code()} on {shown}: {each.desc()}")
            wrong, _, right = each.desc().partition("; ")
            yield Fault(shown, each.line_no, f"{each.rule_code()}: {wrong}", right)
    if linted.tree is None:
        yield from _without_tree(path, text, shown, rules)
    broken = [each.line_no for each in violations if isinstance(each, SQLParseError | SQLLexError)]
    if broken and not any(isinstance(each, SQLTemplaterError) for each in linted.violations):
        rendered = linter.render_string(text, str(path), config, "utf8").templated_variants[:1]
        for file in rendered:
            yield from _unread(file, str(config.get("dialect")), shown, broken[0])


@functools.cache
def _config(root: Path, folder: Path) -> FluffConfig:
    """The project's own settings for the models of a folder, with Levada's rules."""
    from sqlfluff.core import FluffConfig

    def load(**core: str) -> Any:
        return FluffConfig.from_path(str(folder), overrides={**core}, require_dialect=False)

    said = load(templater="jinja")
    config = load(
        templater="jinja",
        dialect=said.get("dialect") or _DIALECT,
        rules=",".join(
            [*_LAW, *(code for code, name in _TASTE.items() if _chosen(said, code, name))]
        ),
        # Whoever is held to a law does not let himself off: these would.
        exclude_rules=_NEVER_RUN,
        warnings=_NEVER_RUN,
        ignore=",".join(
            [*(each for each in said.get("ignore") or () if each != "linting"), "templating"]
        ),
    )
    config.set_value(["templater", "jinja", "apply_dbt_builtins"], "True")
    own = root / "models" / folder.relative_to(root).parts[1] / "macros"
    others = config.get_section(("templater", "jinja", "load_macros_from_path"))
    folders = [*([str(others)] if others else []), *([str(own)] if own.is_dir() else [])]
    if folders:
        config.set_value(["templater", "jinja", "load_macros_from_path"], ",".join(folders))
    return config  # type: ignore[no-any-return]


@functools.cache
def _rules(root: Path, folder: Path) -> tuple[frozenset[str], Asked | None]:
    """
    The rules that run in a folder, and what they ask; not told where the project's settings leave
    the answer to SQLFluff alone. Macros of other folders than the project's are not dbt's.
    """
    from sqlfluff.core import FluffConfig, Linter

    from levada.adapters.sqlfluff.quick import Asked

    config = _config(root, folder)
    pack = Linter(config=config).get_rulepack()
    rules: dict[str, Any] = {rule.code: rule for rule in pack.rules}
    jinja = {**config.get_section(("templater", "jinja"))}
    usual = {**FluffConfig(require_dialect=False).get_section(("templater", "jinja"))}
    for known in ("apply_dbt_builtins", "load_macros_from_path"):
        jinja.pop(known, None)
        usual.pop(known, None)
    if not (rules.keys() <= {*_LAW, *_TASTE} and config.get("dialect") == _DIALECT):
        return frozenset(rules), None
    if jinja != usual:
        return frozenset(rules), None
    layers = str(getattr(rules.get("LV03"), "source_layers", "") or "").split(",")
    names, most = rules.get("LV04"), rules.get("LV05")
    return frozenset(rules), Asked(
        tuple(each.strip() for each in layers if each.strip()),
        (names.table_names or "", names.private_names or "") if names else None,
        most.budget if most else None,
    )


def _chosen(config: Any, code: str, name: str) -> bool:
    selected = [each for each in config.get("rule_allowlist") or () if each != "all"]
    refused = config.get("rule_denylist") or ()
    known = (code, name, _GROUP)
    return any(fnmatchcase(word, each) for each in selected for word in known) and not any(
        fnmatchcase(word, each) for each in refused for word in known
    )


def _lawful(text: str) -> str:
    """A model without the settings in it that would let it off the law; every place stays."""
    text = _INLINE.sub(lambda said: "--" + " " * (len(said[0]) - 2), text)
    return _NOQA.sub("n_qa", text)


def _without_tree(path: Path, text: str, shown: str, rules: frozenset[str]) -> Iterator[Fault]:
    """What the text alone tells, where its jinja could not be rendered."""
    from levada.adapters.sqlfluff import decisions
    from levada.adapters.sqlfluff.facts import here
    from levada.adapters.sqlfluff.jinja import line_of, reads
    from levada.terms.layers import LAYERS

    model = here(path)
    if model is None:
        return
    found = reads(text, model.facts.macros(model.domain))
    told = [("LV02", each) for each in decisions.promised_only(model, found)]
    told += [("LV03", each) for each in decisions.layer_order(model, found, LAYERS)]
    for code, each in told:
        line = line_of(text, each.start)
        if code in rules:
            yield Fault(shown, line, f"{code}: {each.wrong}", each.right)


def _unread(file: TemplatedFile, dialect: str, shown: str, line: int) -> Iterator[Fault]:
    """
    What does not parse, if DuckDB itself says so: SQLFluff's grammar of a dialect is narrower than
    the dialect. What jinja left out cannot be judged here; the empty build does it.
    """
    import duckdb

    if dialect != _DIALECT:
        yield Fault(shown, line, f"{_UNREAD} as {dialect}", "mend the SQL")
        return
    try:
        duckdb.extract_statements(file.templated_str)
    except duckdb.ParserException as error:
        said, _, where = str(error).removeprefix("Parser Error: ").partition("\n")
        echo = re.search(r"LINE (\d+):", where)
        number = _source_line(file, int(echo[1])) if echo else line
        yield Fault(shown, number, f"{_UNREAD}: {said.strip()}", "mend the SQL")


def _source_line(file: TemplatedFile, rendered: int) -> int:
    """The line of the file that a line of its rendering comes from."""
    starts = [0, *(n.end() for n in re.finditer("\n", file.templated_str))]
    at = starts[min(rendered, len(starts)) - 1]
    place = file.templated_slice_to_source_slice(slice(at, at))
    number, _ = file.get_line_pos_of_char_pos(place.start)
    return number
