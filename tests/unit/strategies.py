"""Small meshes, and a ledger in memory to walk them through their lives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from levada.intervals import default_mapping, parse
from levada.ports import Want
from levada.readiness import Judge
from levada.sense import want
from levada.terms import (
    Attempt,
    Check,
    CheckResult,
    Claim,
    Contract,
    Dependency,
    Facts,
    Grain,
    Landing,
    Latest,
    Layer,
    Mart,
    Mesh,
    OnRestatement,
    Owner,
    Partition,
    PartitionMapping,
    ProbeFailure,
    Product,
    Publication,
    Source,
    Span,
    TableRef,
    Tampering,
    Verdict,
    WaitPolicy,
    Waiver,
)

NEW_YORK = "America/New_York"
NOW = datetime(2013, 6, 1, 12, tzinfo=UTC)
AS_OF = OnRestatement("ignore", "as of")


def ref(name: str) -> TableRef:
    return TableRef.parse(name)


def make_source(name: str, grain: Grain, zone: str = NEW_YORK) -> Source:
    table = ref(name)
    return Source(
        table, grain, zone, f"{name}/{{start}}.csv", (), name, Owner(f"{table.domain}-in")
    )


def make_mart(
    table: str,
    grain: Grain,
    edges: Sequence[Dependency] = (),
    *,
    code: str = "1",
    version: str = "",
) -> Mart:
    made = ref(table)
    version = version or f"{made.major}.0.0"
    contract = Contract(
        id=f"c-{made.domain}-{made.name}",
        version=version,
        status="active",
        table=made,
        product=made.name,
        grain=grain,
        zone=NEW_YORK,
        interval_column=None,
        columns=(),
        checks=(),
        owner=Owner(made.domain),
        description="",
        hash=f"h{version}",
        path="",
    )
    return Mart(made, Layer.BASE, table, contract, tuple(edges), "", code)


def edge(
    upstream: str,
    downstream: str,
    mapping: PartitionMapping,
    *,
    wait: WaitPolicy | None = None,
    required: bool = True,
    action: str = "",
    any_of: str = "",
) -> Dependency:
    default = AS_OF if isinstance(mapping, Latest) else OnRestatement()
    restated = OnRestatement(action, "told so" if action == "ignore" else "") if action else default
    return Dependency(
        *(ref(upstream), ref(downstream), mapping, wait or WaitPolicy(), required, restated),
        any_of=any_of,
    )


def make_product(name: str, grain: Grain, *marts: Mart, zone: str = NEW_YORK) -> Product:
    domain, _, bare = name.partition(".")
    return Product(domain, bare, marts, grain, zone)


def single(name: str, grain: Grain, *edges: Dependency, code: str = "1") -> Product:
    """A product of one table of its own name."""
    return make_product(name, grain, make_mart(name, grain, edges, code=code))


def make_mesh(
    products: Sequence[Product],
    sources: Sequence[Source],
    first: str = "2013-03-04",
    last: str = "2013-03-17",
) -> Mesh:
    span = Span.days(first, last, NEW_YORK)
    return Mesh("test", span, NEW_YORK, span.start, tuple(products), tuple(sources))


def little_mesh(within: timedelta | None = None, **span: str) -> Mesh:
    """Flights by day, weather by hour, planes undivided; joined by day and rolled up by week."""
    sources = (
        make_source("operations.landing.flights", Grain.DAY),
        make_source("weather.landing.hours", Grain.HOUR),
        make_source("fleet.landing.planes", Grain.WHOLE),
    )
    grains = {str(s.table): s.grain for s in sources}
    grains |= {"operations.flights": Grain.DAY, "weather.observations": Grain.HOUR}

    def reads(upstream: str, downstream: str, grain: Grain) -> Dependency:
        mapping = default_mapping(grains[upstream], NEW_YORK, grain, NEW_YORK)
        return edge(upstream, downstream, mapping)

    daily = "company.daily"
    products = (
        single("company.weekly", Grain.WEEK, edge(daily, "company.weekly", _rollup())),
        single(
            daily,
            Grain.DAY,
            reads("operations.flights", daily, Grain.DAY),
            reads("weather.observations", daily, Grain.DAY),
            edge("fleet.planes", daily, Latest(within)),
        ),
        single(
            "operations.flights",
            Grain.DAY,
            reads("operations.landing.flights", "operations.flights", Grain.DAY),
        ),
        single(
            "weather.observations",
            Grain.HOUR,
            reads("weather.landing.hours", "weather.observations", Grain.HOUR),
        ),
        single(
            "fleet.planes",
            Grain.WHOLE,
            reads("fleet.landing.planes", "fleet.planes", Grain.WHOLE),
        ),
    )
    return make_mesh(products, sources, **span)


def _rollup() -> PartitionMapping:
    return default_mapping(Grain.DAY, NEW_YORK, Grain.WEEK, NEW_YORK)


def failing_check(table: str, check: str = "distance.positive", count: int = 3) -> CheckResult:
    return CheckResult(Check(check, "invalidValues"), ref(table), Verdict.FAIL, count=count)


class World:
    """A mesh and the facts of its ledger, changed as a run would change them."""

    def __init__(self, mesh: Mesh, now: datetime = NOW) -> None:
        self.mesh, self.now = mesh, now
        self.lines: dict[tuple[TableRef, Partition], Publication | Landing] = {}
        self.attempts: dict[tuple[str, Partition], Attempt] = {}
        self.claims: dict[tuple[str, Partition], Claim] = {}
        self.tampered: dict[TableRef, Tampering] = {}
        self.pardons: dict[tuple[str, Partition], int] = {}
        self.waivers: tuple[Waiver, ...] = ()
        self.probes: dict[TableRef, ProbeFailure] = {}
        self.position = 0

    @property
    def facts(self) -> Facts:
        return Facts(
            *(dict(self.lines), dict(self.attempts), dict(self.claims), self.position),
            *(dict(self.tampered), dict(self.pardons), self.waivers, dict(self.probes)),
        )

    def slice(self, table: str | TableRef, key: str) -> Partition:
        table = ref(table) if isinstance(table, str) else table
        grain, zone = self.mesh.slicing(table)
        return parse(grain, key, zone)

    def judge(self) -> Judge:
        return Judge(self.mesh, self.facts, self.now)

    def silence(self, table: str) -> None:
        self.probes[ref(table)] = ProbeFailure(ref(table), "connection refused", self.now)

    def tick(self) -> int:
        self.position += 1
        return self.position

    def land(self, table: str, at: Partition | str, content: str = "a") -> Landing:
        key = (ref(table), self.slice(table, at) if isinstance(at, str) else at)
        before = self.lines.get(key)
        generation = before.generation + 1 if before else 1
        line = Landing(
            *key, generation, content, f"{table}/{key[1]}", 1, self.now, position=self.tick()
        )
        self.lines[key] = line
        return line

    def publish(self, product: str, at: Partition | str, content: str | None = None) -> None:
        """Build from what `want` pins and publish; the content follows the inputs unless given."""
        made = self.mesh.product(product)
        partition = self.slice(made.marts[0].table, at) if isinstance(at, str) else at
        asked = want(self.mesh, made, partition, self.facts, self.now)
        assert isinstance(asked, Want), f"{product} {partition}: {asked}"
        position = self.tick()
        for mart in made.marts:
            key = (mart.table, partition)
            before = self.lines.get(key)
            contract = mart.contract
            self.lines[key] = Publication(
                *key,
                before.generation + 1 if before else 1,
                f"{contract.id} {contract.version} {contract.hash}",
                Verdict.PASS,
                f"{made.domain}-{position}",
                content or f"{mart.table}:{asked.fingerprint[:12]}",
                asked.fingerprint,
                asked.inputs,
                asked.taint,
                f"run-{position}",
                self.now,
                position,
            )
        self.attempts.pop((made.id, partition), None)

    def attempt(
        self,
        product: str,
        at: Partition | str,
        verdict: Verdict,
        results: Sequence[CheckResult] = (),
        not_before: datetime | None = None,
    ) -> Attempt:
        made = self.mesh.product(product)
        partition = self.slice(made.marts[0].table, at) if isinstance(at, str) else at
        asked = want(self.mesh, made, partition, self.facts, self.now)
        assert isinstance(asked, Want), f"{product} {partition}: {asked}"
        position = self.tick()
        found = Attempt(
            product,
            partition,
            f"run-{position}",
            asked.fingerprint,
            verdict,
            "distance.positive failed" if verdict is Verdict.FAIL else "dbt was killed",
            tuple(results),
            1,
            self.now,
            not_before,
            position,
        )
        self.attempts[product, partition] = found
        return found

    def claim(self, product: str, at: str, run: str = "run-live") -> None:
        partition = self.slice(self.mesh.product(product).marts[0].table, at)
        until = self.now + timedelta(minutes=5)
        claim = Claim(product, partition, run, 1, "f", (), until)
        self.claims[product, partition] = claim

    def redeclare(self, product: str, **change: object) -> None:
        """Change every mart of a product, as another version of its code would."""
        products = tuple(
            replace(p, marts=tuple(replace(m, **change) for m in p.marts))  # type: ignore[arg-type]
            if p.id == product
            else p
            for p in self.mesh.products
        )
        mesh = self.mesh
        self.mesh = Mesh(mesh.name, mesh.span, mesh.zone, mesh.live_from, products, mesh.sources)
