-- A canary is judged under its lock, so that no promotion overwrites an abort that was about to be
-- written. What each run told of an interval is kept: what was told and never published takes away
-- nothing that counts.

alter table ledger.canary_interval drop constraint canary_interval_pkey,
    add primary key (canary, part, run);

create or replace function ledger.project_canary_told(e ledger.entry) returns void language plpgsql as $$
begin
    insert into canary_interval select r.* from jsonb_array_elements(e.body -> 'intervals') x,
        jsonb_populate_record(null::canary_interval,
            x || jsonb_build_object('canary', e.key, 'at', e.at, 'entry', e.id)) r
    on conflict (canary, part, run) do update set equal = excluded.equal,
        because = excluded.because, differences = excluded.differences, at = excluded.at,
        entry = excluded.entry;
end $$;

create or replace function ledger.start_canary(id_ text, product_ text, said_ jsonb) returns void
    language plpgsql security definer set search_path = ledger, pg_temp as $$
declare other text;
begin
    if coalesce((said_ ->> 'wanted')::int, 0) < 1 then
        raise exception 'a canary of % wants at least one equal interval', product_
            using errcode = 'LV003';
    end if;
    perform hold(array['canary ' || product_]);
    select id into other from canary where product = product_ and state = 'running';
    if found then
        raise exception 'canary % of % is running: promote or abort it first', other, product_
            using errcode = 'LV003';
    end if;
    insert into entry (kind, name, key, body)
        values ('canary', product_, id_, said_ || '{"state": "running"}');
end $$;

create or replace function ledger.tell_canary(id_ text, intervals_ jsonb) returns void
    language plpgsql security definer set search_path = ledger, pg_temp as $$
declare product_ text;
begin
    select product into product_ from canary where id = id_;
    if not found then
        raise exception 'no canary is called %', id_ using errcode = 'LV003';
    end if;
    perform hold(array['canary ' || product_]);
    insert into entry (kind, name, key, body)
        values ('canary_told', product_, id_, jsonb_build_object('intervals', intervals_));
end $$;

create or replace function ledger.promotable(id_ text) returns ledger.canary language plpgsql as $$
declare
    found_ ledger.canary;
    row_ int;
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
