-- What consistency batches find: one report for each batch, interval and generations of its inputs,
-- and the breaks that it opens, keeps and closes. A report is one entry: killed before it, a batch
-- has said nothing; after it, everything.

create table ledger.report (
    entry bigint primary key,
    batch text not null,
    part text not null,
    start timestamptz,
    key text not null,
    digest text not null,
    settled boolean not null,              -- no rule broke a tool: running again finds the same
    verdict text not null,
    severity text not null,
    passed int not null,
    failed int not null,
    unknown int not null,
    cases bigint not null,
    summary text not null,
    seconds double precision not null,
    inputs jsonb not null,
    results jsonb not null,                -- rule by rule, without the offending keys
    at timestamptz not null,
    newest boolean not null
);
create unique index report_once on ledger.report (batch, part, digest) where settled;
create unique index report_newest on ledger.report (batch, part) where newest;

create table ledger.break (
    id text primary key,
    entry bigint not null,                 -- the newest one that said something of it
    rule text not null,
    part text not null,
    start timestamptz,
    key text not null,
    figures text not null,
    owner text not null,
    state text not null,
    first_seen timestamptz not null,
    last_seen timestamptz not null,
    times int not null,
    resolution text not null,
    resolved_by text not null,
    ended timestamptz
);
create index break_of_part on ledger.break (part, rule) where state <> 'closed';

create function ledger.project_report(e ledger.entry) returns void language plpgsql as $$
declare
    at_ timestamptz := (e.body ->> 'at')::timestamptz;
begin
    update report set newest = false
        where batch = e.name and part = e.body ->> 'part' and newest;
    insert into report select r.* from jsonb_populate_record(null::report, e.body
        || jsonb_build_object('entry', e.id, 'batch', e.name, 'key', e.key, 'newest', true,
               'start', starts(e.body ->> 'part'), 'results',
               (select coalesce(jsonb_agg(x - 'offences' order by n), '[]')
                from jsonb_array_elements(e.body -> 'results') with ordinality as given(x, n)))) r;
    -- What somebody has explained stays so while its figures stay; what had gone and is back is new.
    insert into break as b
    select o ->> 'id', e.id, e.name || '.' || (x ->> 'rule'), e.body ->> 'part',
           starts(e.body ->> 'part'), o ->> 'key', o ->> 'figures', x ->> 'owner', 'open', at_, at_,
           1, '', '', null
    from jsonb_array_elements(e.body -> 'results') x, jsonb_array_elements(x -> 'offences') o
    on conflict (id) do update set
        entry = excluded.entry, figures = excluded.figures, last_seen = excluded.last_seen,
        times = b.times + 1,
        first_seen = case b.state when 'closed' then excluded.first_seen else b.first_seen end,
        state = case when b.state = 'resolved' and b.figures = excluded.figures
                     then 'resolved' else 'open' end,
        resolution = case when b.state = 'resolved' and b.figures = excluded.figures
                          then b.resolution else '' end,
        resolved_by = case when b.state = 'resolved' and b.figures = excluded.figures
                           then b.resolved_by else '' end,
        ended = case when b.state = 'resolved' and b.figures = excluded.figures
                     then b.ended end;
    -- Only a rule that named all that offends says by silence that something no longer does.
    update break b set state = 'closed', ended = at_, entry = e.id,
           resolution = case b.state when 'resolved' then b.resolution else 'no longer found' end
    from jsonb_array_elements(e.body -> 'results') x
    where b.rule = e.name || '.' || (x ->> 'rule') and b.part = e.body ->> 'part'
        and b.state <> 'closed' and (x ->> 'complete')::boolean
        and not exists (select from jsonb_array_elements(x -> 'offences') o where o ->> 'id' = b.id);
    update break b set state = 'closed', ended = at_, entry = e.id, resolution = 'its rule is gone'
        where b.part = e.body ->> 'part' and b.state <> 'closed'
        and split_part(b.rule, '.', 1) = e.name and not exists (
            select from jsonb_array_elements(e.body -> 'results') x
            where b.rule = e.name || '.' || (x ->> 'rule'));
end $$;

create function ledger.project_break_assigned(e ledger.entry) returns void language plpgsql as $$
begin
    update break set owner = e.body ->> 'owner', entry = e.id where id = e.name;
end $$;

create function ledger.project_break_resolved(e ledger.entry) returns void language plpgsql as $$
begin
    update break set state = 'resolved', resolution = e.body ->> 'resolution', entry = e.id,
        resolved_by = e.body ->> 'who', ended = e.at where id = e.name;
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
        when 'waiver_revoked' then perform ledger.project_waiver_revoked(e);
        when 'report' then perform ledger.project_report(e);
        when 'break_assigned' then perform ledger.project_break_assigned(e);
        when 'break_resolved' then perform ledger.project_break_resolved(e);
    end case;
end $$;

create or replace function ledger.rebuild() returns bigint language plpgsql
    set search_path = ledger, pg_temp as $$
begin
    lock table entry in exclusive mode;       -- waits for writers, and keeps them waiting
    truncate landing, publication, claim, intent, attempt, step, contract, approval, stretch,
        tampering, pardon, probe, waiver, keeping, report, break;
    return replay();
end $$;

create view ledger.reports as
    select r.*, f.pos from ledger.report r join ledger.feed f on f.entry = r.entry;
create view ledger.breaks as
    select b.*, f.pos from ledger.break b join ledger.feed f on f.entry = b.entry;

-- Whether the report is new. The same rules over the same generations report once.
create function ledger.report(report_ jsonb) returns boolean
    language plpgsql security definer set search_path = ledger, pg_temp as $$
begin
    perform hold(array['batch ' || (report_ ->> 'batch')]);
    insert into entry (kind, name, key, body)
    select 'report', report_ ->> 'batch', report_ ->> 'key', report_ - 'batch' - 'key'
    where not exists (select from report r where r.batch = report_ ->> 'batch'
                          and r.part = report_ ->> 'part' and r.digest = report_ ->> 'digest'
                          and r.settled);
    return found;
end $$;

create function ledger.assign_break(id_ text, owner_ text) returns boolean
    language plpgsql security definer set search_path = ledger, pg_temp as $$
begin
    perform hold(array['break ' || id_]);
    insert into entry (kind, name, key, body)
    select 'break_assigned', id_, '', jsonb_build_object('owner', owner_)
    where exists (select from break b where b.id = id_ and b.state <> 'closed'
                      and b.owner <> owner_);
    return found;
end $$;

create function ledger.resolve_break(id_ text, resolution_ text, who_ text) returns boolean
    language plpgsql security definer set search_path = ledger, pg_temp as $$
begin
    perform hold(array['break ' || id_]);
    if coalesce(trim(resolution_), '') = '' then
        raise exception 'break % is resolved by saying what it was', id_ using errcode = 'LV003';
    end if;
    insert into entry (kind, name, key, body)
    select 'break_resolved', id_, '', jsonb_build_object('resolution', resolution_, 'who', who_)
    where exists (select from break b where b.id = id_ and b.state = 'open');
    return found;
end $$;

revoke all on function ledger.project_report, ledger.project_break_assigned,
    ledger.project_break_resolved, ledger.report, ledger.assign_break, ledger.resolve_break
    from public;
revoke all on ledger.report, ledger.break, ledger.reports, ledger.breaks from public;
grant select on ledger.reports, ledger.breaks to levada_reader;
grant execute on function ledger.report to levada_publisher;
grant execute on function ledger.assign_break, ledger.resolve_break to levada_governance;
