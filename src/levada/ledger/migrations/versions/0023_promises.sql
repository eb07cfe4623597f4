-- A latency counts from the day on which it was promised; every audit of a table that has one asks.
create index entry_contract on ledger.entry (name) where kind = 'contract';
