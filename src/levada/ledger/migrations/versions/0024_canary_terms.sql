-- What a canary needs before its new version is built alone is governance's to say: so many equal
-- intervals in a row, and an approval or none. Who starts one may only ask for more. A canary keeps who
-- answers for its tables: none of them promotes it. One of a new major (`rule` names the gate that
-- compares it with the old one) withholds what differs: such an interval is told and never published.

create table ledger.canary_terms (
    product text primary key,
    by_policy boolean not null,            -- whether nobody's approval is needed
    wanted int not null,
    entry bigint not null
);

create function ledger.project_canary_terms(e ledger.entry) returns void language plpgsql as $$
begin
    insert into canary_terms (product, by_policy, wanted, entry)
        values (e.name, (e.body -> 'by_policy')::boolean, (e.body -> 'wanted')::int, e.id)
        on conflict (product) do update set by_policy = excluded.by_policy,
            wanted = excluded.wanted, entry = excluded.entry;
end $$;

create or replace function ledger.rebuild() returns bigint language plpgsql
    set search_path = ledger, pg_temp as $$
begin
    lock table entry in exclusive mode;       -- waits for writers, and keeps them waiting
    truncate landing, publication, claim, intent, attempt, step, contract, approval, stretch,
        tampering, pardon, probe, waiver, keeping, report, break, backfill, backfill_step,
        rule_guard, canary, canary_interval, canary_terms, batching;
    return replay();
end $$;

alter table ledger.canary
    add column owners jsonb not null default '[]', add column rule text not null default '';

create or replace function ledger.project_canary(e ledger.entry) returns void language plpgsql as $$
begin
    insert into canary as c select r.* from jsonb_populate_record(null::canary,
        jsonb_build_object('because', '', 'reviewer', '', 'said', '{}'::jsonb, 'at', e.at,
                           'owners', '[]'::jsonb, 'rule', '')
        || e.body || jsonb_build_object('id', e.key, 'product', e.name, 'entry', e.id)) r
        where e.body ->> 'state' = 'running';
    update canary set state = e.body ->> 'state', because = e.body ->> 'because',
        reviewer = coalesce(e.body ->> 'reviewer', ''), said = coalesce(e.body -> 'said', '{}'),
        entry = e.id
        where id = e.key and e.body ->> 'state' <> 'running';
end $$;

-- An interval counts once, by the newest that is known of it: published by the run that told it or, of
-- a new major, withheld because it differs.
drop view ledger.canaries;
drop view ledger.canary_intervals;
create view ledger.canary_intervals as
    select canary, part, key, run, equal, because, differences, at, entry, pos,
           known and pos = max(pos) filter (where known) over (partition by canary, part) as counts
    from (select i.*, f.pos, c.rule <> '' and not i.equal or exists (
              select from ledger.publication p where p.product = c.product and p.part = i.part
                  and p.newest and p.run = i.run) as known
          from ledger.canary_interval i join ledger.canary c on c.id = i.canary
          join ledger.feed f on f.entry = i.entry) told;
create view ledger.canaries as
    select c.*, f.pos, t.told, t.differing, (select count(*) from ledger.canary_intervals i
               where i.canary = c.id and i.counts and i.equal and i.pos > coalesce(
                   (select max(d.pos) from ledger.canary_intervals d
                    where d.canary = c.id and d.counts and not d.equal), 0)) as in_a_row
    from ledger.canary c join ledger.feed f on f.entry = c.entry,
    lateral (select count(*) as told, count(*) filter (where not i.equal) as differing
             from ledger.canary_intervals i where i.canary = c.id and i.counts) t;

-- Those that are new; what governance has never said is: by approval, after one equal interval.
create function ledger.set_canary_terms(terms_ jsonb) returns setof text
    language plpgsql security definer set search_path = ledger, pg_temp as $$
