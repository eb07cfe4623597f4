-- The board of a day: every route, its flights summed. Adds up to operations' delays.
select
    delays.flight_date,
    delays.origin,
    delays.dest,
    airports.name as dest_name,
    cast(sum(delays.scheduled) as bigint) as scheduled,
    cast(sum(delays.departed) as bigint) as departed,
    cast(sum(delays.cancelled) as bigint) as cancelled,
    cast(sum(delays.arrived) as bigint) as arrived,
    cast(sum(delays.diverted) as bigint) as diverted,
    cast(sum(delays.on_time) as bigint) as on_time,
    cast(sum(delays.late) as bigint) as late,
    cast(sum(delays.dep_delay_minutes) as bigint) as dep_delay_minutes,
    cast(sum(delays.arr_delay_minutes) as bigint) as arr_delay_minutes
from {{ ref('operations', 'delays') }} as delays
left join {{ ref('fleet', 'airports') }} as airports on delays.dest = airports.faa
group by delays.flight_date, delays.origin, delays.dest, airports.name
