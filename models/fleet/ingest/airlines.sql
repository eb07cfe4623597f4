-- The carriers, whole.
select
    nullif(carrier, 'NA') as carrier,
    nullif(name, 'NA') as name
from {{ source('landing', 'airlines') }}
