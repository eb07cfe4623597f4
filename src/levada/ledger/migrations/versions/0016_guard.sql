-- A rule that flags too much soon after its definition changed is suspended or held, by the report that
-- tells so, in the same entry; an approval lets the definition be, for good. A definition is the rule's
-- hash: another text is another one, and is watched anew.

create table ledger.rule_guard (
    rule text not null,
    hash text not null,
    state text not null,                   -- suspended, held, reviewed
    because text not null,
    owner text not null,
    since timestamptz not null,
    until timestamptz not null,            -- when its review is overdue
    reviewer text not null,
    reason text not null,
    said jsonb not null,                   -- authors, commit, way
    entry bigint not null,                 -- the newest one that said something of it
    primary key (rule, hash)
);

alter function ledger.project_report(ledger.entry) rename to project_findings;
create function ledger.project_report(e ledger.entry) returns void language plpgsql as $$
begin
    perform project_findings(e);
    insert into rule_guard
    select e.name || '.' || (x ->> 'rule'), x ->> 'hash', g ->> 'state', g ->> 'because',
           g ->> 'owner', (g ->> 'since')::timestamptz, (g ->> 'until')::timestamptz, '', '', '{}',
           e.id
    from jsonb_array_elements(e.body -> 'results') x, lateral (select x -> 'guard' as g) as given
    where g is not null and g <> 'null'
    on conflict (rule, hash) do update     -- a suspended rule that is never muted any more is held
        set state = excluded.state, entry = excluded.entry
        where rule_guard.state = 'suspended' and excluded.state = 'held';
end $$;

create function ledger.project_rule_reviewed(e ledger.entry) returns void language plpgsql as $$
begin
    update rule_guard set state = 'reviewed', reviewer = e.body ->> 'reviewer',
        reason = e.body ->> 'reason', said = e.body - 'reason' - 'reviewer', entry = e.id
        where rule = e.name and hash = e.key;
end $$;

create or replace function ledger.rebuild() returns bigint language plpgsql
    set search_path = ledger, pg_temp as $$
begin
    lock table entry in exclusive mode;       -- waits for writers, and keeps them waiting
    truncate landing, publication, claim, intent, attempt, step, contract, approval, stretch,
        tampering, pardon, probe, waiver, keeping, report, break, backfill, backfill_step,
        rule_guard;
    return replay();
end $$;

create view ledger.rule_guards as
    select g.*, f.pos from ledger.rule_guard g join ledger.feed f on f.entry = g.entry;

-- Whether that is new. Nobody reviews what was never suspended or held.
create function ledger.review_rule(rule_ text, hash_ text, reason_ text, said_ jsonb)
    returns boolean language plpgsql security definer set search_path = ledger, pg_temp as $$
begin
    perform hold(array['batch ' || split_part(rule_, '.', 1)]);
    perform impartial('rule ' || rule_, said_);
    if coalesce(trim(reason_), '') = '' then
        raise exception 'rule % is reviewed by saying why it may go on', rule_
            using errcode = 'LV003';
    end if;
    if not exists (select from rule_guard where rule = rule_ and hash = hash_) then
        raise exception 'rule % is neither suspended nor held as it is written now', rule_
            using errcode = 'LV003';
    end if;
    insert into entry (kind, name, key, body)
    select 'rule_reviewed', rule_, hash_, said_ || jsonb_build_object('reason', reason_)
    where exists (select from rule_guard where rule = rule_ and hash = hash_
                      and state <> 'reviewed');
    return found;
end $$;

revoke all on function ledger.project_report, ledger.project_rule_reviewed, ledger.review_rule
    from public;
revoke all on ledger.rule_guard, ledger.rule_guards from public;
grant select on ledger.rule_guards to levada_reader;
grant execute on function ledger.review_rule to levada_governance;
