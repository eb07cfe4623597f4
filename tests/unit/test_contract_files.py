"""Files that are no contract, or look like one: each has one message, with its line, at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from contract_files import GOOD, PLANES, write

from levada.adapters import odcs
from levada.adapters.yaml12 import parse
from levada.errors import Fault

NAME = "contracts/operations/flights.v1.odcs.yaml"


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) >= 1, "the case changes nothing"
    return GOOD.replace(old, new, 1)


LAUGHS = "a0: &a0 [ha, ha]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30)
)

# The bytes of a file; the line of its fault; what it says.
FILES: dict[str, tuple[str | bytes, int, str]] = {
    "an empty file": ("", 1, "is empty"),
    "a file of comments": ("# later\n", 1, "is empty"),
    "an empty document": ("---\n", 1, "is empty"),
    "a list": ("- a\n", 1, "holds no keys"),
    "a word": ("hello", 1, "holds no keys"),
    "no YAML": (changed("version: 1.2.0", "version: [1.2.0"), 5, "is no YAML"),
    "another encoding": (changed("Every", "Évery").encode("latin-1"), 7, "0xc9; write it as UTF-8"),
    "UTF-16": (GOOD.encode("utf-16"), 1, "is not UTF-8"),
    "a null byte": (changed("active", "act\0ive"), 5, "holds the character U+0000"),
    "a bell": (changed("active", "act\aive"), 5, "holds the character U+0007"),
    "a tab": (changed("  name: operations-data", "\tname: operations-data"), 9, "with spaces"),
    "two documents": (GOOD + "---\n" + GOOD, GOOD.count("\n") + 1, "one file holds one document"),
    "an alias": (
        changed("version: 1.2.0\nstatus: active", "version: &v 1.2.0\nstatus: *v"),
        5,
        "status is the alias '*v'",
    ),
    "an alias of nothing": (changed("status: active", "status: *s"), 5, "undefined alias"),
    "an alias as a key": (
        changed("status: active", "status: active\n? &k name\n: x\n*k : y"),
        8,
        "the key is the alias '*k'",
    ),
    "a tag of Python": (
        changed("status: active", "status: !!python/object/apply:os.system [x]"),
        5,
        "status has the tag '!!python/object/apply:os.system', which is not read",
    ),
    "a tag of a date": (changed("version: 1.2.0", "version: !!timestamp 2013-01-01"), 4, "tag"),
    "a tag of a set": (changed("{purpose: Every flight out of New York.}", "!!set {a}"), 7, "tag"),
    "a number that is none": (changed("mustBe: 0", "mustBe: !!float .nan"), 20, "tag '!!float'"),
    "a number without end": (changed("mustBe: 0", "mustBe: 1e999"), 20, "too large"),
    "a number of many digits": (changed("mustBe: 0", f"mustBe: 1{'0' * 5000}"), 20, "too large"),
    "half a character": (
        changed("Every flight out of New York.", '"\\ud800"'),
        7,
        "half a character",
    ),
    "a key that is a number": (changed("status: active", "status: active\n1: x"), 6, "'1' is no"),
    "a key that is nothing": (changed("status: active", "status: active\n~: x"), 6, "'~' is no"),
    "a key that is a list": (changed("status: active", "status: active\n? [a]\n: x"), 6, "no text"),
    "a key that is a map": (changed("status: active", "status: active\n? {a: b}\n: x"), 6, "text"),
    "a key said twice": (
        changed("status: active", "status: active\nid: x"),
        6,
        "'id' is said twice",
    ),
    "a merge": (changed("status: active", "status: active\n<<: {name: x}"), 6, "unknown key '<<'"),
    "a nest": ("x: " + "[" * 9999 + "]" * 9999, 1, "nested too deep"),
    "a nest of maps": ("".join(f"{' ' * n}a:\n" for n in range(300)), 52, "nested too deep"),
    "a file without end": (GOOD + "#" * 10_000_000, 1, "a declaration has at most 1,000,000"),
}


def told(root: Path) -> tuple[Fault, ...]:
    contracts, found = odcs.read_contracts(root)
    assert contracts == ()
    return found


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_is_no_contract_has_one_message_with_its_line(
    case: str, tmp_path: Path
) -> None:
    content, line, words = FILES[case]
    write(tmp_path, "").write_bytes(content if isinstance(content, bytes) else content.encode())
    (fault,) = told(tmp_path)
    assert (fault.path, fault.line) == (NAME, line)
    assert words in f"{fault.wrong}; {fault.right}"
    assert str(tmp_path) not in str(fault)


def test_aliases_upon_aliases_are_told_and_not_followed(tmp_path: Path) -> None:
    write(tmp_path, LAUGHS + GOOD)
    found = told(tmp_path)
    assert any("a29[8] is the alias '*a28'" in fault.wrong for fault in found)
    assert len(found) == 29 * 9 + 30, "each alias and each unknown key, once"


def test_an_alias_of_itself_ends(tmp_path: Path) -> None:
    write(tmp_path, "a: &a [*a]\n" + GOOD)
    assert {"a[0] is the alias '*a', which is not read"} < {fault.wrong for fault in told(tmp_path)}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.mkdir(), "is a directory; a declaration is a file"),
        (lambda path: path.symlink_to(path.name), "Too many levels of symbolic links"),
        (lambda path: path.symlink_to("nowhere"), "No such file"),
        (os.mkfifo, "is a pipe"),
    ],
    ids=["a directory", "a link to itself", "a link to nothing", "a pipe"],
)
def test_what_is_no_file_is_told_and_not_waited_for(
    make: object, words: str, tmp_path: Path
) -> None:
    path = write(tmp_path, "")
    path.unlink()
    make(path)  # type: ignore[operator]
    (fault,) = told(tmp_path)
    assert fault.path == NAME
    assert words in f"{fault.wrong}; {fault.right}"
    assert str(tmp_path) not in str(fault)


def test_a_folder_that_leads_back_to_itself_is_not_followed(tmp_path: Path) -> None:
    write(tmp_path, PLANES, "fleet/planes.v1.odcs.yaml")
    (tmp_path / "contracts" / "fleet" / "again").symlink_to(tmp_path / "contracts")
    contracts, found = odcs.read_contracts(tmp_path)
    assert (len(contracts), found) == (1, ())


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + GOOD.encode(),
        GOOD.replace("\n", "\r\n").encode(),
        changed("status: active", "status: active\ncontractCreatedTs: 2013-01-01").encode(),
        changed("status: active", "status: &unused active").encode(),
    ],
    ids=["a byte-order mark", "lines of Windows", "a date without quotes", "an anchor alone"],
)
def test_what_only_looks_odd_is_read(content: bytes, tmp_path: Path) -> None:
    write(tmp_path, "").write_bytes(content)
    contracts, found = odcs.read_contracts(tmp_path)
    assert (len(contracts), found) == (1, ())
    assert odcs.document(contracts[0], tmp_path)


def test_a_file_with_faults_of_every_kind_tells_them_all_at_once(tmp_path: Path) -> None:
    text = changed("status: active", "status: &s active\nname: *s\nstatsu: x\n1: x\nid: y")
    text = text.replace("metric: rowCount", "metric: rowCount, mustBe: 1")
    write(tmp_path, text.replace("mustBe: 0", "mustBe: 1e999"))
    lines = {fault.line for fault in told(tmp_path)}
    assert {6, 7, 8, 9, 23, 24} <= lines


def test_two_contracts_for_one_table_and_major_name_each_other(tmp_path: Path) -> None:
    write(tmp_path, PLANES, "fleet/planes.v1.odcs.yaml")
    write(tmp_path, PLANES, "fleet/aircraft.v1.odcs.yaml")
    contracts, found = odcs.read_contracts(tmp_path)
    assert [contract.path for contract in contracts] == ["contracts/fleet/planes.v1.odcs.yaml"]
    assert {fault.path for fault in found} == {"contracts/fleet/aircraft.v1.odcs.yaml"}
    assert any("is promised in contracts/fleet/planes.v1.odcs.yaml too" in f.wrong for f in found)


def test_another_tool_s_file_may_share_its_words() -> None:
    source, found = parse("a.yml", "a: &x {b: 1}\nc: {<<: *x, d: 2}\n1: &r [*r]", strict=False)
    assert found == ()
    assert source is not None
    assert source.value == {"a": {"b": 1}, "c": {"b": 1, "d": 2}, "1": [None]}
