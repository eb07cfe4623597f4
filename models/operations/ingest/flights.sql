-- One row per scheduled flight, cancelled ones included.
select
    try_cast(concat_ws('-', year, month, day) as date) as flight_date,
    carrier,
    try_cast(flight as integer) as flight,
    origin,
    dest,
    tailnum,
    -- time_hour is the UTC hour of the scheduled departure; its minute stands apart.
    try_cast(time_hour as timestamptz)
    + try_cast(minute as integer) * interval '1 minute' as scheduled_at,
    try_cast(sched_dep_time as integer) as sched_dep_time,
    try_cast(dep_time as integer) as dep_time,
    try_cast(dep_delay as integer) as dep_delay,
    try_cast(sched_arr_time as integer) as sched_arr_time,
    try_cast(arr_time as integer) as arr_time,
    try_cast(arr_delay as integer) as arr_delay,
    try_cast(air_time as integer) as air_time,
    try_cast(distance as integer) as distance,
    dep_time is null as cancelled,
    {{ unreadable({
        'dep_time': 'integer',
        'dep_delay': 'integer',
        'arr_time': 'integer',
        'arr_delay': 'integer',
        'air_time': 'integer',
    }) }} as unreadable,
    regexp_extract(source_file, '[^/]+$') as source_file,
    cast(source_line as bigint) as source_line
from {{ ref('stg_flights') }}
