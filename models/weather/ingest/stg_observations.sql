{{ config(materialized='ephemeral') }}
-- The landed text, with the source's "NA" as NULL.
select
    nullif(origin, 'NA') as origin,
    nullif(time_hour, 'NA') as time_hour,
    nullif(temp, 'NA') as temp,
    nullif(dewp, 'NA') as dewp,
    nullif(humid, 'NA') as humid,
    nullif(wind_dir, 'NA') as wind_dir,
    nullif(wind_speed, 'NA') as wind_speed,
    nullif(wind_gust, 'NA') as wind_gust,
    nullif(precip, 'NA') as precip,
    nullif(pressure, 'NA') as pressure,
    nullif(visib, 'NA') as visib,
    _file as source_file,
    _line as source_line
from {{ source('landing', 'weather') }}
