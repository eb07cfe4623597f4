-- A publication says what it went without (taint, carried by the claim) and which advisory checks
-- did not pass (warnings). A table that was changed by hand is held until governance pardons it; so
-- is what an edge holds until its change is released.

alter table ledger.publication add column warnings jsonb not null default '[]';
alter table ledger.claim add column taint jsonb not null default '[]';

create table ledger.tampering (
    table_name text primary key,
    version text not null,
    because text not null,
    at timestamptz not null
);

create table ledger.pardon (
    entry bigint not null,
    product text not null,
    part text not null,
    reason text not null,
    by text not null,
    primary key (product, part)
);

-- Not of the log: up to which data version a domain's lake was looked through.
create table ledger.inspected (
    domain text primary key,
    version text not null
);

create or replace function ledger.project_publications(es ledger.entry[]) returns void
    language plpgsql as $$
begin
    update publication p set newest = false from unnest(es) e
        where p.table_name = e.name and p.part = e.body ->> 'part' and p.newest;
    insert into publication select r.*
        from (select e.id, e.body, row_number() over (partition by e.name, e.body ->> 'part'
                     order by e.id desc) = 1 as newest from unnest(es) e) e,
        jsonb_populate_record(null::publication, '{"warnings": []}' || e.body
            || jsonb_build_object('entry', e.id, 'start', starts(e.body ->> 'part'),
                                  'newest', e.newest)) r;
    delete from attempt a using unnest(es) e
        where a.product = e.body ->> 'product' and a.part = e.body ->> 'part';
    delete from claim c using unnest(es) e
        where c.product = e.body ->> 'product' and c.part = e.body ->> 'part';
    delete from intent i using unnest(es) e where i.run = e.body ->> 'run';
    perform cover(es);
end $$;

create or replace function ledger.project_claims(es ledger.entry[]) returns void
    language plpgsql as $$
begin
    insert into claim select r.*
        from (select distinct on (e.name, e.body ->> 'part') e.key, e.body from unnest(es) e
              order by e.name, e.body ->> 'part', e.id desc) e,
        jsonb_populate_record(null::claim, '{"taint": []}' || e.body || jsonb_build_object(
            'start', starts(e.body ->> 'part'), 'key', e.key)) r
        on conflict (product, part) do update
        set run = excluded.run, token = excluded.token, fingerprint = excluded.fingerprint,
            inputs = excluded.inputs, taint = excluded.taint;
end $$;

create function ledger.project_tampering(e ledger.entry) returns void language plpgsql as $$
begin
    insert into tampering values (e.name, e.body ->> 'version', e.body ->> 'because', e.at)
        on conflict (table_name) do update
        set version = excluded.version, because = excluded.because, at = excluded.at;
end $$;

create function ledger.project_pardon(e ledger.entry) returns void language plpgsql as $$
begin
    if e.body ? 'part' then
        insert into pardon values (e.id, e.name, e.body ->> 'part', e.body ->> 'reason', e."by")
            on conflict (product, part) do update
            set entry = excluded.entry, reason = excluded.reason, by = excluded.by;
    else
        delete from tampering where table_name = e.name;
    end if;
end $$;

create or replace function ledger.project(e ledger.entry) returns void language plpgsql as $$
begin
    case e.kind
        when 'landing' then perform ledger.project_landing(e);
        when 'publication' then perform ledger.project_publication(e);
        when 'claim' then perform ledger.project_claim(e);
        when 'release' then perform ledger.project_release(e);
        when 'intent' then perform ledger.project_intent(e);
        when 'withdrawal' then perform ledger.project_withdrawal(e);
        when 'attempt' then perform ledger.project_attempt(e);
        when 'step' then perform ledger.project_step(e);
        when 'step_closed' then perform ledger.project_step_closed(e);
        when 'contract' then perform ledger.project_contract(e);
        when 'approval' then perform ledger.project_approval(e);
        when 'tampering' then perform ledger.project_tampering(e);
        when 'pardon' then perform ledger.project_pardon(e);
    end case;
end $$;

create or replace function ledger.rebuild() returns bigint language plpgsql
    set search_path = ledger, pg_temp as $$
begin
    lock table entry in exclusive mode;       -- waits for writers, and keeps them waiting
    truncate landing, publication, claim, intent, attempt, step, contract, approval, stretch,
        tampering, pardon;
    return replay();
end $$;

-- Views list their columns when they are made.
create or replace view ledger.claims as
    select c.product, c.part, c.start, c.key, c.run, c.token, c.fingerprint, c.inputs,
           coalesce(l.until, to_timestamp(0)) as until, c.taint
    from ledger.claim c left join ledger.lease l on l.run = c.run;
create or replace view ledger.publications as
    select p.entry, p.table_name, p.part, p.start, p.generation, p.contract, p.verdict,
           p.data_version, p.content, p.made_by, p.inputs, p.taint, p.run, p.at, p.product,
           p.newest, f.pos, p.warnings
    from ledger.publication p join ledger.feed f on f.entry = p.entry;
create view ledger.tamperings as select * from ledger.tampering;
create view ledger.pardons as
    select p.product, p.part, p.reason, p.by, f.pos
    from ledger.pardon p join ledger.feed f on f.entry = p.entry;

