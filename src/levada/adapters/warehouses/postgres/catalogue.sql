-- What the warehouse knows of itself, in schema `levada`: versions, slices, and who touched what.
--
-- Published rows are stored once, each under the lot that brought it. A slice says in which data
-- versions a lot is what a partition holds; a published view joins the two. Versions of a domain
-- are numbered under one row's lock, which is held from the numbering to the commit, so that they
-- become visible in their order and without a gap.
--
-- Owned by levada_owner, whose functions write it; the publisher may add slices and turn them.
-- Run again, it changes nothing.

create schema if not exists levada authorization levada_owner;
set role levada_owner;

create table if not exists levada.domain (
    name text primary key,
    version bigint not null default 0,
    oldest bigint not null default 1       -- versions before it were forgotten
);

create table if not exists levada.change (
    domain text not null references levada.domain,
    version bigint not null,
    at timestamptz not null default now(),
    run text,
    note jsonb,
    housekeeping boolean not null default false,
    transaction xid8 not null default pg_current_xact_id(),
    primary key (domain, version)
);
create unique index if not exists change_run on levada.change (domain, run);
create index if not exists change_transaction on levada.change (transaction);

create table if not exists levada.published (
    domain text not null references levada.domain,
    relation text not null,
    since bigint not null,
    primary key (domain, relation)
);

create table if not exists levada.slice (
    domain text not null references levada.domain,
    relation text not null,
    part text not null,
    low timestamptz not null,
    high timestamptz not null,
    lot bigint not null,
    since bigint not null,
    until bigint,
    primary key (domain, relation, part, since)
);
create unique index if not exists slice_now on levada.slice (domain, relation, part)
    where until is null;
create index if not exists slice_lot on levada.slice (lot);

create sequence if not exists levada.lot;

create table if not exists levada.touched (
    id bigint generated always as identity primary key,
    transaction xid8 not null default pg_current_xact_id(),
    at timestamptz not null default now(),
    domain text not null,
    relation text not null,
    what text not null,
    version bigint,
    unique (transaction, at, domain, relation, what)
);
create index if not exists touched_version on levada.touched (domain, version);

-- The next version of a domain. The lock on its row is held until the commit.
create or replace function levada.number(domain_ text, run_ text, note_ jsonb, housekeeping_ boolean)
returns bigint language plpgsql as $$
declare
    number_ bigint;
begin
    update levada.domain set version = version + 1 where name = domain_
    returning version into number_;
    if number_ is null then
        raise exception 'no domain % in this warehouse', domain_;
    end if;
    insert into levada.change (domain, version, run, note, housekeeping)
    values (domain_, number_, run_, note_, housekeeping_);
    return number_;
end $$;

-- A swap says that it is one, last before it turns the slices.
create or replace function levada.swap(domain_ text, run_ text, note_ jsonb)
returns bigint language sql security definer set search_path = pg_catalog as $$
    select levada.number(domain_, run_, note_, false)
$$;

create or replace function levada.touch(domain_ text, relation_ text, what_ text)
returns void language sql as $$
    insert into levada.touched (domain, relation, what)
    select domain_, relation_, what_ || ' by ' || session_user
    where exists (select from levada.domain where name = domain_)
    on conflict do nothing
$$;

-- At the commit, what was touched gets the version of its transaction: a swap's own, or a new one
-- that names no run.
create or replace function levada.account() returns trigger
language plpgsql security definer set search_path = pg_catalog as $$
declare
    number_ bigint;
begin
    select version into number_ from levada.change
    where domain = new.domain and transaction = pg_current_xact_id() and at = now();
    if number_ is null then
        number_ := levada.number(new.domain, null, null, false);
    end if;
    update levada.touched set version = number_ where id = new.id;
    return null;
end $$;

drop trigger if exists account on levada.touched;
create constraint trigger account
    after insert on levada.touched deferrable initially deferred
    for each row execute function levada.account();

