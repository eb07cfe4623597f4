-- The airports, whole.
select
    faa,
    nullif(name, 'NA') as name,
    {{ as_type('lat', 'float8') }} as lat,
    {{ as_type('lon', 'float8') }} as lon,
    {{ as_type('alt', 'integer') }} as alt,
    {{ as_type('tz', 'integer') }} as tz,
    nullif(dst, 'NA') as dst,
    nullif(tzone, 'NA') as tzone
from {{ source('landing', 'airports') }}
