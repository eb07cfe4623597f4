-- The ledger: one append-only log, its order, the state projected from it, and the only ways to
-- write. Singular names are tables, closed to everybody but the owner; plural names are the views
-- that readers see; functions are granted role by role at the end.
--
-- A partition is the text `grain|start|zone` (`part`); `key` is its short name for people.

-- The log and its order ---------------------------------------------------------------------------

create table ledger.entry (
    id bigint generated always as identity primary key,
    kind text not null,
    name text not null,                       -- the table or the product that it is about
    key text not null,                        -- and the partition, by its short name
    body jsonb not null,
    by text not null default session_user,
    at timestamptz not null default clock_timestamp()
);

create table ledger.feed (
    pos bigint generated always as identity primary key,
    entry bigint not null unique,
    kind text not null,
    name text not null,
    key text not null
);

create function ledger.refuse() returns trigger language plpgsql as $$
begin
    raise exception 'the ledger is append-only: % of % is refused; write a new line instead',
        lower(tg_op), tg_table_name using errcode = 'LV003';
end $$;

create trigger append_only before update or delete or truncate on ledger.entry
    for each statement execute function ledger.refuse();
create trigger append_only before update or delete or truncate on ledger.feed
    for each statement execute function ledger.refuse();

-- Order is commit order: this trigger is deferred, so it runs inside COMMIT. There it takes the
-- lock and the position, where no slow client can hold them and no writer can forget them.
create function ledger.to_feed() returns trigger language plpgsql
    security definer set search_path = ledger, pg_temp as $$
begin
    perform pg_advisory_xact_lock(0, 42);
    insert into feed (entry, kind, name, key) values (new.id, new.kind, new.name, new.key);
    perform pg_notify('levada', '');          -- equal ones become one per transaction
    return null;
end $$;

create constraint trigger to_feed after insert on ledger.entry
    deferrable initially deferred for each row execute function ledger.to_feed();

-- The projected state -----------------------------------------------------------------------------

create table ledger.landing (
    entry bigint not null,
    table_name text not null,
    part text not null,
    start timestamptz,
    generation int not null,
    content text not null,
    path text not null,
    size bigint not null,
    at timestamptz not null,
    newest boolean not null,
    primary key (table_name, part, generation)
);
create unique index landing_newest on ledger.landing (table_name, part) where newest;

create table ledger.publication (
    entry bigint not null,
    table_name text not null,
    part text not null,
    start timestamptz,
    generation int not null,
    contract text not null,
    verdict text not null,
    data_version text not null,
    content text not null,
    made_by text not null,
    inputs jsonb not null,
    taint jsonb not null,
    run text not null,
    at timestamptz not null,
    product text not null,
    newest boolean not null,
    primary key (table_name, part, generation)
);
create unique index publication_newest on ledger.publication (table_name, part) where newest;
create index publication_product on ledger.publication (product, part) where newest;
create index publication_run on ledger.publication (run);
create index publication_contract on ledger.publication (contract);

create table ledger.claim (
    product text not null,
    part text not null,
    start timestamptz,
    key text not null,
    run text not null,
    token bigint not null,
    fingerprint text not null,
    inputs jsonb not null,
    primary key (product, part)
);
create index claim_run on ledger.claim (run);

create table ledger.intent (
    run text primary key,
    product text not null,
    tokens jsonb not null,
    lines jsonb not null
);

create table ledger.attempt (
    entry bigint not null,
    product text not null,
    part text not null,
    start timestamptz,
    run text not null,
    fingerprint text not null,
    verdict text not null,
    because text not null,
    results jsonb not null,
    tries int not null,
    at timestamptz not null,
    not_before timestamptz,
    primary key (product, part)
);

create table ledger.step (
    product text not null,
    part text not null,
    start timestamptz,
    key text not null,
    because jsonb not null,
    required jsonb not null,
    first boolean not null,
    primary key (product, part)
);

create table ledger.contract (
    label text primary key,
    id text not null,
    version text not null,
    hash text not null,
    body text not null
);
create index contract_version on ledger.contract (id, version);

create table ledger.approval (
    subject text not null,
    hash text not null,
    reason text not null,
    by text not null,
    at timestamptz not null,
    primary key (subject, hash)
);

-- Not of the log: how long a run's claims live, and what it lost. Renewing writes no line.
create table ledger.lease (
    run text primary key,
    product text not null,
    until timestamptz not null,
    lost text
);

create sequence ledger.token;

-- The projectors: what one entry does to the state ------------------------------------------------
-- They name tables without a schema, so that `verify` replays the log into temporary ones.

create function ledger.starts(part text) returns timestamptz language sql stable as $$
    select nullif(split_part(part, '|', 2), '')::timestamptz $$;

-- The highest generation that either list requires of each input.
create function ledger.highest(a jsonb, b jsonb) returns jsonb language sql immutable as $$
    select coalesce(jsonb_agg(jsonb_build_array(name, part, generation) order by name, part), '[]')
    from (select r ->> 0 as name, r ->> 1 as part, max((r ->> 2)::int) as generation
          from jsonb_array_elements(a || b) r group by 1, 2) merged $$;

-- All reasons, each once, in the order in which they came.
create function ledger.reasons(a jsonb, b text) returns jsonb language sql immutable as $$
    select a || coalesce(jsonb_agg(reason order by n), '[]')
    from (select reason, min(n) as n
          from unnest(string_to_array(b, '; ')) with ordinality as said(reason, n)
          where not a ? reason group by reason) new $$;

