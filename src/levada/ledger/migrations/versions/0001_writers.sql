-- The only ways to write. Every function runs with the owner's rights, on the owner's search path,
-- and takes the lock of the product first: all that happens to a product's claims is one queue.
-- `now_` is null except where a clock is given: then the database's own time holds, for all hosts.
--
-- LV001 the claim is lost · LV002 not publishable · LV003 a law is broken

create function ledger.hold(names text[]) returns void language plpgsql as $$
declare number int;
begin
    -- In one order, so that two transactions never wait for each other.
    for number in select distinct hashtext(n) from unnest(names) n order by 1 loop
        perform pg_advisory_xact_lock(1, number);
    end loop;
end $$;

create function ledger.land(landings_ jsonb) returns setof bigint language plpgsql
    security definer set search_path = ledger, pg_temp as $$
declare wrong text;
begin
    select l ->> 'table_name' into wrong from jsonb_array_elements(landings_) l
        where l ->> 'table_name' like '%@%' limit 1;
    if found then
        raise exception '% is published, not landed: land only sources', wrong
            using errcode = 'LV003';
    end if;
    perform hold(array(select l ->> 'table_name' from jsonb_array_elements(landings_) l));
    return query
        insert into entry (kind, name, key, body)
        select 'landing', l.body ->> 'table_name', l.body ->> 'key', l.body - 'key'
               || jsonb_build_object('generation', coalesce(old.generation, 0) + 1)
        from (select distinct on (l ->> 'table_name', l ->> 'part') l as body, n
              from jsonb_array_elements(landings_) with ordinality as given(l, n)
              order by l ->> 'table_name', l ->> 'part', n desc) l
        left join landing old on old.table_name = l.body ->> 'table_name'
            and old.part = l.body ->> 'part' and old.newest
        where old.content is distinct from l.body ->> 'content'
        order by l.n returning id;
end $$;

-- Grants what is free. `seen_` is the position at which the wants were judged: whoever published
-- since has made that judgement old.
create function ledger.claim(wants_ jsonb, run_ text, lifetime_ interval, seen_ bigint,
                             now_ timestamptz)
    returns setof ledger.claims language plpgsql
    security definer set search_path = ledger, pg_temp as $$
declare
    products text[] := array(select distinct w ->> 'product' from jsonb_array_elements(wants_) w);
    now_at timestamptz;
    ids bigint[];
begin
    if products = '{}' then
        return;
    end if;
    perform hold(products);
    now_at := coalesce(now_, clock_timestamp());
    products := products || array(select distinct c.product from claim c where c.run = run_);
    if (select count(distinct p) from unnest(products) p) > 1 then
        raise exception 'run % claims for several products (%): give each a run of its own', run_,
            (select string_agg(distinct p, ', ') from unnest(products) p) using errcode = 'LV003';
    end if;
    with want as (
        select distinct on (w ->> 'part') w ->> 'product' as product, w ->> 'part' as part, w as body
        from jsonb_array_elements(wants_) w order by w ->> 'part'
    ), made as (
        select distinct on (p.part) p.part, p.made_by, f.pos
        from publication p join feed f on f.entry = p.entry
        where p.product = products[1] and p.newest order by p.part, f.pos desc
    ), free as (
        select want.*, c.run as held_by from want
        left join made on made.part = want.part
        left join claim c on c.product = want.product and c.part = want.part
        left join lease l on l.run = c.run
        left join intent i on i.run = c.run
        where (made.part is null
               or (made.made_by <> want.body ->> 'fingerprint' and made.pos <= seen_))
          and i.run is null and (c.run is null or c.run = run_ or l.run is null or l.until <= now_at)
    ), written as (
        insert into entry (kind, name, key, body)
        select 'claim', product, body ->> 'key', (body - 'key') || jsonb_build_object(
                   'run', run_, 'token', nextval('token'), 'until', now_at + lifetime_,
                   'over', held_by)
        from free order by part returning id
    )
    select array_agg(id) into ids from written;
    if ids is null then
        return;
    end if;
    update lease l set lost = e.name || ' ' || e.key || ' to run ' || run_
        from entry e where e.id = any (ids) and l.run = e.body ->> 'over' and l.run <> run_;
    insert into lease as l (run, product, until) values (run_, products[1], now_at + lifetime_)
        on conflict (run) do update set until = excluded.until, lost = null;
    delete from lease l where l.until < now_at - interval '7 days'
        and not exists (select from claim c where c.run = l.run)
        and not exists (select from intent i where i.run = l.run);
    return query select c.*, now_at + lifetime_ from entry e
        join claim c on c.product = e.name and c.part = e.body ->> 'part'
        where e.id = any (ids) order by c.part;
