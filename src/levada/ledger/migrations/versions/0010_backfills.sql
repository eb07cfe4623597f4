-- A backfill is a plan over tables that was begun: its document, its state, and a step for each slice
-- of a product. While a step is open, whoever reads that slice waits: nobody fires on a neighbourhood
-- of which half is made again.

create table ledger.backfill (
    entry bigint not null,                 -- of its beginning
    id text primary key,
    state text not null,                   -- running, paused, cancelled
    because text not null,
    forced boolean not null,               -- builds what it would find unchanged, too
    document jsonb not null,
    by text not null,
    at timestamptz not null
);

create table ledger.backfill_step (
    backfill text not null,
    product text not null,
    part text not null,
    start timestamptz,
    key text not null,
    state text not null,                   -- open, made, unchanged, failed, left, cancelled, restored
    because text not null,
    run text not null,
    at timestamptz not null,
    primary key (backfill, product, part)
);
create index backfill_step_open on ledger.backfill_step (product) where state = 'open';

create function ledger.project_backfill(e ledger.entry) returns void language plpgsql as $$
begin
    insert into backfill as b (entry, id, state, because, forced, document, by, at)
        values (e.id, e.name, e.body ->> 'state', e.body ->> 'because',
                coalesce((e.body ->> 'forced')::boolean, false),
                coalesce(e.body -> 'document', '{}'), e."by", e.at)
        on conflict (id) do update set state = excluded.state, because = excluded.because;
end $$;

-- One entry is one product's share: its steps begin, or come to something.
create function ledger.project_backfill_step(e ledger.entry) returns void language plpgsql as $$
begin
    insert into backfill_step as s
            (backfill, product, part, start, key, state, because, run, at)
        select e.key, e.name, x ->> 'part', starts(x ->> 'part'), x ->> 'key',
               e.body ->> 'state', coalesce(x ->> 'because', ''), coalesce(x ->> 'run', ''), e.at
        from jsonb_array_elements(e.body -> 'steps') x
        on conflict (backfill, product, part) do update
        set state = excluded.state, because = excluded.because, run = excluded.run,
            at = excluded.at;
end $$;

-- By its name: a kind of line brings its projector along.
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
        else execute format('select ledger.%I($1)', 'project_' || e.kind) using e;
    end case;
end $$;

create or replace function ledger.rebuild() returns bigint language plpgsql
    set search_path = ledger, pg_temp as $$
begin
    lock table entry in exclusive mode;       -- waits for writers, and keeps them waiting
    truncate landing, publication, claim, intent, attempt, step, contract, approval, stretch,
        tampering, pardon, probe, waiver, keeping, report, break, backfill, backfill_step;
    return replay();
end $$;

create view ledger.backfill_steps as
    select s.*, b.state as of from ledger.backfill_step s join ledger.backfill b on b.id = s.backfill;
create view ledger.restating as
    select s.product, s.part, s.start, s.backfill from ledger.backfill_step s
    join ledger.backfill b on b.id = s.backfill
    where s.state = 'open' and b.state in ('running', 'paused');
create view ledger.backfills as
    select b.id, b.because, b.forced, b.document, b.by, b.at, f.pos, case
               when b.state = 'running' and not exists (select from ledger.backfill_step s
                   where s.backfill = b.id and s.state = 'open') then 'finished'
               else b.state end as state,
           (select coalesce(jsonb_object_agg(n.state, n.steps), '{}') from (
                select s.state, count(*) as steps from ledger.backfill_step s
                where s.backfill = b.id group by 1) n) as steps
    from ledger.backfill b join ledger.feed f on f.entry = b.entry;

-- `steps_` holds arrays of {part, key} by product. Whether it is new: a plan begins once.
create function ledger.begin_backfill(id_ text, document_ jsonb, steps_ jsonb, forced_ boolean)
    returns boolean language plpgsql security definer set search_path = ledger, pg_temp as $$
begin
    perform hold(array['backfills']);
    if exists (select from backfill where id = id_) then
        return false;
    end if;
    insert into entry (kind, name, key, body)
    values ('backfill', id_, '', jsonb_build_object('state', 'running', 'forced', forced_,
        'document', document_, 'because', coalesce(document_ -> 'asked' ->> 'reason', '')));
    insert into entry (kind, name, key, body)
    select 'backfill_step', s.key, id_, jsonb_build_object('state', 'open', 'steps', s.value)
    from jsonb_each(steps_) s where s.value <> '[]';
    return true;
end $$;

-- What has become of open steps; of others nothing is heard. `steps_` holds arrays of {product,
-- state, steps}.
create function ledger.settle_backfill(id_ text, steps_ jsonb) returns void
    language plpgsql security definer set search_path = ledger, pg_temp as $$
declare wrong text;
begin
    select s ->> 'state' into wrong from jsonb_array_elements(steps_) s
        where s ->> 'state' not in ('made', 'unchanged', 'failed', 'left') limit 1;
    if found then
        raise exception 'a step of a backfill cannot become %', wrong using errcode = 'LV003';
    end if;
    perform hold(array['backfills']);
    insert into entry (kind, name, key, body)
    select 'backfill_step', s ->> 'product', id_,
           jsonb_build_object('state', s ->> 'state', 'steps', jsonb_agg(x))
    from jsonb_array_elements(steps_) s, jsonb_array_elements(s -> 'steps') x
    join backfill_step o on o.backfill = id_ and o.part = x ->> 'part'
    where o.product = s ->> 'product' and o.state = 'open'
    group by s ->> 'product', s ->> 'state';
end $$;

-- Pause, resume, cancel; whether that is news. Resuming opens again what failed or was left.
create function ledger.turn_backfill(id_ text, state_ text, because_ text) returns boolean
    language plpgsql security definer set search_path = ledger, pg_temp as $$
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

revoke all on ledger.backfill, ledger.backfill_step, ledger.backfills, ledger.backfill_steps,
    ledger.restating from public;
revoke all on function ledger.project_backfill, ledger.project_backfill_step, ledger.begin_backfill,
    ledger.settle_backfill, ledger.turn_backfill from public;
grant select on ledger.backfills, ledger.backfill_steps, ledger.restating to levada_reader;
grant execute on function ledger.begin_backfill, ledger.settle_backfill, ledger.turn_backfill
    to levada_runner;
