-- The month of each of New York's airports.
select
    cast(date_trunc('month', flight_date) as date) as month_start,
    origin,
    count(distinct flight_date) as days_flown,
    count(distinct carrier) as carriers,
    cast(sum(scheduled) as bigint) as scheduled,
    cast(sum(departed) as bigint) as departed,
    cast(sum(cancelled) as bigint) as cancelled,
    cast(sum(arrived) as bigint) as arrived,
    cast(sum(diverted) as bigint) as diverted,
    cast(sum(on_time) as bigint) as on_time,
    cast(sum(late) as bigint) as late,
    cast(sum(dep_delay_minutes) as bigint) as dep_delay_minutes,
    cast(sum(arr_delay_minutes) as bigint) as arr_delay_minutes
from {{ ref('daily_punctuality') }}
group by month_start, origin
