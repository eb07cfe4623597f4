-- A place in the order for all lines of a statement at once. A deferred trigger runs for every row it
-- is of; so each statement leaves one row, and that row's trigger, inside COMMIT, gives the lines their
-- positions. The order is commit order as before, and the lock is held for one insert.

create unlogged table ledger.turn (             -- nobody outside of its transaction sees a row
    id bigint generated always as identity primary key,
    lines bigint[] not null
);

create or replace function ledger.to_feed() returns trigger language plpgsql
    security definer set search_path = ledger, pg_temp as $$
begin
    perform pg_advisory_xact_lock(0, 42);
    insert into feed (entry, kind, name, key)
        select e.id, e.kind, e.name, e.key from unnest(new.lines) with ordinality given (id, n)
        join entry e using (id) order by n;
    delete from turn where id = new.id;
    perform pg_notify('levada', '');          -- equal ones become one per transaction
    return null;
end $$;

drop trigger to_feed on ledger.entry;
create constraint trigger to_feed after insert on ledger.turn
    deferrable initially deferred for each row execute function ledger.to_feed();

-- By the words of the line and not by the record: that writes every value out and reads it again.
create or replace function ledger.project_publications(es ledger.entry[]) returns void
    language plpgsql as $$
begin
    update publication p set newest = false from unnest(es) e
        where p.table_name = e.name and p.part = e.body ->> 'part'
            and p.generation = (e.body -> 'generation')::int - 1;
    insert into publication (entry, table_name, part, start, generation, contract, verdict,
            data_version, content, made_by, inputs, taint, run, at, product, newest, warnings, waived)
        select e.id, e.name, e.body ->> 'part', starts(e.body ->> 'part'),
            (e.body -> 'generation')::int, e.body ->> 'contract', e.body ->> 'verdict',
            e.body ->> 'data_version', e.body ->> 'content', e.body ->> 'made_by',
            e.body -> 'inputs', e.body -> 'taint', e.body ->> 'run',
            (e.body ->> 'at')::timestamptz, e.body ->> 'product',
            row_number() over (partition by e.name, e.body ->> 'part' order by e.id desc) = 1,
            coalesce(e.body -> 'warnings', '[]'), coalesce(e.body -> 'waived', '[]')
        from unnest(es) e;
    insert into keeping as k
        select distinct on (e.name) e.name, e.body ->> 'contract', e.id
        from unnest(es) e order by e.name, e.id desc
        on conflict (table_name) do update
        set contract = excluded.contract, entry = excluded.entry;
    delete from attempt a using unnest(es) e
        where a.product = e.body ->> 'product' and a.part = e.body ->> 'part';
    delete from claim c using unnest(es) e
        where c.product = e.body ->> 'product' and c.part = e.body ->> 'part';
    delete from intent i where i.run in (select distinct e.body ->> 'run' from unnest(es) e);
    perform cover(es);
end $$;

create or replace function ledger.on_entry() returns trigger language plpgsql
    security definer set search_path = ledger, pg_temp set plan_cache_mode = force_generic_plan as $$
declare
    es entry[];
    e entry;
    first text;
    last text;
begin
    insert into turn (lines) select array_agg(n.id order by n.id) from fresh n having count(*) > 0;
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

-- Row by row through an index, always: see 0002. A plan that was made while the tables were small read
-- all newest lines for every line (a bitmap of a partial index, kept for the join), and a session that
-- published without a pause kept it: a hundred lines took 1 ms more for every 500 that were there.
do $$
declare
    writer regprocedure;
    switch text;
begin
    for writer in select p.oid from pg_proc p where p.pronamespace = 'ledger'::regnamespace
            and p.proname in ('on_entry', 'land', 'claim', 'withhold', 'intend', 'publish',
                              'open_steps', 'close_steps') loop
        foreach switch in array array['seqscan', 'bitmapscan', 'hashjoin', 'mergejoin', 'material'] loop
            execute format('alter function %s set enable_%s = off', writer, switch);
        end loop;
    end loop;
end $$;

revoke all on ledger.turn from public;
