-- Whoever waits for a slice that a backfill is to make again is woken when its step comes to something.
-- Waiters listen for a name and a key; a step's line has the backfill for its key, which they do not
-- know. In the order of the lines it is one of all slices of its product, as lines without a key are.

create or replace function ledger.to_feed() returns trigger language plpgsql
    security definer set search_path = ledger, pg_temp as $$
begin
    perform pg_advisory_xact_lock(0, 42);
    insert into feed (entry, kind, name, key)
        select e.id, e.kind, e.name, case e.kind when 'backfill_step' then '' else e.key end
        from unnest(new.lines) with ordinality given (id, n) join entry e using (id) order by n;
    delete from turn where id = new.id;
    perform pg_notify('levada', '');          -- equal ones become one per transaction
    return null;
end $$;
