"""Which landing zones `levada.yaml` may name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from levada.settings import look, read_settings

HEAD = "mesh: m\nzone: UTC\nspan: {from: 2013-03-08, to: 2013-03-09}\ndomains: [shop]\n"


def named(root: Path, place: str) -> None:
    (root / "levada.yaml").write_text(f"{HEAD}landing:\n  orders: {place}\n")


def test_a_landing_zone_is_a_folder_of_the_project(tmp_path: Path) -> None:
    named(tmp_path, "landing/orders")
    assert read_settings(tmp_path).landing == {"orders": tmp_path / "landing" / "orders"}


@pytest.mark.parametrize(
    "address",
    ["s3://bucket", "s3://bucket/a/b", "gs://b.c/d", "az://c/d", "http://host:80/a", "https://h"],
)
def test_or_a_place_in_an_object_store(tmp_path: Path, address: str) -> None:
    named(tmp_path, f"{address}/")
    assert read_settings(tmp_path).landing == {"orders": address}


@pytest.mark.parametrize(
    ("address", "wrong", "right"),
    [
        ("file:///tmp/orders", "nothing here reads file://", "name a folder, or s3://, gs://"),
        ("hdfs://namenode/orders", "nothing here reads hdfs://", "name a folder, or s3://"),
        ("s3:///orders", "landing zone 'orders' is no plain address", "like s3://bucket/prefix"),
        ("s3://bucket/a/../b", "'orders' is no plain address", "like s3://bucket/prefix"),
        ("https://me:hush@host/a", "'orders' is no plain address", "the environment holds"),
        ("https://host/a?sig=hush", "'orders' is no plain address", "the environment holds"),
        ("s3://bucket/{start:%F}", "'orders' is no plain address", "like s3://bucket/prefix"),
    ],
)
def test_another_address_is_refused_where_it_stands_and_its_secrets_are_not_repeated(
    tmp_path: Path, address: str, wrong: str, right: str
) -> None:
    named(tmp_path, address)
    (fault,) = look(tmp_path)[1]
    assert fault.line == 6
    assert wrong in fault.wrong
    assert right in fault.right
    assert "hush" not in str(fault)


def test_without_its_client_a_store_is_refused_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    named(tmp_path, "s3://bucket/orders")
    (fault,) = look(tmp_path)[1]
    assert (fault.line, fault.right) == (6, "pip install 'levada[objects]'")
    named(tmp_path, "landing/orders")
    assert look(tmp_path)[1] == ()
