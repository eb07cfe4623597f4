-- An approval says who reviewed which commit, and its reviewer is neither owner nor author. A waiver
-- ends: it expires, or is revoked. A publication names the checks that were waived for it and for all
-- that it is made of. Publishing refuses a contract that is not in force, was recorded under the same
-- version with another content, or breaks what the table promised without an approval.

alter table ledger.approval
    add column reviewer text not null default '',
    add column said jsonb not null default '{}';

alter table ledger.waiver
    add column consumers jsonb not null default '[]',
    add column owner text not null default '',
    add column approver text not null default '',
    add column reviewer text not null default '',
    add column said jsonb not null default '{}',  -- authors, commit, way
    add column revoked timestamptz,
    add column revoked_because text not null default '';
update ledger.waiver set reviewer = by;

-- Each mark is `[table, part, check]`.
alter table ledger.publication add column waived jsonb not null default '[]';
create index publication_waived on ledger.publication (table_name, part, generation)
    where waived <> '[]';

alter table ledger.contract add column status text not null default '';
update ledger.contract set status = coalesce(body::jsonb ->> 'status', '');

-- The contract of each table's newest publication: what its readers were promised last.
create table ledger.keeping (
    table_name text primary key,
    contract text not null,
    entry bigint not null
) with (fillfactor = 50);
insert into ledger.keeping
    select distinct on (table_name) table_name, contract, entry
    from ledger.publication order by table_name, entry desc;

create or replace function ledger.project_publications(es ledger.entry[]) returns void
    language plpgsql as $$
begin
    update publication p set newest = false from unnest(es) e
        where p.table_name = e.name and p.part = e.body ->> 'part' and p.newest;
    insert into publication select r.*
        from (select e.id, e.body, row_number() over (partition by e.name, e.body ->> 'part'
                     order by e.id desc) = 1 as newest from unnest(es) e) e,
        jsonb_populate_record(null::publication, '{"warnings": [], "waived": []}' || e.body
            || jsonb_build_object('entry', e.id, 'start', starts(e.body ->> 'part'),
                                  'newest', e.newest)) r;
    insert into keeping as k
        select distinct on (e.name) e.name, e.body ->> 'contract', e.id
        from unnest(es) e order by e.name, e.id desc
        on conflict (table_name) do update
        set contract = excluded.contract, entry = excluded.entry;
    delete from attempt a using unnest(es) e
        where a.product = e.body ->> 'product' and a.part = e.body ->> 'part';
    delete from claim c using unnest(es) e
        where c.product = e.body ->> 'product' and c.part = e.body ->> 'part';
    delete from intent i using unnest(es) e where i.run = e.body ->> 'run';
    perform cover(es);
end $$;

create or replace function ledger.project_contract(e ledger.entry) returns void
    language plpgsql as $$
begin
    insert into contract select r.* from jsonb_populate_record(null::contract, e.body
        || jsonb_build_object('status',
                              coalesce((e.body ->> 'body')::jsonb ->> 'status', ''))) r;
end $$;

create or replace function ledger.project_approval(e ledger.entry) returns void
    language plpgsql as $$
begin
    insert into approval values (e.name, e.key, e.body ->> 'reason', e."by", e.at,
        coalesce(e.body ->> 'reviewer', ''),
        e.body - 'reason' - 'reviewer');
end $$;

create or replace function ledger.project_waiver(e ledger.entry) returns void
    language plpgsql as $$
begin
    insert into waiver select r.* from jsonb_populate_record(null::waiver,
        jsonb_build_object('consumers', '[]'::jsonb, 'owner', '', 'approver', '', 'said', '{}'::jsonb,
                           'reviewer', e."by", 'revoked_because', '')
        || e.body || jsonb_build_object('entry', e.id, 'table_name', e.name, 'by', e."by")) r;
end $$;

create function ledger.project_waiver_revoked(e ledger.entry) returns void
    language plpgsql as $$
begin
    update waiver set revoked = (e.body ->> 'at')::timestamptz,
                      revoked_because = e.body ->> 'because'
        where table_name = e.name and check_id = e.body ->> 'check_id'
            and hash = e.body ->> 'hash';
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
    end case;
end $$;

