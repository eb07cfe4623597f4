-- Scheduled backfills: one for each schedule and due date, whoever comes first. Their plans name both.

create view ledger.due_backfills as
    select document ->> 'schedule' as schedule, max((document ->> 'due')::timestamptz) as due
    from ledger.backfill where document ? 'schedule' group by 1;

create function ledger.begin_due(document_ jsonb, steps_ jsonb) returns boolean
    language plpgsql security definer set search_path = ledger, pg_temp as $$
begin
    if not (document_ ? 'schedule' and document_ ? 'due') then
        raise exception 'a plan without a schedule is not due' using errcode = 'LV003';
    end if;
    perform hold(array['backfills']);
    if exists (select from backfill where document ->> 'schedule' = document_ ->> 'schedule'
            and (document ->> 'due')::timestamptz >= (document_ ->> 'due')::timestamptz) then
        return false;
    end if;
    return begin_backfill(document_ ->> 'id', document_, steps_, false);
end $$;

revoke all on ledger.due_backfills from public;
revoke all on function ledger.begin_due from public;
grant select on ledger.due_backfills to levada_reader;
grant execute on function ledger.begin_due to levada_runner;

-- Equality tests of batches: the newest of each product. It holds for what the product is made by.

create table ledger.batching (
    product text primary key,
    digest text not null,
    equal boolean not null,
    because text not null,
    slices int not null,
    at timestamptz not null
);

create function ledger.project_batching(e ledger.entry) returns void language plpgsql as $$
begin
    insert into batching (product, digest, equal, because, slices, at)
        values (e.name, e.body ->> 'digest', (e.body -> 'equal')::boolean, e.body ->> 'because',
                (e.body -> 'slices')::int, e.at)
        on conflict (product) do update set digest = excluded.digest, equal = excluded.equal,
            because = excluded.because, slices = excluded.slices, at = excluded.at;
end $$;

create or replace function ledger.rebuild() returns bigint language plpgsql
    set search_path = ledger, pg_temp as $$
begin
    lock table entry in exclusive mode;       -- waits for writers, and keeps them waiting
    truncate landing, publication, claim, intent, attempt, step, contract, approval, stretch,
        tampering, pardon, probe, waiver, keeping, report, break, backfill, backfill_step,
        rule_guard, canary, canary_interval, batching;
    return replay();
end $$;

create view ledger.batchings as select * from ledger.batching;

create function ledger.record_batching(batching_ jsonb) returns void
    language plpgsql security definer set search_path = ledger, pg_temp as $$
begin
    insert into entry (kind, name, key, body)
        values ('batching', batching_ ->> 'product', '', batching_ - 'product');
end $$;

revoke all on ledger.batching, ledger.batchings from public;
revoke all on function ledger.project_batching, ledger.record_batching from public;
grant select on ledger.batchings to levada_reader;
grant execute on function ledger.record_batching to levada_publisher;
