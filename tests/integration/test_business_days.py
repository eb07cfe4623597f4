"""Days that start at 06:00 in New York and weeks that start on Sunday, through the real command."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import pytest
import tiny
from workspace import Workspace

pytestmark = [pytest.mark.integration, pytest.mark.prove]

DAYS = [f"2013-03-{n:02}" for n in range(3, 11)]
SUNDAY = "day - cast(dayofweek(day) as integer)"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """Sales by business day, and their weeks. Clocks go forward in the night to the 10th."""
    workspace = tiny.mesh(
        tmp_path_factory.mktemp("days") / "mesh", ["shop", "board"], last="2013-03-11"
    )
    settings = workspace.root / "levada.yaml"
    settings.write_text(settings.read_text().replace("{from: 2013-03-08,", "{from: 2013-03-03,"))
    start = (
        "{property: zone, value: America/New_York}\n      - {property: dayStart, value: '06:00'}"
    )
    for domain, name in (("shop", "sales"), ("board", "weeks")):
        tiny.project(workspace, domain, lands=domain == "shop")
        path = tiny.contract(workspace, domain, name)
        path.write_text(path.read_text().replace("{property: zone, value: UTC}", start))
    week = "value: week}\n      - {property: weekStart, value: sunday}"
    path.write_text(path.read_text().replace("value: day}\n", f"{week}\n", 1))
    landing = workspace.root / "models/shop/base/sources.yml"
    calendar = "calendar: America/New_York\n              day_start: '06:00'"
    landing.write_text(landing.read_text().replace("calendar: UTC", calendar))
    sales = f"select {tiny.NUMBERS} from {{{{ source('landing', 'numbers') }}}}"
    tiny.model(workspace, "shop", "sales", sales)
    weeks = (
        f"select 1 as id, {SUNDAY} as day, cast(sum(amount) as integer) as amount"
        f" from {{{{ ref('shop', 'sales') }}}} group by {SUNDAY}"
    )
    tiny.model(workspace, "board", "weeks", weeks)
    for n, day in enumerate(DAYS):
        tiny.landed(workspace, "shop", day, [10**n])
    workspace.start()
    yield workspace
    workspace.stop()


def test_a_week_of_business_days_is_published_under_its_business_date(mesh: Workspace) -> None:
    wrong = mesh.landing / "shop" / "2013-03-09.csv"
    sound = wrong.read_text()
    wrong.write_text(sound.replace("2013-03-09", "2013-03-10"))

    mesh.levada("run", code=1)

    (cause,) = mesh.json("why", "board.weeks", "2013-03-03")["causes"]
    assert (cause["table"], cause["partition"]) == ("shop.sales@1", "2013-03-09")
    assert [check["id"] for check in cause["checks"]] == ["interval", "rows_present"]

    wrong.write_text(sound)
    mesh.levada("run")

    published = [(line[0], *line[1].split("|")) for line in mesh.publications()]
    assert published[0] == (
        "board.weeks@1",
        "week",
        "2013-03-03T11:00:00+00:00",
        "America/New_York@06:00@sunday",
    )
    assert {line[3] for line in published[1:]} == {"America/New_York@06:00"}
    starts = [f"{day}T{10 if day == DAYS[-1] else 11}:00:00+00:00" for day in DAYS]
    assert [line[2] for line in published[1:]] == starts
    with mesh.lake() as lake:
        rows = lake.read("select day, amount from board.main.weeks_v1")
    assert rows == [{"day": date(2013, 3, 3), "amount": 1_111_111}]