create function ledger.project_landing(e ledger.entry) returns void language plpgsql as $$
begin
    update landing set newest = false
        where table_name = e.name and part = e.body ->> 'part' and newest;
    insert into landing select r.* from jsonb_populate_record(null::landing, e.body
        || jsonb_build_object('entry', e.id, 'start', starts(e.body ->> 'part'), 'newest', true)) r;
end $$;

create function ledger.project_publication(e ledger.entry) returns void language plpgsql as $$
begin
    update publication set newest = false
        where table_name = e.name and part = e.body ->> 'part' and newest;
    insert into publication select r.* from jsonb_populate_record(null::publication, e.body
        || jsonb_build_object('entry', e.id, 'start', starts(e.body ->> 'part'), 'newest', true)) r;
    delete from attempt where product = e.body ->> 'product' and part = e.body ->> 'part';
    delete from claim where product = e.body ->> 'product' and part = e.body ->> 'part';
    delete from intent where run = e.body ->> 'run';
end $$;

create function ledger.project_claim(e ledger.entry) returns void language plpgsql as $$
begin
    insert into claim select r.* from jsonb_populate_record(null::claim, e.body
            || jsonb_build_object('start', starts(e.body ->> 'part'), 'key', e.key)) r
        on conflict (product, part) do update
        set run = excluded.run, token = excluded.token, fingerprint = excluded.fingerprint,
            inputs = excluded.inputs;
end $$;

create function ledger.project_release(e ledger.entry) returns void language plpgsql as $$
begin
    delete from claim where product = e.name and part = e.body ->> 'part';
end $$;

create function ledger.project_intent(e ledger.entry) returns void language plpgsql as $$
begin
    insert into intent select r.* from jsonb_populate_record(null::intent, e.body) r;
end $$;

create function ledger.project_withdrawal(e ledger.entry) returns void language plpgsql as $$
begin
    delete from claim where run = e.body ->> 'run';
    delete from intent where run = e.body ->> 'run';
end $$;

create function ledger.project_attempt(e ledger.entry) returns void language plpgsql as $$
begin
    delete from attempt where product = e.name and part = e.body ->> 'part';
    insert into attempt select r.* from jsonb_populate_record(null::attempt, e.body
        || jsonb_build_object('entry', e.id, 'start', starts(e.body ->> 'part'))) r;
    delete from claim where product = e.name and part = e.body ->> 'part';
end $$;

create function ledger.project_step(e ledger.entry) returns void language plpgsql as $$
begin
    insert into step as s (product, part, start, key, because, required, first)
        values (e.name, e.body ->> 'part', starts(e.body ->> 'part'), e.key,
                reasons('[]', e.body ->> 'because'), highest('[]', e.body -> 'required'),
                (e.body ->> 'first')::boolean)
        on conflict (product, part) do update
        set because = reasons(s.because, e.body ->> 'because'), first = excluded.first,
            required = highest(s.required, e.body -> 'required');
end $$;

create function ledger.project_step_closed(e ledger.entry) returns void language plpgsql as $$
begin
    delete from step where product = e.name and part = e.body ->> 'part';
end $$;

create function ledger.project_contract(e ledger.entry) returns void language plpgsql as $$
begin
    insert into contract select r.* from jsonb_populate_record(null::contract, e.body) r;
end $$;

create function ledger.project_approval(e ledger.entry) returns void language plpgsql as $$
begin
    insert into approval values (e.name, e.key, e.body ->> 'reason', e."by", e.at);
end $$;

create function ledger.project(e ledger.entry) returns void language plpgsql as $$
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
    end case;
end $$;

create function ledger.on_entry() returns trigger language plpgsql
    security definer set search_path = ledger, pg_temp as $$
begin
    perform project(new);
    return null;
end $$;

create trigger project after insert on ledger.entry
    for each row execute function ledger.on_entry();

-- What readers see --------------------------------------------------------------------------------

create view ledger.positions as
    select coalesce(max(pos), 0) as position from ledger.feed;
create view ledger.changes as
    select pos, kind, name, key from ledger.feed;
create view ledger.entries as
    select f.pos, e.id, e.kind, e.name, e.key, e.body, e.by, e.at
    from ledger.entry e join ledger.feed f on f.entry = e.id;
create view ledger.landings as
    select l.*, f.pos from ledger.landing l join ledger.feed f on f.entry = l.entry;
create view ledger.publications as
    select p.*, f.pos from ledger.publication p join ledger.feed f on f.entry = p.entry;
create view ledger.attempts as
    select a.*, f.pos from ledger.attempt a join ledger.feed f on f.entry = a.entry;
create view ledger.claims as
    select c.*, coalesce(l.until, to_timestamp(0)) as until
    from ledger.claim c left join ledger.lease l on l.run = c.run;
create view ledger.intents as
    select i.*, coalesce(l.until, to_timestamp(0)) as until
    from ledger.intent i left join ledger.lease l on l.run = i.run;
create view ledger.steps as
    select product, part, start, key, required, first,
           (select string_agg(r, '; ' order by n)
            from jsonb_array_elements_text(s.because) with ordinality as said(r, n)) as because
    from ledger.step s;
create view ledger.contracts as select * from ledger.contract;
create view ledger.approvals as select * from ledger.approval;
