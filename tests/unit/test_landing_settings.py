"""Which landing zones `levada.yaml` may name."""

from __future__ import annotations

from pathlib import Path

import pytest

from levada.settings import look, read_settings

HEAD = "mesh: m\nzone: UTC\nspan: {from: 2013-03-08, to: 2013-03-09}\ndomains: [shop]\n"


def test_a_landing_zone_is_a_folder_of_the_project(tmp_path: Path) -> None:
    (tmp_path / "levada.yaml").write_text(f"{HEAD}landing: {{orders: landing/orders}}\n")
    assert read_settings(tmp_path).landing == {"orders": tmp_path / "landing" / "orders"}


@pytest.mark.parametrize("address", ["s3://bucket/orders", "gs://orders", "file:///tmp/orders"])
def test_an_address_is_refused_where_it_stands(tmp_path: Path, address: str) -> None:
    (tmp_path / "levada.yaml").write_text(f"{HEAD}landing:\n  orders: {address}\n")
    (fault,) = look(tmp_path)[1]
    assert fault.line == 6
    assert fault.wrong == f"a landing zone is a folder of this file system, not {address}"
    assert "query" in fault.right
