{{ config(materialized='view') }}
-- The landed text, with the source's "NA" as NULL: nothing is typed and nothing is left out.
select
    year,
    month,
    day,
    nullif(dep_time, 'NA') as dep_time,
    nullif(sched_dep_time, 'NA') as sched_dep_time,
    nullif(dep_delay, 'NA') as dep_delay,
    nullif(arr_time, 'NA') as arr_time,
    nullif(sched_arr_time, 'NA') as sched_arr_time,
    nullif(arr_delay, 'NA') as arr_delay,
    nullif(carrier, 'NA') as carrier,
    nullif(flight, 'NA') as flight,
    nullif(tailnum, 'NA') as tailnum,
    nullif(origin, 'NA') as origin,
    nullif(dest, 'NA') as dest,
    nullif(air_time, 'NA') as air_time,
    nullif(distance, 'NA') as distance,
    nullif(minute, 'NA') as minute,
    nullif(time_hour, 'NA') as time_hour,
    _file as source_file,
    _line as source_line
from {{ source('landing', 'flights') }}