end $$;

create function ledger.renew(run_ text, lease_ interval, now_ timestamptz) returns void
    language plpgsql security definer set search_path = ledger, pg_temp as $$
declare kept lease;
begin
    perform hold(array(select product from lease where run = run_));
    select * into kept from lease where run = run_;
    if kept.lost is not null then
        raise exception 'run % has lost its claim of %', run_, kept.lost using errcode = 'LV001';
    end if;
    if not exists (select from claim where run = run_) then
        raise exception 'run % holds no claim', run_ using errcode = 'LV001';
    end if;
    update lease set until = coalesce(now_, clock_timestamp()) + lease_ where run = run_;
end $$;

-- Refuses to touch partitions that the run's own open intent covers.
create function ledger.unintended(run_ text, parts_ jsonb) returns void language plpgsql as $$
begin
    if exists (select from intent i where i.run = run_ and i.tokens ?| array(
                   select jsonb_array_elements_text(parts_))) then
        raise exception 'run % is about to publish this: publish or withdraw it first', run_
            using errcode = 'LV003';
    end if;
end $$;

create function ledger.release(run_ text, parts_ jsonb, because_ text) returns void
    language plpgsql security definer set search_path = ledger, pg_temp as $$
begin
    perform hold(array(select product from lease where run = run_));
    perform unintended(run_, parts_);
    insert into entry (kind, name, key, body)
    select 'release', c.product, c.key, jsonb_build_object('product', c.product, 'part', c.part,
               'run', run_, 'because', because_)
    from claim c where c.run = run_
        and c.part in (select jsonb_array_elements_text(parts_)) order by c.part;
end $$;

create function ledger.withhold(attempts_ jsonb) returns void
    language plpgsql security definer set search_path = ledger, pg_temp as $$
declare lost record;
begin
    if not pg_has_role(session_user, 'levada_publisher', 'usage') and exists (
            select from jsonb_array_elements(attempts_) a where a ->> 'verdict' <> 'UNKNOWN') then
        raise exception '% may only record UNKNOWN: a verdict is the publisher''s', session_user
            using errcode = 'LV003';
    end if;
    perform hold(array(select a ->> 'product' from jsonb_array_elements(attempts_) a));
    perform unintended(run, jsonb_agg(part)) from (
        select a ->> 'run' as run, a ->> 'part' as part from jsonb_array_elements(attempts_) a) x
        group by run;
    select a ->> 'run' as run, a ->> 'product' as product, a ->> 'key' as key into lost
    from jsonb_array_elements(attempts_) a
    where not exists (select from claim c where c.product = a ->> 'product'
                          and c.part = a ->> 'part' and c.run = a ->> 'run') limit 1;
    if found then
        raise exception 'run % holds no claim of % %', lost.run, lost.product, lost.key
            using errcode = 'LV001';
    end if;
    insert into entry (kind, name, key, body)
    select 'attempt', a ->> 'product', a ->> 'key',
           (a - 'key') || jsonb_build_object('tries', coalesce(old.tries, 0) + 1)
    from jsonb_array_elements(attempts_) a
    left join attempt old on old.product = a ->> 'product' and old.part = a ->> 'part';
end $$;

