-- What was changed by hand takes no publication until governance pardons it, and its owner is told
-- once. No contract is published below the one that its table was published by last.

alter table ledger.tampering
    add column told_to text not null default '',
    add column told_at timestamptz;
create or replace view ledger.tamperings as
    select table_name, version, because, at, told_to, told_at from ledger.tampering;

create or replace function ledger.project_tampering(e ledger.entry) returns void
    language plpgsql as $$
begin
    insert into tampering (table_name, version, because, at)
        values (e.name, e.body ->> 'version', e.body ->> 'because', e.at)
        on conflict (table_name) do update
        set version = excluded.version, because = excluded.because, at = excluded.at,
            told_to = '', told_at = null;
end $$;

create function ledger.project_told(e ledger.entry) returns void language plpgsql as $$
begin
    update tampering set told_to = e.body ->> 'to', told_at = e.at
        where table_name = e.name and version = e.body ->> 'version';
end $$;

-- Somebody was told that a table was changed up to this version; whether that is new.
create function ledger.tell(table_ text, version_ text, to_ text) returns boolean
    language plpgsql security definer set search_path = ledger, pg_temp as $$
begin
    perform hold(array['lake of ' || split_part(table_, '.', 1)]);
    insert into entry (kind, name, key, body)
    select 'told', table_, '', jsonb_build_object('version', version_, 'to', to_)
    where exists (select from tampering where table_name = table_ and version = version_
                      and told_at is null);
    return found;
end $$;

-- A version to compare by; what comes before a release is below it.
create function ledger.version_number(version_ text) returns int[] language sql immutable as $$
    select string_to_array(split_part(version_, '-', 1), '.')::int[]
        || case when strpos(version_, '-') > 0 then 0 else 1 end
    where version_ is not null $$;

create or replace function ledger.intend(run_ text, lines_ jsonb, breaks_ jsonb, now_ timestamptz)
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
            when held.because is not null then 'LV004'
            else 'LV002' end as code, case
            when c.part is null then format('run %s holds no claim of %s %s', run_,
                coalesce(product_, 'the product of ' || l.table_name), l.key)
            when held.because is not null then format('is HELD, changed by hand: %s', held.because)
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
            when last.version = k.version and last.hash <> k.hash
                then format('version %s of %s was published as %s: raise the version',
                            k.version, k.id, last.label)
            when version_number(k.version) < version_number(last.version)
                then format('the contract %s is below %s, by which its table was published last',
                            l.contract, kept.contract)
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
        left join contract last on last.label = kept.contract and last.id = k.id
        left join tampering held on held.table_name = l.table_name
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
    elsif bad.code = 'LV004' then
        raise exception '% %', bad.table_name, bad.why using errcode = 'LV004';
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

-- Asked under the locks of the tables, after a look at what was done to them.
create or replace function ledger.confirm(run_ text) returns void
    language plpgsql security definer set search_path = ledger, pg_temp as $$
declare
    meant intent := standing(run_);
    held tampering;
begin
    select t.* into held from tampering t
        where t.table_name in (select l ->> 'table_name' from jsonb_array_elements(meant.lines) l)
        order by t.table_name limit 1;
    if found then
        raise exception '% is HELD, changed by hand: %', held.table_name, held.because
            using errcode = 'LV004';
    end if;
end $$;

revoke all on function ledger.project_told, ledger.tell, ledger.version_number from public;
grant execute on function ledger.tell to levada_runner, levada_publisher;
