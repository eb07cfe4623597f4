"""SQL rules: whatever does more than read is refused, whoever thought of it."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from contract_files import FLOWN, GOOD, faults

from levada.adapters import readonly, sqlrule
from levada.terms import TableRef

OBJECT = "select count(*) from {object}"

NO_SELECT = """\
copy (select * from {object}) to '/tmp/x.csv'
copy {object} to '/tmp/x'
attach '/tmp/x.db' as x
attach 'dbname=x' as x (type postgres)
detach x
install httpfs
load httpfs
call pragma_version()
pragma database_list
set threads = 1
reset threads
set variable x = 1
use memory
checkpoint
vacuum
explain select count(*) from {object}
explain analyze select count(*) from {object}
describe {object}
summarize {object}
show tables
create table x as select 1
create or replace macro f(x) as x
create secret s (type s3)
alter table x add column y int
drop table x
truncate x
insert into {object} values (1)
update {object} set x = 1
delete from {object}
merge into {object} using x on a = b when matched then delete
export database '/tmp/x'
import database '/tmp/x'
prepare x as select 1
execute x
begin; select count(*) from {object}; commit
select count(*) from {object}; drop table x
select count(*) from {object} union all select count(*) from {object}
with d as (delete from {object} returning 1) select count(*) from d
with d as (insert into x values (1) returning 1) select count(*) from d, {object}
select count(*) into x from {object}
select count(*) from {object} for update
select count(*) from {object} where x = ?
select count(*) from {object} where x = $1
""".splitlines()

ELSEWHERE = """\
read_csv('/etc/passwd')
read_csv_auto('/etc/passwd')
read_parquet('/tmp/x.parquet')
parquet_scan('/tmp/x.parquet')
parquet_metadata('/tmp/x.parquet')
read_json('/tmp/x')
read_ndjson_objects('/tmp/x')
read_text('/etc/passwd')
read_blob('/etc/passwd')
glob('/etc/*')
sniff_csv('/etc/passwd')
query('drop table x')
query_table('x')
duckdb_settings()
duckdb_secrets()
pragma_database_list()
postgres_query('x', 'select 1')
postgres_execute('x', 'drop table y')
postgres_scan('', 'public', 'x')
sqlite_scan('x', 'y')
ducklake_snapshots('operations')
json_execute_serialized_sql('x')
dblink('dbname=x', 'drop table y')
'/etc/passwd'
"/tmp/x.parquet"
's3://bucket/x.parquet'
duckdb_tables
information_schema.tables
pg_catalog.pg_class
main.secrets
lake.fleet.planes
(describe {object})
(show all tables)
(summarize {object})
(pivot {object} on a using sum(b))
lateral (select * from read_text(x))
fleet.planes at (version => 1)
""".splitlines()

CALLS = """\
nextval('s')
currval('s')
setval('s', 1)
setseed(0.5)
write_log('x')
sleep_ms(1000)
pg_sleep(1)
pg_terminate_backend(1)
pg_cancel_backend(1)
pg_read_file('/etc/passwd')
pg_advisory_lock(1)
lo_import('/etc/passwd')
lo_unlink(1)
dblink('dbname=x', 'drop table y')
dblink_exec('dbname=x', 'drop table y')
getenv('HOME')
current_setting('threads')
getvariable('x')
set_config('x', 'y', false)
current_user
current_database()
txid_current()
has_table_privilege('x', 'select')
random()
uuid()
no_such_function(1)
""".splitlines()

SOUND = """\
select count(*) from {object}
select count(*) from {object} o join fleet.planes p using (tailnum) where p.seats > 2
select count(*) from {object} where tailnum not in (select tailnum from fleet.planes_v2)
with late as (select * from {object} where delay > 60) select count(*) from late
select sum(n) from (select carrier, count(*) as n from {object} group by all having n > 1) c
select count(*) from (select row_number() over (partition by a order by b) as n from {object}) r
select max(delay) - min(delay) from {object} where at < now() and day <= current_date
select count(*) from {object}, range(3) t(i) where i = miles
select count(*) from {object}, unnest(tags) t(tag) where tag is null
select count(*) from {object} where list_contains(tags, 'x') or a.b.c ilike 'y%' or tags[1] = 'z'
select count(*) from {object} where extract(hour from at at time zone 'UTC') between 1 and 2
select count(*) filter (where not regexp_matches(carrier, '^[A-Z]+$')) from {object}
select sum(case when delay is distinct from 1 then 1 else 0 end) from {object}
select quantile_cont(delay, 0.5) from {object} where coalesce(a, b) || c <> strftime(at, '%Y')
select count(*) from {object} where at::date - interval 1 day < (select max(day) from fleet.planes)
""".splitlines()


@pytest.mark.parametrize("query", NO_SELECT)
def test_whatever_is_no_select_is_refused(query: str) -> None:
    with pytest.raises(ValueError, match=r"not a single SELECT|more than read|no SQL|parameter"):
        sqlrule.parse(query)


@pytest.mark.parametrize(
    "form",
    [
        "select count(*) from {{object}}, {0}",
        "select count(*) from {{object}} where exists (select 1 from {0})",
        "with f as (select * from {0}) select count(*) from f, {{object}}",
        "select (select count(*) from {0}) from {{object}}",
    ],
)
@pytest.mark.parametrize("source", ELSEWHERE)
def test_only_the_table_and_inputs_are_read(source: str, form: str) -> None:
    with pytest.raises(ValueError, match="the query"):
        sqlrule.parse(form.format(source))


@pytest.mark.parametrize("call", CALLS)
def test_only_functions_of_data_are_called(call: str) -> None:
    for query in (f"select {call} from {{object}}", f"{OBJECT} where {call} is not null"):
        with pytest.raises(ValueError, match="no function of data alone"):
            sqlrule.parse(query)


@pytest.mark.parametrize("query", SOUND)
def test_what_only_reads_is_a_rule(query: str) -> None:
    rule = sqlrule.parse(query)
    assert all(table.domain == "fleet" for table in rule.reads)


@pytest.mark.parametrize("source", ["read_text('/etc/passwd')", "'/etc/passwd'", "other"])
def test_the_engine_s_own_parser_refuses_what_sqlglot_might_let_through(source: str) -> None:
    assert "the query reads" in readonly.unfit(f"select count(*) from {source}", frozenset())


def test_no_function_of_the_engine_that_has_an_effect_is_let_through() -> None:
    with duckdb.connect() as connection:
        effects = connection.execute(
            "select distinct function_name from duckdb_functions() where has_side_effects"
        ).fetchall()
        tables = connection.execute(
            "select distinct function_name from duckdb_functions()"
            " where function_type like 'table%' or function_type = 'pragma'"
        ).fetchall()
    assert len(effects) > 5
    assert len(tables) > 50
    for (name,) in effects:
        assert readonly.unfit(f"select {name}()", frozenset()), name
    harmless = {"generate_series", "range", "unnest", "repeat", "repeat_row"}
    for name in {name for (name,) in tables} - harmless:
        assert readonly.unfit(f"select * from {name}()", frozenset()), name


def test_a_rule_that_does_more_than_read_is_refused_with_path_and_line(tmp_path: Path) -> None:
    rule = FLOWN.replace("select sum(distance) from {object}", "select nextval('s') from {object}")
    (fault,) = faults(tmp_path, GOOD.replace(FLOWN, rule))
    assert (fault.path, fault.line) == ("contracts/operations/flights.v1.odcs.yaml", 20)
    assert fault.wrong == "the query calls nextval, which is no function of data alone"


def test_a_later_major_is_named_by_its_relation() -> None:
    assert sqlrule.parse(f"{OBJECT}, fleet.planes_v2").reads == (TableRef("fleet", "planes", 2),)