create function ledger.intend(run_ text, lines_ jsonb) returns void
    language plpgsql security definer set search_path = ledger, pg_temp as $$
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
    select l.table_name, l.key, case
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
            when l.made_by <> c.fingerprint
                then format('made by %s, but claimed for %s', l.made_by, c.fingerprint)
            when made.made_by = l.made_by
                then format('already published by this fingerprint, %s', l.made_by)
            else 'is intended twice by one run' end as why into bad
    from (select r.*, count(*) over (partition by table_name, part) as times
          from jsonb_to_recordset(lines_)
              as r(table_name text, part text, key text, verdict text, contract text, made_by text)
         ) l
    left join claim c on c.run = run_ and c.part = l.part
    left join contract k on k.label = l.contract
    left join lateral (
        select p.made_by from publication p join feed f on f.entry = p.entry
        where p.product = product_ and p.part = l.part and p.newest order by f.pos desc limit 1
    ) made on true
    where c.part is null or l.table_name not like '%@%'
        or split_part(l.table_name, '.', 1) <> split_part(c.product, '.', 1)
        or l.verdict not in ('PASS', 'WARN') or k.label is null
        or l.made_by <> c.fingerprint or made.made_by = l.made_by or l.times > 1
    order by c.part is not null limit 1;
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

-- The run's intent, under the product's lock, if its token still stands.
create function ledger.standing(run_ text) returns ledger.intent language plpgsql as $$
declare
    found_ ledger.intent;
    moved text;
begin
    select * into found_ from intent where run = run_;
    if found then
        perform hold(array[found_.product]);
        select * into found_ from intent where run = run_;
    end if;
    if not found then
        raise exception 'run % has no open intent', run_ using errcode = 'LV001';
    end if;
    select t.key into moved from jsonb_each_text(found_.tokens) t
    left join claim c on c.product = found_.product and c.part = t.key and c.run = run_
        and c.token = t.value::bigint
    where c.part is null limit 1;
    if found then
        raise exception 'run % no longer holds its claim of % %', run_, found_.product, moved
            using errcode = 'LV001';
    end if;
    return found_;
end $$;

create function ledger.confirm(run_ text) returns void
    language plpgsql security definer set search_path = ledger, pg_temp as $$
begin
    perform standing(run_);
end $$;

-- Repeating a call whose answer was lost changes nothing.
create function ledger.publish(run_ text, data_version_ text, now_ timestamptz) returns void
    language plpgsql security definer set search_path = ledger, pg_temp as $$
declare meant intent;
begin
    if coalesce(data_version_, '') = '' then
        raise exception 'run % publishes without a data version', run_ using errcode = 'LV002';
    end if;
    if not exists (select from intent where run = run_) and exists (
            select from publication where run = run_ and data_version = data_version_) then
        return;
    end if;
    meant := standing(run_);
    insert into entry (kind, name, key, body)
    select 'publication', l ->> 'table_name', l ->> 'key', (l - 'key') || jsonb_build_object(
               'data_version', data_version_, 'at', coalesce(now_, clock_timestamp()),
               'generation', coalesce(old.generation, 0) + 1)
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

create function ledger.withdraw(run_ text, because_ text) returns void
    language plpgsql security definer set search_path = ledger, pg_temp as $$
declare meant intent;
begin
    meant := standing(run_);
    insert into entry (kind, name, key, body) values ('withdrawal', meant.product, '',
        jsonb_build_object('product', meant.product, 'run', run_, 'because', because_));
end $$;

-- The publishing locks, for as long as the session lives.
create function ledger.lock_tables(tables_ text[]) returns void
    language plpgsql security definer set search_path = ledger, pg_temp as $$
declare number bigint;
begin
    for number in select distinct hashtextextended(t, 0) from unnest(tables_) t order by 1 loop
        perform pg_advisory_lock(number);
    end loop;
end $$;

create function ledger.open_steps(steps_ jsonb) returns int
    language plpgsql security definer set search_path = ledger, pg_temp as $$
