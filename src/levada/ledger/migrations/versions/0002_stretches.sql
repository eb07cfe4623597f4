-- Stretches: which time a table covers without a hole, one row for any number of slots. A slot counts
-- from its first line on: a restatement neither opens a hole nor closes one. Whether what is there is
-- also current is judged, never stored.

create table ledger.stretch (
    table_name text not null,
    grain text not null,
    zone text not null,
    since timestamptz not null,
    until timestamptz not null,
    slots bigint not null,
    primary key (table_name, grain, zone, since)
) with (fillfactor = 50);                     -- the growing end of a stretch is updated in place

-- The first instant of a local date, as levada.intervals has it: of an ambiguous midnight the first.
create function ledger.opening(day timestamp, zone text) returns timestamptz language sql stable as $$
    select min(at) from (values (day at time zone zone),
                                (day at time zone zone - interval '30 minutes'),
                                (day at time zone zone - interval '1 hour')) near (at)
    where at = day at time zone zone or at at time zone zone = day $$;

-- Where a slot ends. Lines say it themselves (`ends`), by the calendar that judges them; this is for
-- the lines that were written before they did.
create function ledger.ends(part text) returns timestamptz language sql stable as $$
    select case when grain = 'hour' then start + interval '1 hour'
        else ledger.opening(date_trunc(grain, start at time zone zone)
            + case when grain = 'quarter' then interval '3 months'
                   else ('1 ' || grain)::interval end, zone) end
    from (select split_part(part, '|', 1), nullif(split_part(part, '|', 2), '')::timestamptz,
                 split_part(part, '|', 3)) slot (grain, start, zone) $$;

-- Lays the slots of first lines on: what touches becomes one stretch.
create function ledger.cover(es ledger.entry[]) returns void language plpgsql as $$
declare
    n record;
    added bigint;
    beyond record;
begin
    for n in
        with line as (
            select e.name, split_part(e.body ->> 'part', '|', 1) as grain,
                   split_part(e.body ->> 'part', '|', 3) as zone, starts(e.body ->> 'part') as since,
                   coalesce((e.body ->> 'ends')::timestamptz, ends(e.body ->> 'part')) as until
            from unnest(es) e where e.body ->> 'generation' = '1'
        ), opened as (
            select *, since is distinct from lag(until) over w as opens from line
            where since is not null                     -- an undivided table has no stretches
            window w as (partition by name, grain, zone order by since)
        ), numbered as (
            select *, count(*) filter (where opens)
                over (partition by name, grain, zone order by since) as number from opened
        )
        select name, grain, zone, min(since) as since, max(until) as until, count(*) as slots
        from numbered group by name, grain, zone, number order by 1, 2, 3, 4
    loop
        delete from stretch s where s.table_name = n.name and s.grain = n.grain
                and s.zone = n.zone and s.since = n.until
            returning s.until, s.slots into beyond;
        if found then
            n.until := beyond.until;
            n.slots := n.slots + beyond.slots;
        end if;
        update stretch s set until = n.until, slots = s.slots + n.slots
        where s.table_name = n.name and s.grain = n.grain and s.zone = n.zone and s.until = n.since
            and s.since = (select max(b.since) from stretch b where b.table_name = n.name
                               and b.grain = n.grain and b.zone = n.zone and b.since < n.since);
        if not found then
            insert into stretch (table_name, grain, zone, since, until, slots)
                values (n.name, n.grain, n.zone, n.since, n.until, n.slots);
        end if;
    end loop;
end $$;

-- Projection by statement: a publication of a hundred partitions is one statement, and costs far
-- less than a hundred. Each takes the entries of one statement, in their order.

create function ledger.project_landings(es ledger.entry[]) returns void language plpgsql as $$
begin
    update landing l set newest = false from unnest(es) e
        where l.table_name = e.name and l.part = e.body ->> 'part' and l.newest;
    insert into landing select r.*
        from (select e.id, e.body, row_number() over (partition by e.name, e.body ->> 'part'
                     order by e.id desc) = 1 as newest from unnest(es) e) e,
        jsonb_populate_record(null::landing, e.body || jsonb_build_object('entry', e.id,
            'start', starts(e.body ->> 'part'), 'newest', e.newest)) r;
    perform cover(es);
end $$;

create function ledger.project_publications(es ledger.entry[]) returns void language plpgsql as $$
begin
    update publication p set newest = false from unnest(es) e
        where p.table_name = e.name and p.part = e.body ->> 'part' and p.newest;
    insert into publication select r.*
        from (select e.id, e.body, row_number() over (partition by e.name, e.body ->> 'part'
                     order by e.id desc) = 1 as newest from unnest(es) e) e,
        jsonb_populate_record(null::publication, e.body || jsonb_build_object('entry', e.id,
            'start', starts(e.body ->> 'part'), 'newest', e.newest)) r;
    delete from attempt a using unnest(es) e
        where a.product = e.body ->> 'product' and a.part = e.body ->> 'part';
    delete from claim c using unnest(es) e
        where c.product = e.body ->> 'product' and c.part = e.body ->> 'part';
    delete from intent i using unnest(es) e where i.run = e.body ->> 'run';
    perform cover(es);
end $$;

create function ledger.project_claims(es ledger.entry[]) returns void language plpgsql as $$
begin
    insert into claim select r.*
        from (select distinct on (e.name, e.body ->> 'part') e.key, e.body from unnest(es) e
              order by e.name, e.body ->> 'part', e.id desc) e,
        jsonb_populate_record(null::claim, e.body || jsonb_build_object(
            'start', starts(e.body ->> 'part'), 'key', e.key)) r
        on conflict (product, part) do update
        set run = excluded.run, token = excluded.token, fingerprint = excluded.fingerprint,
            inputs = excluded.inputs;
