-- Each carrier's week, Monday to Sunday.
select
    cast(date_trunc('week', daily.flight_date) as date) as week_start,
    daily.carrier,
    airlines.name as carrier_name,
    count(distinct daily.flight_date) as days_flown,
    cast(sum(daily.scheduled) as bigint) as scheduled,
    cast(sum(daily.departed) as bigint) as departed,
    cast(sum(daily.cancelled) as bigint) as cancelled,
    cast(sum(daily.arrived) as bigint) as arrived,
    cast(sum(daily.diverted) as bigint) as diverted,
    cast(sum(daily.on_time) as bigint) as on_time,
    cast(sum(daily.late) as bigint) as late,
    cast(sum(daily.dep_delay_minutes) as bigint) as dep_delay_minutes,
    cast(sum(daily.arr_delay_minutes) as bigint) as arr_delay_minutes
from {{ ref('daily_punctuality') }} as daily
left join {{ ref('fleet', 'airlines') }} as airlines on daily.carrier = airlines.carrier
group by week_start, daily.carrier, airlines.name
