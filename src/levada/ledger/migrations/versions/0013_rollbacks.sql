-- A backfill is rolled back: what it made is `restoring` until what was there before is published
-- again (`restored`) or cannot be (`kept`). Meanwhile its readers wait, as while it ran.

create or replace view ledger.restating as
    select s.product, s.part, s.start, s.backfill from ledger.backfill_step s
    join ledger.backfill b on b.id = s.backfill
    where s.state = 'open' and b.state in ('running', 'paused') or s.state = 'restoring';
create index backfill_step_restoring on ledger.backfill_step (product) where state = 'restoring';
create or replace view ledger.backfills as
    select b.id, b.because, b.forced, b.document, b.by, b.at, f.pos, case
               when b.state = 'running' and not exists (select from ledger.backfill_step s
                   where s.backfill = b.id and s.state = 'open') then 'finished'
               when b.state = 'restoring' and not exists (select from ledger.backfill_step s
                   where s.backfill = b.id and s.state = 'restoring') then 'rolled back'
               else b.state end as state,
           (select coalesce(jsonb_object_agg(n.state, n.steps), '{}') from (
                select s.state, count(*) as steps from ledger.backfill_step s
                where s.backfill = b.id group by 1) n) as steps
    from ledger.backfill b join ledger.feed f on f.entry = b.entry;

-- Whether that is new. A backfill that still runs is cancelled first.
create function ledger.undo_backfill(id_ text, because_ text) returns boolean
    language plpgsql security definer set search_path = ledger, pg_temp as $$
declare was text;
begin
    perform hold(array['backfills']);
    select state into was from backfill where id = id_;
    if was is null then
        raise exception 'there is no backfill %', id_ using errcode = 'LV003';
    end if;
    if was = 'restoring' then
        return false;
    end if;
    if exists (select from backfill_step where backfill = id_ and state = 'open') then
        raise exception 'backfill % has open steps: let it finish, or cancel it first', id_
            using errcode = 'LV003';
    end if;
    insert into entry (kind, name, key, body)
    select 'backfill_step', s.product, id_, jsonb_build_object('state', 'restoring',
               'steps', jsonb_agg(jsonb_build_object('part', s.part, 'key', s.key,
                   'because', because_, 'run', s.run)))
    from backfill_step s where s.backfill = id_ and s.state = 'made' group by s.product;
    insert into entry (kind, name, key, body) values ('backfill', id_, '',
        jsonb_build_object('state', 'restoring', 'because', because_));
    return true;
end $$;

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
    where o.product = s ->> 'product' and o.state = case when s ->> 'state' in ('restored', 'kept')
        then 'restoring' else 'open' end
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

revoke all on function ledger.undo_backfill from public;
grant execute on function ledger.undo_backfill to levada_runner;