end $$;

-- One entry is a statement of one.
create or replace function ledger.project_landing(e ledger.entry) returns void
    language sql as $$ select ledger.project_landings(array[e]) $$;
create or replace function ledger.project_publication(e ledger.entry) returns void
    language sql as $$ select ledger.project_publications(array[e]) $$;
create or replace function ledger.project_claim(e ledger.entry) returns void
    language sql as $$ select ledger.project_claims(array[e]) $$;

-- Planned once, and by index: an array looks like any number of rows, and a plan for each costs more
-- than what it saves; one that was made while the tables were small must not stay when they are not.
create or replace function ledger.on_entry() returns trigger language plpgsql
    security definer set search_path = ledger, pg_temp set plan_cache_mode = force_generic_plan
    set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    es entry[];
    e entry;
    first text;
    last text;
begin
    select array_agg(row(n.*)::entry order by n.id), min(n.kind), max(n.kind)
        into es, first, last from fresh n where n.kind <> 'ping';
    if es is null then
        return null;
    elsif first = last and first = 'publication' then
        perform project_publications(es);
    elsif first = last and first = 'landing' then
        perform project_landings(es);
    elsif first = last and first = 'claim' then
        perform project_claims(es);
    else
        foreach e in array es loop
            perform project(e);
        end loop;
    end if;
    return null;
end $$;

-- Every publication paid for an index that is asked only when a version comes with another hash.
drop index ledger.publication_contract;

drop trigger project on ledger.entry;
create trigger project after insert on ledger.entry referencing new table as fresh
    for each statement execute function ledger.on_entry();

create or replace function ledger.replay() returns bigint language plpgsql
    set plan_cache_mode = force_generic_plan
    set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    e ledger.entry;
    n bigint := 0;
begin
    for e in select entry.* from ledger.entry entry
             join ledger.feed f on f.entry = entry.id order by f.pos loop
        if e.kind <> 'ping' then
            perform ledger.project(e);
        end if;
        n := n + 1;
    end loop;
    return n;
end $$;

create or replace function ledger.rebuild() returns bigint language plpgsql
    set search_path = ledger, pg_temp as $$
begin
    lock table entry in exclusive mode;       -- waits for writers, and keeps them waiting
    truncate landing, publication, claim, intent, attempt, step, contract, approval, stretch;
    return replay();
end $$;

-- What the log holds already, a piece at a time: an array has a longest length.
do $$
declare
    es ledger.entry[];
    read bigint := 0;
begin
    set local search_path = ledger, pg_temp;
    lock table entry in exclusive mode;
    loop
        select array_agg(e order by e.id), max(e.id) into es, read from (
            select * from entry where kind in ('landing', 'publication') and id > read
            order by id limit 10000) e;
        exit when es is null;
        perform cover(es);
    end loop;
    reset search_path;
end $$;

-- What readers ask --------------------------------------------------------------------------------

create view ledger.stretches as select * from ledger.stretch;

-- The holes of a table in [from_, to_); none: every slot in there is published, or landed.
create function ledger.holes(table_ text, grain_ text, zone_ text, from_ timestamptz,
                             to_ timestamptz)
    returns table (since timestamptz, until timestamptz) language sql stable as $$
    with piece as (
        (select s.since, s.until from ledger.stretches s where s.table_name = table_
             and s.grain = grain_ and s.zone = zone_ and s.since <= from_
         order by s.since desc limit 1)
        union all
        select s.since, s.until from ledger.stretches s where s.table_name = table_
            and s.grain = grain_ and s.zone = zone_ and s.since > from_ and s.since < to_
        union all
        select to_, to_
    ), gap as (
        select greatest(from_, max(p.until) over (order by p.since, p.until
                   rows between unbounded preceding and 1 preceding)) as since, p.since as until
        from piece p
    )
    select gap.since, gap.until from gap where gap.since < gap.until order by 1 $$;

create function ledger.complete(table_ text, grain_ text, zone_ text, from_ timestamptz,
                                to_ timestamptz)
    returns boolean language sql stable as $$
    select coalesce((select s.until >= to_ from ledger.stretches s where s.table_name = table_
                         and s.grain = grain_ and s.zone = zone_ and s.since <= from_
                     order by s.since desc limit 1), false)
        or not exists (select from ledger.holes(table_, grain_, zone_, from_, to_)) $$;

-- For those who look after it ---------------------------------------------------------------------

-- Not of the log: who was last heard of when.
create table ledger.heartbeat (
    name text primary key,
    at timestamptz not null,
    by text not null
) with (fillfactor = 50);
create view ledger.heartbeats as select * from ledger.heartbeat;

create function ledger.beat(name_ text) returns void language sql
    security definer set search_path = ledger, pg_temp as $$
    insert into heartbeat values (name_, clock_timestamp(), session_user)
        on conflict (name) do update set at = excluded.at, by = excluded.by $$;

-- A line that says nothing, so that whoever follows the log can be seen to see it.
create function ledger.ping(key_ text) returns void language sql
    security definer set search_path = ledger, pg_temp as $$
    insert into entry (kind, name, key, body) values ('ping', 'levada', key_, '{}') $$;

-- When an open step was last asked for.
create index entry_step on ledger.entry (name, key) where kind = 'step';

revoke all on all functions in schema ledger from public;
grant select on ledger.stretches, ledger.heartbeats to levada_reader;
grant execute on function ledger.holes, ledger.complete to levada_reader;
grant execute on function ledger.beat, ledger.ping to levada_runner;
