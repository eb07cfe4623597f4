-- How punctual each carrier was at each airport on a day, and in what weather.
with counted as (
    select
        flights.flight_date,
        flights.carrier,
        flights.origin,
        count(*) as scheduled,
        count(*) filter (where not flights.cancelled) as departed,
        count(*) filter (where flights.cancelled) as cancelled,
        count(flights.arr_delay) as arrived,
        count(*) filter (where not flights.cancelled and flights.arr_delay is null) as diverted,
        count(*) filter (where flights.arr_delay < 15) as on_time,
        count(*) filter (where flights.arr_delay >= 15) as late,
        cast(sum(greatest(coalesce(flights.dep_delay, 0), 0)) as bigint) as dep_delay_minutes,
        cast(sum(greatest(coalesce(flights.arr_delay, 0), 0)) as bigint) as arr_delay_minutes,
        count(planes.tailnum) filter (where not flights.cancelled) as departed_known_plane,
        cast(coalesce(sum(planes.seats) filter (where not flights.cancelled), 0) as bigint)
            as known_seats
    from {{ ref('operations', 'flights') }} as flights
    left join {{ ref('fleet', 'planes') }} as planes on flights.tailnum = planes.tailnum
    group by flights.flight_date, flights.carrier, flights.origin
)

select
    counted.*,
    coalesce(weather.hours_observed, 0) as hours_observed,
    weather.mean_temp,
    weather.precip,
    weather.worst_visib,
    weather.max_wind_speed
from counted
left join {{ ref('int_weather_days') }} as weather
    on counted.origin = weather.origin and counted.flight_date = weather.weather_date
