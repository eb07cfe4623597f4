-- A canary: a new version of a product is built beside the old one, from the same pins. What an interval
-- told counts while its newest publication is that of the run that told it: a restated interval counts
-- once, by its newest generation, and one that was never published not at all.

create table ledger.canary (
    id text primary key,
    product text not null,
    state text not null,                   -- running, promoted, aborted
    old text not null,                     -- versions: code and contracts, as one name
    new text not null,
    wanted int not null,                   -- so many equal intervals in a row
    by_policy boolean not null,            -- promoted without anybody's approval
    tolerance jsonb not null,
    reason text not null,
    because text not null,                 -- of its end
    reviewer text not null,
    said jsonb not null,
    at timestamptz not null,
    entry bigint not null
);
create unique index canary_running on ledger.canary (product) where state = 'running';

create table ledger.canary_interval (
    canary text not null,
    part text not null,
    key text not null,
    run text not null,
    equal boolean not null,
    because text not null,
    differences jsonb not null,            -- by table: counts, columns, keys and values
    at timestamptz not null,
    entry bigint not null,
    primary key (canary, part)
);

create function ledger.project_canary(e ledger.entry) returns void language plpgsql as $$
begin
    insert into canary as c select r.* from jsonb_populate_record(null::canary,
        jsonb_build_object('because', '', 'reviewer', '', 'said', '{}'::jsonb, 'at', e.at)
        || e.body || jsonb_build_object('id', e.key, 'product', e.name, 'entry', e.id)) r
        where e.body ->> 'state' = 'running';
    update canary set state = e.body ->> 'state', because = e.body ->> 'because',
        reviewer = coalesce(e.body ->> 'reviewer', ''), said = coalesce(e.body -> 'said', '{}'),
        entry = e.id
        where id = e.key and e.body ->> 'state' <> 'running';
end $$;

create function ledger.project_canary_told(e ledger.entry) returns void language plpgsql as $$
begin
    insert into canary_interval select r.* from jsonb_array_elements(e.body -> 'intervals') x,
        jsonb_populate_record(null::canary_interval,
            x || jsonb_build_object('canary', e.key, 'at', e.at, 'entry', e.id)) r
    on conflict (canary, part) do update set run = excluded.run, equal = excluded.equal,
        because = excluded.because, differences = excluded.differences, at = excluded.at,
        entry = excluded.entry;
end $$;

create or replace function ledger.rebuild() returns bigint language plpgsql
    set search_path = ledger, pg_temp as $$
begin
    lock table entry in exclusive mode;       -- waits for writers, and keeps them waiting
    truncate landing, publication, claim, intent, attempt, step, contract, approval, stretch,
        tampering, pardon, probe, waiver, keeping, report, break, backfill, backfill_step,
        rule_guard, canary, canary_interval;
    return replay();
end $$;

create view ledger.canary_intervals as
    select i.*, f.pos, exists (select from ledger.publication p join ledger.canary c on c.id = i.canary
        where p.product = c.product and p.part = i.part and p.newest and p.run = i.run) as counts
    from ledger.canary_interval i join ledger.feed f on f.entry = i.entry;
create view ledger.canaries as
    select c.*, f.pos, t.told, t.differing, (select count(*) from ledger.canary_intervals i
               where i.canary = c.id and i.counts and i.equal and i.pos > coalesce(
                   (select max(d.pos) from ledger.canary_intervals d
                    where d.canary = c.id and d.counts and not d.equal), 0)) as in_a_row
    from ledger.canary c join ledger.feed f on f.entry = c.entry,
    lateral (select count(*) as told, count(*) filter (where not i.equal) as differing
             from ledger.canary_intervals i where i.canary = c.id and i.counts) t;

create function ledger.start_canary(id_ text, product_ text, said_ jsonb) returns void
    language plpgsql security definer set search_path = ledger, pg_temp as $$
