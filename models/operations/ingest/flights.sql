-- One row per scheduled flight, cancelled ones included.
select
    {{ as_type("concat_ws('-', year, month, day)", 'date') }} as flight_date,
    carrier,
    {{ as_type('flight', 'integer') }} as flight,
    origin,
    dest,
    tailnum,
    -- time_hour is the UTC hour of the scheduled departure; its minute stands apart.
    {{ as_type('time_hour', 'timestamptz') }}
    + {{ as_type('minute', 'integer') }} * interval '1 minute' as scheduled_at,
    {{ as_type('sched_dep_time', 'integer') }} as sched_dep_time,
    {{ as_type('dep_time', 'integer') }} as dep_time,
    {{ as_type('dep_delay', 'integer') }} as dep_delay,
    {{ as_type('sched_arr_time', 'integer') }} as sched_arr_time,
    {{ as_type('arr_time', 'integer') }} as arr_time,
    {{ as_type('arr_delay', 'integer') }} as arr_delay,
    {{ as_type('air_time', 'integer') }} as air_time,
    {{ as_type('distance', 'integer') }} as distance,
    dep_time is null as cancelled,
    {{ unreadable({
        'dep_time': 'integer',
        'dep_delay': 'integer',
        'arr_time': 'integer',
        'arr_delay': 'integer',
        'air_time': 'integer',
    }) }} as unreadable,
    regexp_replace(source_file, '^.*/', '') as source_file,
    cast(source_line as bigint) as source_line
from {{ ref('stg_flights') }}
