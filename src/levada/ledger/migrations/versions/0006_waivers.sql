-- A waiver that counts is a line by governance: the file asks, the line grants, for the file's hash.

create table ledger.waiver (
    entry bigint not null,
    table_name text not null,
    check_id text not null,
    starts timestamptz not null,
    ends timestamptz not null,
    expires timestamptz not null,
    reason text not null,
    hash text not null,
    by text not null,
    primary key (table_name, check_id, hash)
);

create function ledger.project_waiver(e ledger.entry) returns void language plpgsql as $$
begin
    insert into waiver select r.* from jsonb_populate_record(null::waiver, e.body
        || jsonb_build_object('entry', e.id, 'table_name', e.name, 'by', e."by")) r;
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
        when 'waiver' then perform ledger.project_waiver(e);
    end case;
end $$;

create or replace function ledger.rebuild() returns bigint language plpgsql
    set search_path = ledger, pg_temp as $$
begin
    lock table entry in exclusive mode;       -- waits for writers, and keeps them waiting
    truncate landing, publication, claim, intent, attempt, step, contract, approval, stretch,
        tampering, pardon, probe, waiver;
    return replay();
end $$;

create view ledger.waivers as
    select w.table_name, w.check_id, w.starts, w.ends, w.expires, w.reason, w.hash, w.by, f.pos
    from ledger.waiver w join ledger.feed f on f.entry = w.entry;

create function ledger.waive(waiver_ jsonb) returns boolean
    language plpgsql security definer set search_path = ledger, pg_temp as $$
begin
    perform hold(array['waivers']);
    if (waiver_ ->> 'expires')::timestamptz <= clock_timestamp() then
        raise exception 'a waiver of % for % has expired on %: ask anew', waiver_ ->> 'check_id',
            waiver_ ->> 'table_name', waiver_ ->> 'expires' using errcode = 'LV002';
    end if;
    insert into entry (kind, name, key, body)
    select 'waiver', waiver_ ->> 'table_name', '', waiver_ - 'table_name'
    where not exists (select from waiver w where w.table_name = waiver_ ->> 'table_name'
                          and w.check_id = waiver_ ->> 'check_id' and w.hash = waiver_ ->> 'hash');
    return found;
end $$;

revoke all on function ledger.waive, ledger.project_waiver from public;
grant select on ledger.waivers to levada_reader;
grant execute on function ledger.waive to levada_governance;
