-- Tables outside the mesh that could not be asked: UNKNOWN, which is not the same as "nothing
-- landed". A line is written only when something changed: one when a source begins not to answer,
-- one when its reason changes, one when it answers again.

create table ledger.probe (
    entry bigint not null,
    table_name text primary key,
    verdict text not null,                    -- UNKNOWN: it does not answer. PASS: it does again
    because text not null,
    since timestamptz not null,               -- how long it has been so
    at timestamptz not null                   -- when it was last told
);

create function ledger.project_probe(e ledger.entry) returns void language plpgsql as $$
begin
    delete from probe where table_name = e.name;
    insert into probe select r.* from jsonb_populate_record(null::probe, e.body
        || jsonb_build_object('entry', e.id)) r;
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
        when 'probe' then perform ledger.project_probe(e);
    end case;
end $$;

-- What each source said, by name: why it does not answer, or an empty text.
create function ledger.probed(said_ jsonb, now_ timestamptz) returns void language plpgsql
    security definer set search_path = ledger, pg_temp as $$
declare
    now_at timestamptz;
    wrong text;
begin
    select s.key into wrong from jsonb_each_text(said_) s where s.key like '%@%' limit 1;
    if found then
        raise exception '% is published, not probed: probe only sources', wrong
            using errcode = 'LV003';
    end if;
    perform hold(array(select s.key from jsonb_each_text(said_) s));
    now_at := coalesce(now_, clock_timestamp());
    insert into entry (kind, name, key, body)
    select 'probe', s.key, '', jsonb_build_object('table_name', s.key, 'because', s.value,
               'verdict', case s.value when '' then 'PASS' else 'UNKNOWN' end, 'at', now_at,
               'since', case when old.because <> '' and s.value <> '' then old.since
                             else now_at end)
    from jsonb_each_text(said_) s left join probe old on old.table_name = s.key
    where coalesce(old.because, '') <> s.value order by s.key;
end $$;

create or replace function ledger.rebuild() returns bigint language plpgsql
    set search_path = ledger, pg_temp as $$
begin
    lock table entry in exclusive mode;       -- waits for writers, and keeps them waiting
    truncate landing, publication, claim, intent, attempt, step, contract, approval, stretch,
        tampering, pardon, probe;
    return replay();
end $$;

create view ledger.probes as
    select p.*, f.pos from ledger.probe p join ledger.feed f on f.entry = p.entry;

revoke all on function ledger.project_probe, ledger.probed from public;
revoke all on ledger.probe, ledger.probes from public;
grant select on ledger.probes to levada_reader;
grant execute on function ledger.probed to levada_runner;
