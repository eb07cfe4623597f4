-- The airports, whole.
select
    faa,
    nullif(name, 'NA') as name,
    try_cast(lat as double) as lat,
    try_cast(lon as double) as lon,
    try_cast(alt as integer) as alt,
    try_cast(tz as integer) as tz,
    nullif(dst, 'NA') as dst,
    nullif(tzone, 'NA') as tzone
from {{ source('landing', 'airports') }}