create or replace function ledger.rebuild() returns bigint language plpgsql
    set search_path = ledger, pg_temp as $$
begin
    lock table entry in exclusive mode;       -- waits for writers, and keeps them waiting
    truncate landing, publication, claim, intent, attempt, step, contract, approval, stretch,
        tampering, pardon, probe, waiver, keeping;
    return replay();
end $$;

-- Views list their columns when they are made.
create or replace view ledger.publications as
    select p.entry, p.table_name, p.part, p.start, p.generation, p.contract, p.verdict,
           p.data_version, p.content, p.made_by, p.inputs, p.taint, p.run, p.at, p.product,
           p.newest, f.pos, p.warnings, p.waived
    from ledger.publication p join ledger.feed f on f.entry = p.entry;
create or replace view ledger.waivers as
    select w.table_name, w.check_id, w.starts, w.ends, w.expires, w.reason, w.hash, w.by, f.pos,
           w.consumers, w.owner, w.approver, w.reviewer, w.said, w.revoked, w.revoked_because
    from ledger.waiver w join ledger.feed f on f.entry = w.entry;
create or replace view ledger.approvals as
    select subject, hash, reason, by, at, reviewer, said from ledger.approval;
create or replace view ledger.contracts as select * from ledger.contract;
create view ledger.tainted as
    select table_name, part, generation, newest, waived from ledger.publication
    where waived <> '[]';
create view ledger.keepings as select table_name, contract from ledger.keeping;

-- What nobody may approve: his own change, or what he answers for.
create function ledger.impartial(subject_ text, said_ jsonb) returns void language plpgsql as $$
begin
    if coalesce(said_ ->> 'reviewer', '') = '' then
        raise exception '%: nobody has reviewed it', subject_ using errcode = 'LV002';
    end if;
    if said_ -> 'authors' ? (said_ ->> 'reviewer') then
        raise exception '%: % wrote it, and does not approve it', subject_, said_ ->> 'reviewer'
            using errcode = 'LV002';
    end if;
    if said_ ->> 'owner' = said_ ->> 'reviewer' then
        raise exception '%: % answers for it, and does not approve it', subject_,
            said_ ->> 'reviewer' using errcode = 'LV002';
    end if;
end $$;

create or replace function ledger.waive(waiver_ jsonb) returns boolean
    language plpgsql security definer set search_path = ledger, pg_temp as $$
declare
    name_ text := format('the waiver of %s for %s', waiver_ ->> 'check_id', waiver_ ->> 'table_name');
    ended timestamptz;
begin
    perform hold(array['waivers']);
    perform impartial(name_, waiver_ || (waiver_ -> 'said'));
    if waiver_ ->> 'approver' <> waiver_ ->> 'reviewer' then
        raise exception '% asks %, not %', name_, waiver_ ->> 'approver', waiver_ ->> 'reviewer'
            using errcode = 'LV002';
    end if;
    if (waiver_ ->> 'expires')::timestamptz <= clock_timestamp() then
        raise exception '% has expired on %: ask anew', name_, waiver_ ->> 'expires'
            using errcode = 'LV002';
    end if;
    select revoked into ended from waiver w where w.table_name = waiver_ ->> 'table_name'
        and w.check_id = waiver_ ->> 'check_id' and w.hash = waiver_ ->> 'hash';
    if found then
        if ended is not null then
            raise exception '% was revoked on %: an approval is not repeated, change the file and ask anew',
                name_, ended using errcode = 'LV002';
        end if;
        return false;
    end if;
    insert into entry (kind, name, key, body)
        values ('waiver', waiver_ ->> 'table_name', '', waiver_ - 'table_name');
    return true;
end $$;

create function ledger.revoke_waiver(table_ text, check_ text, hash_ text, because_ text)
    returns boolean language plpgsql security definer set search_path = ledger, pg_temp as $$
begin
    perform hold(array['waivers']);
    insert into entry (kind, name, key, body)
    select 'waiver_revoked', table_, '', jsonb_build_object('check_id', check_, 'hash', hash_,
        'because', because_, 'at', clock_timestamp())
    where exists (select from waiver w where w.table_name = table_ and w.check_id = check_
                      and w.hash = hash_ and w.revoked is null);
    return found;
end $$;

