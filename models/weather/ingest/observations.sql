-- One row per airport and hour, if it was observed.
select
    origin,
    try_cast(time_hour as timestamptz) as observed_at,
    try_cast(temp as double) as temp,
    try_cast(dewp as double) as dewp,
    try_cast(humid as double) as humid,
    try_cast(wind_dir as integer) as wind_dir,
    try_cast(wind_speed as double) as wind_speed,
    try_cast(wind_gust as double) as wind_gust,
    try_cast(precip as double) as precip,
    try_cast(pressure as double) as pressure,
    try_cast(visib as double) as visib,
    {{ unreadable({
        'temp': 'double',
        'dewp': 'double',
        'humid': 'double',
        'wind_dir': 'integer',
        'wind_speed': 'double',
        'wind_gust': 'double',
        'precip': 'double',
        'pressure': 'double',
        'visib': 'double',
    }) }} as unreadable,
    regexp_extract(source_file, '[^/]+$') as source_file,
    cast(source_line as bigint) as source_line
from {{ ref('stg_observations') }}