begin
    perform hold(array(select 'canary ' || (t ->> 'product') from jsonb_array_elements(terms_) t));
    return query
        insert into entry (kind, name, key, body)
        select 'canary_terms', t.product, '',
               jsonb_build_object('by_policy', t.by_policy, 'wanted', greatest(t.wanted, 1))
        from jsonb_to_recordset(terms_) as t(product text, by_policy boolean, wanted int)
        left join canary_terms old on old.product = t.product
        where (t.by_policy, greatest(t.wanted, 1))
            is distinct from (coalesce(old.by_policy, false), coalesce(old.wanted, 1))
        order by t.product returning name;
end $$;

create or replace function ledger.start_canary(id_ text, product_ text, said_ jsonb) returns void
    language plpgsql security definer set search_path = ledger, pg_temp as $$
declare
    other text;
    least_ canary_terms;
begin
    perform hold(array['canary ' || product_]);
    select * into least_ from canary_terms where product = product_;
    if coalesce((said_ ->> 'wanted')::int, 0) < coalesce(least_.wanted, 1) then
        raise exception 'a canary of % wants at least % equal intervals', product_,
            coalesce(least_.wanted, 1) using errcode = 'LV003';
    end if;
    if (said_ ->> 'by_policy')::boolean and not coalesce(least_.by_policy, false) then
        raise exception 'a canary of % is promoted by approval: governance recorded no policy for it',
            product_ using errcode = 'LV003';
    end if;
    select id into other from canary where product = product_ and state = 'running';
    if found then
        raise exception 'canary % of % is running: promote or abort it first', other, product_
            using errcode = 'LV003';
    end if;
    insert into entry (kind, name, key, body)
        values ('canary', product_, id_, said_ || '{"state": "running"}');
end $$;

create or replace function ledger.promotable(id_ text) returns ledger.canary language plpgsql as $$
declare
    found_ ledger.canary;
    row_ int;
    least_ int;
    plan_ text;
begin
    select product into found_.product from canary where id = id_;
    perform hold(array['canary ' || coalesce(found_.product, ''), 'backfills']);
    select * into found_ from canary where id = id_;   -- under the lock: it may have been aborted
    if found_.state is distinct from 'running' then
        raise exception 'canary % is %: only a running one is promoted', id_,
            coalesce(found_.state, 'unknown') using errcode = 'LV003';
    end if;
    select in_a_row into row_ from canaries where id = id_;
    select greatest(found_.wanted, (select wanted from canary_terms t
        where t.product = found_.product)) into least_;   -- governance may ask for more by now
    if row_ < least_ then
        raise exception 'canary % of % has % equal intervals in a row, and needs %', id_,
            found_.product, row_, least_ using errcode = 'LV003';
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

create or replace function ledger.promote_canary(id_ text, said_ jsonb) returns void
    language plpgsql security definer set search_path = ledger, pg_temp as $$
declare meant ledger.canary := promotable(id_);
begin
    perform impartial('canary ' || id_, said_ || (said_ -> 'said'));
    if exists (select from jsonb_array_elements_text(meant.owners) o
               where lower(o) = lower(said_ ->> 'reviewer')) then
        raise exception 'canary %: % answers for it, and does not approve it', id_,
            said_ ->> 'reviewer' using errcode = 'LV002';
    end if;
    insert into entry (kind, name, key, body)
        values ('canary', meant.product, id_, said_ || '{"state": "promoted"}');
end $$;

create or replace function ledger.settle_canary(id_ text) returns void
    language plpgsql security definer set search_path = ledger, pg_temp as $$
declare meant ledger.canary := promotable(id_);
begin
    if not meant.by_policy or not exists (
            select from canary_terms t where t.product = meant.product and t.by_policy) then
        raise exception 'canary % of % is promoted by approval', id_, meant.product
            using errcode = 'LV003';
    end if;
    insert into entry (kind, name, key, body) values ('canary', meant.product, id_,
        jsonb_build_object('state', 'promoted',
            'because', format('%s equal intervals in a row', meant.wanted)));
end $$;

revoke all on function ledger.project_canary_terms, ledger.set_canary_terms from public;
revoke all on ledger.canary_terms, ledger.canaries, ledger.canary_intervals from public;
grant select on ledger.canaries, ledger.canary_intervals to levada_reader;
grant execute on function ledger.set_canary_terms to levada_governance;
