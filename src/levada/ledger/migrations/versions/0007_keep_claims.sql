create or replace function ledger.project_withdrawal(e ledger.entry) returns void
    language plpgsql as $$
begin
    if not coalesce((e.body ->> 'keeps')::boolean, false) then
        delete from claim where run = e.body ->> 'run';
    end if;
    delete from intent where run = e.body ->> 'run';
end $$;

drop function ledger.withdraw(text, text);

create function ledger.withdraw(run_ text, because_ text, keeps_ boolean) returns void
    language plpgsql security definer set search_path = ledger, pg_temp as $$
declare meant intent;
begin
    meant := standing(run_);
    insert into entry (kind, name, key, body) values ('withdrawal', meant.product, '',
        jsonb_build_object('product', meant.product, 'run', run_, 'because', because_,
                           'keeps', keeps_));
end $$;

revoke all on function ledger.withdraw from public;
grant execute on function ledger.withdraw to levada_publisher;