-- Stored rows were changed: of "<domain>$rows".<relation>.
create or replace function levada.rows_changed() returns trigger
language plpgsql security definer set search_path = pg_catalog as $$
begin
    perform levada.touch(left(tg_table_schema, -5), tg_table_name, lower(tg_op) || ' of rows');
    return null;
end $$;

create or replace function levada.slices_changed() returns trigger
language plpgsql security definer set search_path = pg_catalog as $$
begin
    if tg_op <> 'INSERT' then
        perform levada.touch(old.domain, old.relation, lower(tg_op) || ' of slices');
    end if;
    if tg_op <> 'DELETE' then
        perform levada.touch(new.domain, new.relation, lower(tg_op) || ' of slices');
    end if;
    return null;
end $$;

create or replace trigger slices_changed
    after insert or update or delete on levada.slice
    for each row execute function levada.slices_changed();

-- Give up what only versions before `oldest_` hold. What was pinned to one of them is gone.
create or replace function levada.forget(domain_ text, oldest_ bigint)
returns bigint language plpgsql security definer set search_path = pg_catalog as $$
declare
    relation_ text;
    gone_ bigint;
    total_ bigint := 0;
begin
    if oldest_ > (select version from levada.domain where name = domain_) then
        raise exception 'version % of % is still to come', oldest_, domain_;
    end if;
    perform levada.number(domain_, null, jsonb_build_object('forgot before', oldest_), true);
    update levada.domain set oldest = greatest(oldest, oldest_) where name = domain_;
    delete from levada.slice where domain = domain_ and until <= oldest_;
    for relation_ in select relation from levada.published where domain = domain_ loop
        execute format(
            'delete from %I.%I r where not exists'
            ' (select from levada.slice s where s.lot = r._lot)',
            domain_ || '$rows', relation_
        );
        get diagnostics gone_ = row_count;
        total_ := total_ + gone_;
    end loop;
    return total_;
end $$;

-- The table that an object belongs to, which is of a published table or of its rows.
create or replace function levada.shape_changed() returns event_trigger
language plpgsql security definer set search_path = pg_catalog as $$
begin
    perform levada.touch(regexp_replace(n.nspname, '\$rows$', ''), c.relname, lower(d.command_tag))
    from pg_event_trigger_ddl_commands() d
    join pg_class c on c.oid = case d.classid
        when 'pg_class'::regclass then d.objid
        when 'pg_trigger'::regclass then (select tgrelid from pg_trigger where oid = d.objid)
        when 'pg_rewrite'::regclass then (select ev_class from pg_rewrite where oid = d.objid)
        when 'pg_policy'::regclass then (select polrelid from pg_policy where oid = d.objid)
    end
    join pg_namespace n on n.oid = c.relnamespace
    where c.relkind not in ('i', 'I') and n.nspname !~ '^(run\$|pg_|levada$)';
end $$;

create or replace function levada.shape_dropped() returns event_trigger
language plpgsql security definer set search_path = pg_catalog as $$
begin
    perform levada.touch(
        regexp_replace(d.address_names[1], '\$rows$', ''), d.address_names[2],
        'drop ' || d.object_type
    )
    from pg_event_trigger_dropped_objects() d
    where (d.original or d.normal)
        and d.object_type in ('table', 'view', 'table column', 'trigger', 'rule', 'policy')
        and d.address_names[1] !~ '^(run\$|pg_|levada$)';
end $$;

revoke execute on all functions in schema levada from public;
grant usage on schema levada to levada_runner, levada_publisher;
grant select on all tables in schema levada to levada_runner, levada_publisher;
grant insert on levada.published, levada.slice to levada_publisher;
grant update (until) on levada.slice to levada_publisher;
grant usage on sequence levada.lot to levada_publisher;
grant execute on function levada.swap, levada.forget, levada.rows_changed to levada_publisher;
reset role;