declare opened int;
begin
    perform hold(array(select s ->> 'product' from jsonb_array_elements(steps_) s));
    select count(distinct (s ->> 'product', s ->> 'part')) into opened
    from jsonb_array_elements(steps_) s where not exists (
        select from step o where o.product = s ->> 'product' and o.part = s ->> 'part');
    -- What an open step already says is no news.
    insert into entry (kind, name, key, body)
    select 'step', s ->> 'product', s ->> 'key', s - 'key'
    from jsonb_array_elements(steps_) with ordinality as given(s, n)
    where not exists (
        select from step o where o.product = s ->> 'product' and o.part = s ->> 'part'
            and o.first = (s ->> 'first')::boolean
            and o.required = highest(o.required, s -> 'required')
            and o.because = reasons(o.because, s ->> 'because'))
    order by n;
    return opened;
end $$;

-- Closes a step as the caller read it: one that has come to require more since stays open.
create function ledger.close_steps(steps_ jsonb, because_ text) returns void
    language plpgsql security definer set search_path = ledger, pg_temp as $$
begin
    perform hold(array(select s ->> 'product' from jsonb_array_elements(steps_) s));
    insert into entry (kind, name, key, body)
    select distinct 'step_closed', o.product, o.key, jsonb_build_object('product', o.product,
               'part', o.part, 'because', because_)
    from jsonb_array_elements(steps_) s
    join step o on o.product = s ->> 'product' and o.part = s ->> 'part'
    where highest(o.required, s -> 'required') = highest('[]', s -> 'required');
end $$;

create function ledger.record_contracts(contracts_ jsonb) returns setof text
    language plpgsql security definer set search_path = ledger, pg_temp as $$
declare other record;
begin
    perform hold(array['contracts']);
    select c.label, k.label as published into other
    from jsonb_to_recordset(contracts_) as c(label text, id text, version text, hash text)
    join contract k on k.id = c.id and k.version = c.version and k.hash <> c.hash
    where exists (select from publication p where p.contract = k.label) limit 1;
    if found then
        raise exception '%: this version has been published as %; raise the version',
            other.label, other.published using errcode = 'LV002';
    end if;
    return query
        insert into entry (kind, name, key, body)
        select 'contract', c ->> 'id', c ->> 'version', c
        from jsonb_array_elements(contracts_) with ordinality as given(c, n)
        where not exists (select from contract k where k.label = c ->> 'label')
        order by n returning body ->> 'label';
end $$;

create function ledger.approve(subject_ text, hash_ text, reason_ text) returns boolean
    language plpgsql security definer set search_path = ledger, pg_temp as $$
begin
    perform hold(array['approvals']);
    insert into entry (kind, name, key, body)
    select 'approval', subject_, hash_, jsonb_build_object('reason', reason_)
    where not exists (select from approval where subject = subject_ and hash = hash_);
    return found;
end $$;

-- For the owner: the state is nothing but the log, replayed ----------------------------------------

create function ledger.replay() returns bigint language plpgsql as $$
declare
    e ledger.entry;
    n bigint := 0;
begin
    for e in select entry.* from ledger.entry entry
             join ledger.feed f on f.entry = entry.id order by f.pos loop
        perform ledger.project(e);
        n := n + 1;
    end loop;
    return n;
end $$;

create function ledger.rebuild() returns bigint language plpgsql
    set search_path = ledger, pg_temp as $$
begin
    lock table entry in exclusive mode;       -- waits for writers, and keeps them waiting
    truncate landing, publication, claim, intent, attempt, step, contract, approval;
    return replay();
end $$;

-- Rights ------------------------------------------------------------------------------------------

revoke all on schema ledger from public;
revoke all on all tables in schema ledger from public;
revoke all on all functions in schema ledger from public;
grant usage on schema ledger to levada_reader;
grant select on ledger.positions, ledger.changes, ledger.entries, ledger.landings,
    ledger.publications, ledger.attempts, ledger.claims, ledger.intents, ledger.steps,
    ledger.contracts, ledger.approvals to levada_reader;
grant execute on function ledger.land, ledger.claim, ledger.open_steps, ledger.close_steps
    to levada_runner;
grant execute on function ledger.renew, ledger.release, ledger.withhold
    to levada_runner, levada_publisher;
grant execute on function ledger.intend, ledger.confirm, ledger.publish, ledger.withdraw,
    ledger.lock_tables to levada_publisher;
grant execute on function ledger.record_contracts, ledger.approve to levada_governance;
