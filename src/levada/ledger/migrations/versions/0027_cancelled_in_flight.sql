-- A backfill that is cancelled may have builds in flight, which publish all the same. What they made is
-- the backfill's: it is settled, and taken back with the rest. A backfill that has ended is not ended again.
-- The runs of a backfill have its id in their names, whoever begins them.

create or replace function ledger.settle_backfill(id_ text, steps_ jsonb) returns void
    language plpgsql security definer set search_path = ledger, pg_temp as $$
declare wrong text;
begin
    select s ->> 'state' into wrong from jsonb_array_elements(steps_) s
        where s ->> 'state' not in ('made', 'unchanged', 'failed', 'left', 'restored', 'kept')
        limit 1;
    if found then
        raise exception 'a step of a backfill cannot become %', wrong using errcode = 'LV003';
    end if;
    perform hold(array['backfills']);
    insert into entry (kind, name, key, body)
    select 'backfill_step', s ->> 'product', id_,
           jsonb_build_object('state', s ->> 'state', 'steps', jsonb_agg(x))
    from jsonb_array_elements(steps_) s, jsonb_array_elements(s -> 'steps') x
    join backfill_step o on o.backfill = id_ and o.part = x ->> 'part'
    where o.product = s ->> 'product' and case
        when s ->> 'state' in ('restored', 'kept') then o.state = 'restoring'
        when s ->> 'state' = 'made' then o.state in ('open', 'cancelled')
        else o.state = 'open' end
    group by s ->> 'product', s ->> 'state';
end $$;

create or replace function ledger.turn_backfill(id_ text, state_ text, because_ text)
    returns boolean language plpgsql security definer set search_path = ledger, pg_temp as $$
declare
    was text;
    again text[] := case when state_ = 'running' then array['failed', 'left'] else array['open'] end;
    moved boolean;
begin
    if coalesce(state_, '') not in ('running', 'paused', 'cancelled') then
        raise exception 'a backfill cannot become %', state_ using errcode = 'LV003';
    end if;
    perform hold(array['backfills']);
    select state into was from backfill where id = id_;
    if was is null then
        raise exception 'there is no backfill %', id_ using errcode = 'LV003';
    end if;
    if was = 'restoring' then
        raise exception 'backfill % was rolled back: plan another one', id_ using errcode = 'LV003';
    end if;
    if was = 'cancelled' and state_ <> 'cancelled' then
        raise exception 'backfill % was cancelled: plan another one', id_ using errcode = 'LV003';
    end if;
    -- It is finished: what failed or was left of it can still be tried again.
    if was = 'running' and state_ <> 'running' and not exists (
            select from backfill_step where backfill = id_ and state = 'open') then
        return false;
    end if;
    if state_ <> 'paused' then
        insert into entry (kind, name, key, body)
        select 'backfill_step', s.product, id_, jsonb_build_object(
                   'state', case when state_ = 'running' then 'open' else 'cancelled' end,
                   'steps', jsonb_agg(jsonb_build_object('part', s.part, 'key', s.key,
                       'because', because_)))
        from backfill_step s where s.backfill = id_ and s.state = any (again)
        group by s.product;
        moved := found;
    end if;
    insert into entry (kind, name, key, body)
    select 'backfill', id_, '', jsonb_build_object('state', state_, 'because', because_)
    where was <> state_;
    return found or coalesce(moved, false);
end $$;

-- Whether that is news. What one of its runs published and nobody settled counts, too: the process was
-- killed, and the backfill cancelled. While one is under way, nobody knows yet what there is to undo.
create or replace function ledger.undo_backfill(id_ text, because_ text) returns boolean
    language plpgsql security definer set search_path = ledger, pg_temp as $$
declare
    was text;
    busy record;
begin
    perform hold(array['backfills']);
    select state into was from backfill where id = id_;
    if was is null then
        raise exception 'there is no backfill %', id_ using errcode = 'LV003';
    end if;
    if exists (select from backfill_step where backfill = id_ and state = 'open') then
        raise exception 'backfill % has open steps: let it finish, or cancel it first', id_
            using errcode = 'LV003';
    end if;
    select c.product, c.key, c.run into busy from claims c
        where strpos(c.run, id_) > 0 and (c.until > clock_timestamp()
            or exists (select from intent i where i.run = c.run))
        order by 1, 2 limit 1;
    if found then
        raise exception 'backfill % is still building % %: roll it back when run % has ended',
            id_, busy.product, busy.key, busy.run using errcode = 'LV003';
    end if;
    insert into entry (kind, name, key, body)
    select 'backfill_step', s.product, id_, jsonb_build_object('state', 'restoring',
               'steps', jsonb_agg(jsonb_build_object('part', s.part, 'key', s.key,
                   'because', because_, 'run', s.run)))
    from (
        select product, part, key, run from backfill_step where backfill = id_ and state = 'made'
        union all
        select o.product, o.part, o.key, p.run from backfill_step o join (
            select distinct on (product, part) product, part, run from publication
            where strpos(run, id_) > 0 order by product, part, entry desc) p
            on p.product = o.product and p.part = o.part
        where o.backfill = id_ and o.state in ('cancelled', 'failed', 'left')
    ) s group by s.product;
    if found or was <> 'restoring' then
        insert into entry (kind, name, key, body) values ('backfill', id_, '',
            jsonb_build_object('state', 'restoring', 'because', because_));
        return true;
    end if;
    return false;
end $$;
