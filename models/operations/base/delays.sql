-- What happened to each scheduled flight, as numbers that add up.
select
    flight_date,
    carrier,
    flight,
    origin,
    dest,
    cast(1 as integer) as scheduled,
    cast(not cancelled as integer) as departed,
    cast(cancelled as integer) as cancelled,
    cast(arr_delay is not null as integer) as arrived,
    cast(not cancelled and arr_delay is null as integer) as diverted,
    -- On time is less than 15 minutes late at the gate, the way carriers report it.
    cast(coalesce(arr_delay < 15, false) as integer) as on_time,
    cast(coalesce(arr_delay >= 15, false) as integer) as late,
    greatest(coalesce(dep_delay, 0), 0) as dep_delay_minutes,
    greatest(coalesce(arr_delay, 0), 0) as arr_delay_minutes
from {{ ref('flights') }}