declare other text;
begin
    perform hold(array['canary ' || product_]);
    select id into other from canary where product = product_ and state = 'running';
    if found then
        raise exception 'canary % of % is running: promote or abort it first', other, product_
            using errcode = 'LV003';
    end if;
    insert into entry (kind, name, key, body)
        values ('canary', product_, id_, said_ || '{"state": "running"}');
end $$;

create function ledger.tell_canary(id_ text, intervals_ jsonb) returns void
    language plpgsql security definer set search_path = ledger, pg_temp as $$
declare product_ text;
begin
    select product into product_ from canary where id = id_;
    perform hold(array['canary ' || product_]);
    insert into entry (kind, name, key, body)
        values ('canary_told', product_, id_, jsonb_build_object('intervals', intervals_));
end $$;

-- Refuses what nobody may promote, approved or not.
create function ledger.promotable(id_ text) returns ledger.canary language plpgsql as $$
declare
    found_ ledger.canary;
    row_ int;
    plan_ text;
begin
    select * into found_ from canary where id = id_;
    if found_.state is distinct from 'running' then
        raise exception 'canary % is %: only a running one is promoted', id_,
            coalesce(found_.state, 'unknown') using errcode = 'LV003';
    end if;
    perform hold(array['canary ' || found_.product, 'backfills']);
    select in_a_row into row_ from canaries where id = id_;
    if row_ < found_.wanted then
        raise exception 'canary % of % has % equal intervals in a row, and needs %', id_,
            found_.product, row_, found_.wanted using errcode = 'LV003';
    end if;
    select s.backfill into plan_ from backfill_step s join backfill b on b.id = s.backfill
        where s.product = found_.product and (s.state = 'restoring'
            or s.state = 'open' and b.state in ('running', 'paused')) limit 1;
    if plan_ is not null then
        raise exception 'backfill % has open steps of %: let it finish, or cancel it first', plan_,
            found_.product using errcode = 'LV003';
    end if;
    return found_;
end $$;

create function ledger.promote_canary(id_ text, said_ jsonb) returns void
    language plpgsql security definer set search_path = ledger, pg_temp as $$
declare meant ledger.canary := promotable(id_);
begin
    perform impartial('canary ' || id_, said_ || (said_ -> 'said'));
    insert into entry (kind, name, key, body)
        values ('canary', meant.product, id_, said_ || '{"state": "promoted"}');
end $$;

create function ledger.settle_canary(id_ text) returns void
    language plpgsql security definer set search_path = ledger, pg_temp as $$
declare meant ledger.canary := promotable(id_);
begin
    if not meant.by_policy then
        raise exception 'canary % of % is promoted by approval', id_, meant.product
            using errcode = 'LV003';
    end if;
    insert into entry (kind, name, key, body) values ('canary', meant.product, id_,
        jsonb_build_object('state', 'promoted',
            'because', format('%s equal intervals in a row', meant.wanted)));
end $$;

create function ledger.abort_canary(id_ text, because_ text) returns boolean
    language plpgsql security definer set search_path = ledger, pg_temp as $$
declare product_ text;
begin
    select product into product_ from canary where id = id_;
    perform hold(array['canary ' || product_]);
    insert into entry (kind, name, key, body)
    select 'canary', product_, id_, jsonb_build_object('state', 'aborted', 'because', because_)
    where exists (select from canary where id = id_ and state <> 'aborted');
    return found;
end $$;

revoke all on function ledger.project_canary, ledger.project_canary_told, ledger.start_canary,
    ledger.tell_canary, ledger.promotable, ledger.promote_canary, ledger.settle_canary,
    ledger.abort_canary from public;
revoke all on ledger.canary, ledger.canary_interval, ledger.canaries, ledger.canary_intervals
    from public;
grant select on ledger.canaries, ledger.canary_intervals to levada_reader;
grant execute on function ledger.start_canary, ledger.settle_canary, ledger.abort_canary
    to levada_runner;
grant execute on function ledger.tell_canary to levada_publisher;
grant execute on function ledger.promote_canary to levada_governance;