create or replace function ledger.claim(wants_ jsonb, run_ text, lifetime_ interval, seen_ bigint,
                                        now_ timestamptz)
    returns setof ledger.claims language plpgsql
    security definer set search_path = ledger, pg_temp as $$
declare
    products text[] := array(select distinct w ->> 'product' from jsonb_array_elements(wants_) w);
    now_at timestamptz;
    ids bigint[];
begin
    if products = '{}' then
        return;
    end if;
    perform hold(products);
    now_at := coalesce(now_, clock_timestamp());
    products := products || array(select distinct c.product from claim c where c.run = run_);
    if (select count(distinct p) from unnest(products) p) > 1 then
        raise exception 'run % claims for several products (%): give each a run of its own', run_,
            (select string_agg(distinct p, ', ') from unnest(products) p) using errcode = 'LV003';
    end if;
    with want as (
        select distinct on (w ->> 'part') w ->> 'product' as product, w ->> 'part' as part, w as body
        from jsonb_array_elements(wants_) w order by w ->> 'part'
    ), made as (
        select distinct on (p.part) p.part, p.made_by, f.pos
        from publication p join feed f on f.entry = p.entry
        where p.product = products[1] and p.newest order by p.part, f.pos desc
    ), free as (
        select want.*, c.run as held_by from want
        left join made on made.part = want.part
        left join claim c on c.product = want.product and c.part = want.part
        left join lease l on l.run = c.run
        left join intent i on i.run = c.run
        where (made.part is null
               or (made.made_by <> want.body ->> 'fingerprint' and made.pos <= seen_))
          and i.run is null and (c.run is null or c.run = run_ or l.run is null or l.until <= now_at)
    ), written as (
        insert into entry (kind, name, key, body)
        select 'claim', product, body ->> 'key', (body - 'key') || jsonb_build_object(
                   'run', run_, 'token', nextval('token'), 'until', now_at + lifetime_,
                   'over', held_by)
        from free order by part returning id
    )
    select array_agg(id) into ids from written;
    if ids is null then
        return;
    end if;
    update lease l set lost = e.name || ' ' || e.key || ' to run ' || run_
        from entry e where e.id = any (ids) and l.run = e.body ->> 'over' and l.run <> run_;
    insert into lease as l (run, product, until) values (run_, products[1], now_at + lifetime_)
        on conflict (run) do update set until = excluded.until, lost = null;
    delete from lease l where l.until < now_at - interval '7 days'
        and not exists (select from claim c where c.run = l.run)
        and not exists (select from intent i where i.run = l.run);
    return query select c.product, c.part, c.start, c.key, c.run, c.token, c.fingerprint, c.inputs,
            now_at + lifetime_, c.taint
        from entry e join claim c on c.product = e.name and c.part = e.body ->> 'part'
        where e.id = any (ids) order by c.part;
end $$;

-- Runs of which neither a publication nor an open intent tells.
create function ledger.unknown_runs(runs_ text[]) returns setof text language sql stable
    security definer set search_path = ledger, pg_temp as $$
    select r from unnest(runs_) r
    where not exists (select from publication p where p.run = r)
      and not exists (select from intent i where i.run = r) $$;

-- A domain's lake was looked through up to this version, and this was found in it.
create function ledger.inspect(domain_ text, version_ text, found_ jsonb) returns void
    language plpgsql security definer set search_path = ledger, pg_temp as $$
begin
    perform hold(array['lake of ' || domain_]);
    insert into entry (kind, name, key, body)
    select 'tampering', t ->> 'table_name', '', t - 'table_name'
    from jsonb_array_elements(found_) with ordinality as given(t, n)
    where split_part(t ->> 'table_name', '.', 1) = domain_
      and not exists (select from entry e where e.kind = 'tampering'
                          and e.name = t ->> 'table_name' and e.body ->> 'version' = t ->> 'version')
    order by n;
    insert into inspected values (domain_, version_)
        on conflict (domain) do update set version = excluded.version;
end $$;

create view ledger.inspections as select * from ledger.inspected;

create function ledger.pardon_table(table_ text, reason_ text) returns boolean
    language plpgsql security definer set search_path = ledger, pg_temp as $$
begin
    perform hold(array['lake of ' || split_part(table_, '.', 1)]);
    insert into entry (kind, name, key, body)
    select 'pardon', table_, '', jsonb_build_object('reason', reason_)
    where exists (select from tampering where table_name = table_);
    return found;
end $$;

create function ledger.pardon_step(product_ text, part_ text, key_ text, reason_ text)
    returns void language plpgsql security definer set search_path = ledger, pg_temp as $$
begin
    perform hold(array[product_]);
    insert into entry (kind, name, key, body) values ('pardon', product_, key_,
        jsonb_build_object('part', part_, 'reason', reason_));
end $$;

revoke all on function ledger.unknown_runs, ledger.inspect, ledger.pardon_table,
    ledger.pardon_step, ledger.project_tampering, ledger.project_pardon from public;
grant select on ledger.tamperings, ledger.pardons, ledger.inspections to levada_reader;
grant execute on function ledger.unknown_runs, ledger.inspect to levada_runner, levada_publisher;
grant execute on function ledger.pardon_table, ledger.pardon_step to levada_governance;
create index entry_tampering on ledger.entry (name) where kind = 'tampering';
