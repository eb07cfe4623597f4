"""What a canary may be called on the command line, and what is said to what it may not."""

from __future__ import annotations

import pytest
from tests.unit.test_gate_changes import majors

from levada.errors import DeclarationError
from levada.flow.canarying import named
from levada.flow.majors import compared


@pytest.mark.parametrize("name", ["operations.flights@bad", "operations@2", "@2", "a.b@²"])
def test_what_names_no_table_is_refused_with_what_would(name: str) -> None:
    with pytest.raises(DeclarationError) as refused:
        named(majors(), name)
    (fault,) = refused.value.faults
    assert "domain.table@2" in fault.right
    with pytest.raises(DeclarationError, match="is no table"):
        compared(majors(), name, "1")


def test_a_new_major_names_its_product() -> None:
    assert named(majors(), "operations.flights@2").id == "operations.flights_v2"
    assert named(majors(), "operations.flights").id == "operations.flights"


@pytest.mark.parametrize(
    ("against", "said"),
    [
        ("fleet.planes@1", "fleet.planes@1 is no major of it"),
        ("fleet.planes", "fleet.planes@1 is no major of it"),
        ("first", "'first' is no major of it"),
        ("operations.flights@x", "'operations.flights@x' is no major of it"),
        ("2", "is compared with itself"),
        ("7", "no table operations.flights@7"),
        # What follows names the old major, and lacks nothing but the gate.
        ("1", "no gate of operations.flights@2 compares it with operations.flights@1"),
        ("operations.flights@1", "no gate of operations.flights@2 compares it with"),
    ],
)
def test_a_major_is_compared_with_one_of_its_own_table(against: str, said: str) -> None:
    with pytest.raises(DeclarationError) as refused:
        compared(majors(), "operations.flights@2", against)
    assert said in refused.value.faults[0].wrong