drop function ledger.approve(text, text, text);
create function ledger.approve(subject_ text, hash_ text, reason_ text, said_ jsonb)
    returns boolean language plpgsql security definer set search_path = ledger, pg_temp as $$
begin
    perform hold(array['approvals']);
    perform impartial(subject_, said_);
    insert into entry (kind, name, key, body)
    select 'approval', subject_, hash_, said_ || jsonb_build_object('reason', reason_)
    where not exists (select from approval where subject = subject_ and hash = hash_);
    return found;
end $$;

-- `breaks_` says, by contract, what it takes from the readers of the one that the table keeps.
drop function ledger.intend(text, jsonb);
create function ledger.intend(run_ text, lines_ jsonb, breaks_ jsonb, now_ timestamptz)
    returns void language plpgsql security definer set search_path = ledger, pg_temp as $$
declare
    product_ text;
    bad record;
begin
    perform hold(array(select product from lease where run = run_));
    select product into product_ from claim where run = run_ limit 1;
    if exists (select from intent where run = run_) then
        raise exception 'run % already has an open intent: publish or withdraw it first', run_
            using errcode = 'LV003';
    end if;
    if lines_ = '[]' then
        raise exception 'run % intends nothing: an intent has at least one line', run_
            using errcode = 'LV002';
    end if;
    select l.table_name, l.key, l.code, l.why into bad from (
        select l.*, case
            when c.part is null then 'LV001'
            else 'LV002' end as code, case
            when c.part is null then format('run %s holds no claim of %s %s', run_,
                coalesce(product_, 'the product of ' || l.table_name), l.key)
            when l.table_name not like '%@%' then 'is a source: it is landed, not published'
            when split_part(l.table_name, '.', 1) <> split_part(c.product, '.', 1)
                then format('belongs to another domain than %s', c.product)
            when l.verdict not in ('PASS', 'WARN')
                then format('its verdict is %s: only PASS and WARN publish', l.verdict)
            when k.label is null
                then format('the contract %s is not recorded: governance records it', l.contract)
            when k.status not in ('active', 'deprecated')
                then format('the contract %s is %s: only active and deprecated ones publish',
                            l.contract, coalesce(nullif(k.status, ''), 'without a status'))
            when old.hash <> k.hash
                then format('version %s of %s was published as %s: raise the version',
                            k.version, k.id, old.label)
            when breaks_ -> l.contract <> '[]' and not exists (select from approval a
                    where a.subject = k.id
                        and a.hash = encode(sha256(convert_to(k.body, 'UTF8')), 'hex'))
                then format('the contract %s breaks %s, and nobody has approved it: %s', l.contract,
                            kept.contract, breaks_ -> l.contract ->> 0)
            when lapsed.mark is not null
                then format('its check %s is not waived, or is no longer', lapsed.mark)
            when l.made_by <> c.fingerprint
                then format('made by %s, but claimed for %s', l.made_by, c.fingerprint)
            when made.made_by = l.made_by
                then format('already published by this fingerprint, %s', l.made_by)
            when l.times > 1 then 'is intended twice by one run' end as why
        from (select r.*, count(*) over (partition by table_name, part) as times
              from jsonb_to_recordset(lines_)
                  as r(table_name text, part text, key text, verdict text, contract text,
                       made_by text, waived jsonb, ends timestamptz)
             ) l
        left join claim c on c.run = run_ and c.part = l.part
        left join contract k on k.label = l.contract
        left join keeping kept on kept.table_name = l.table_name
        left join contract old on old.label = kept.contract
            and old.id = k.id and old.version = k.version
        left join lateral (
            select p.made_by from publication p join feed f on f.entry = p.entry
            where p.product = product_ and p.part = l.part and p.newest order by f.pos desc limit 1
        ) made on true
        left join lateral (
            select m ->> 2 as mark from jsonb_array_elements(l.waived) m
            where not exists (select from waiver w
                where w.table_name = m ->> 0 and w.check_id = m ->> 2
                    and least(w.expires, w.revoked) > coalesce(now_, clock_timestamp())
                    and (starts(l.part) is null
                         or w.starts <= starts(l.part) and l.ends <= w.ends)) limit 1
        ) lapsed on true
    ) l
    where l.why is not null order by l.code limit 1;
    if bad.code = 'LV001' then
        raise exception '%', bad.why using errcode = 'LV001';
    elsif bad.code is not null then
        raise exception '% %: %', bad.table_name, bad.key, bad.why using errcode = 'LV002';
    end if;
    insert into entry (kind, name, key, body)
    select 'intent', product_, '', jsonb_build_object('run', run_, 'product', product_,
        'tokens', (select jsonb_object_agg(c.part, c.token) from claim c where c.run = run_
                   and c.part in (select l ->> 'part' from jsonb_array_elements(lines_) l)),
        'lines', (select jsonb_agg(l || jsonb_build_object('run', run_, 'product', product_,
                          'generation', coalesce(old.generation, 0) + 1) order by n)
                  from jsonb_array_elements(lines_) with ordinality as given(l, n)
                  left join publication old on old.table_name = l ->> 'table_name'
                      and old.part = l ->> 'part' and old.newest));
