-- One row per airport and hour, if it was observed.
select
    origin,
    {{ as_type('time_hour', 'timestamptz') }} as observed_at,
    {{ as_type('temp', 'float8') }} as temp,
    {{ as_type('dewp', 'float8') }} as dewp,
    {{ as_type('humid', 'float8') }} as humid,
    {{ as_type('wind_dir', 'integer') }} as wind_dir,
    {{ as_type('wind_speed', 'float8') }} as wind_speed,
    {{ as_type('wind_gust', 'float8') }} as wind_gust,
    {{ as_type('precip', 'float8') }} as precip,
    {{ as_type('pressure', 'float8') }} as pressure,
    {{ as_type('visib', 'float8') }} as visib,
    {{ unreadable({
        'temp': 'float8',
        'dewp': 'float8',
        'humid': 'float8',
        'wind_dir': 'integer',
        'wind_speed': 'float8',
        'wind_gust': 'float8',
        'precip': 'float8',
        'pressure': 'float8',
        'visib': 'float8',
    }) }} as unreadable,
    regexp_replace(source_file, '^.*/', '') as source_file,
    cast(source_line as bigint) as source_line
from {{ ref('stg_observations') }}
