-- What a running canary needs is what it was started with, and what governance asks by now: who looks at
-- it, who asks for its approval and who promotes it see the same. One that ended keeps its own.
drop view ledger.canaries;
create view ledger.canaries as
    select c.id, c.product, c.state, c.old, c.new,
           case when c.state = 'running' then greatest(c.wanted, l.wanted) else c.wanted end
               as wanted,
           c.by_policy and (c.state <> 'running' or coalesce(l.by_policy, false)) as by_policy,
           c.tolerance, c.reason, c.because, c.reviewer, c.said, c.at, c.entry, c.owners, c.rule,
           f.pos, t.told, t.differing, (select count(*) from ledger.canary_intervals i
               where i.canary = c.id and i.counts and i.equal and i.pos > coalesce(
                   (select max(d.pos) from ledger.canary_intervals d
                    where d.canary = c.id and d.counts and not d.equal), 0)) as in_a_row
    from ledger.canary c join ledger.feed f on f.entry = c.entry
    left join ledger.canary_terms l on l.product = c.product,
    lateral (select count(*) as told, count(*) filter (where not i.equal) as differing
             from ledger.canary_intervals i where i.canary = c.id and i.counts) t;

create or replace function ledger.start_canary(id_ text, product_ text, said_ jsonb) returns void
    language plpgsql security definer set search_path = ledger, pg_temp as $$
declare
    other text;
    least_ canary_terms;
begin
    perform hold(array['canary ' || product_]);
    select * into least_ from canary_terms where product = product_;
    if coalesce((said_ ->> 'wanted')::int, 0) < coalesce(least_.wanted, 1) then
        raise exception 'a canary of % wants at least % equal intervals: governance recorded so many',
            product_, coalesce(least_.wanted, 1) using errcode = 'LV003';
    end if;
    if (said_ ->> 'by_policy')::boolean and not coalesce(least_.by_policy, false) then
        raise exception 'a canary of % is promoted by approval: governance recorded no policy for it; %',
            product_, 'say --promote approval, or have it recorded (`levada run` or `levada up` on a'
            || ' laptop, governance''s pipeline in production)' using errcode = 'LV003';
    end if;
    select id into other from canary where product = product_ and state = 'running';
    if found then
        raise exception 'canary % of % is running: promote or abort it first', other, product_
            using errcode = 'LV003';
    end if;
    insert into entry (kind, name, key, body)
        values ('canary', product_, id_, said_ || '{"state": "running"}');
end $$;

create or replace function ledger.settle_canary(id_ text) returns void
    language plpgsql security definer set search_path = ledger, pg_temp as $$
declare
    meant ledger.canary := promotable(id_);
    needs record;
begin
    select wanted, by_policy into needs from canaries where id = id_;
    if not needs.by_policy then
        raise exception 'canary % of % is promoted by approval', id_, meant.product
            using errcode = 'LV003';
    end if;
    insert into entry (kind, name, key, body) values ('canary', meant.product, id_,
        jsonb_build_object('state', 'promoted',
            'because', format('%s equal intervals in a row', needs.wanted)));
end $$;

revoke all on ledger.canaries from public;
grant select on ledger.canaries to levada_reader;