end $$;

-- The waived checks of a line, and those of the very publications that it is made of.
create function ledger.marks(line_ jsonb) returns jsonb language sql stable as $$
    select coalesce(jsonb_agg(mark order by mark), '[]') from (
        select mark from jsonb_array_elements(coalesce(line_ -> 'waived', '[]')) mark
        union
        select mark from jsonb_array_elements(line_ -> 'inputs') read
        join ledger.publication p on p.waived <> '[]' and p.table_name = read ->> 0
            and p.part = read ->> 1 and p.generation = (read ->> 2)::int
        cross join jsonb_array_elements(p.waived) mark) marked $$;

-- Repeating a call whose answer was lost changes nothing.
create or replace function ledger.publish(run_ text, data_version_ text, now_ timestamptz)
    returns void language plpgsql security definer set search_path = ledger, pg_temp as $$
declare
    meant intent;
    tainted_ boolean;
begin
    if coalesce(data_version_, '') = '' then
        raise exception 'run % publishes without a data version', run_ using errcode = 'LV002';
    end if;
    if not exists (select from intent where run = run_) and exists (
            select from publication where run = run_ and data_version = data_version_) then
        return;
    end if;
    meant := standing(run_);
    -- Nearly always nothing is waived anywhere; then nobody looks through the inputs.
    tainted_ := exists (select from publication where waived <> '[]');
    insert into entry (kind, name, key, body)
    select 'publication', l ->> 'table_name', l ->> 'key', (l - 'key') || jsonb_build_object(
               'data_version', data_version_, 'at', coalesce(now_, clock_timestamp()),
               'generation', coalesce(old.generation, 0) + 1)
           || case when tainted_ then jsonb_build_object('waived', marks(l)) else '{}' end
    from jsonb_array_elements(meant.lines) with ordinality as given(l, n)
    left join publication old on old.table_name = l ->> 'table_name'
        and old.part = l ->> 'part' and old.newest
    order by n;
    with read as (
        select l ->> 'part' as part, i ->> 0 as name, i ->> 1 as of,
               max((i ->> 2)::int) as generation
        from jsonb_array_elements(meant.lines) l, jsonb_array_elements(l -> 'inputs') i
        group by 1, 2, 3
    ), unmet as (
        select s.part from step s cross join jsonb_array_elements(s.required) r
        left join read on read.part = s.part and read.name = r ->> 0 and read.of = r ->> 1
        where s.product = meant.product and coalesce(read.generation, -1) < (r ->> 2)::int
    )
    insert into entry (kind, name, key, body)
    select 'step_closed', s.product, s.key, jsonb_build_object('product', s.product,
               'part', s.part, 'because', 'published by run ' || run_)
    from step s where s.product = meant.product
        and s.part in (select t from jsonb_object_keys(meant.tokens) t)
        and s.part not in (select part from unmet);
end $$;

revoke all on function ledger.project_waiver_revoked, ledger.impartial, ledger.revoke_waiver,
    ledger.approve, ledger.intend, ledger.marks from public;
revoke all on ledger.keeping, ledger.keepings, ledger.tainted from public;
grant select on ledger.tainted, ledger.keepings to levada_reader;
grant execute on function ledger.intend to levada_publisher;
grant execute on function ledger.approve, ledger.revoke_waiver to levada_governance;
