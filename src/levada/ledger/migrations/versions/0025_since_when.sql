-- Since when a claim is held and a slice is tried in vain is asked of the log, by `levada why`.
create index entry_first_attempt on ledger.entry (name)
    where kind = 'attempt' and body ->> 'tries' = '1';
create index entry_claim on ledger.entry (((body ->> 'token')::bigint)) where kind = 'claim';
