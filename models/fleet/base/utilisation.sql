-- How much each aircraft flew on a day. Tail numbers that the register does not know stay.
select
    flights.flight_date,
    flights.tailnum,
    planes.tailnum is not null as known_plane,
    planes.manufacturer,
    planes.seats,
    count(*) as scheduled,
    count(*) filter (where not flights.cancelled) as flown,
    cast(coalesce(sum(flights.air_time), 0) as bigint) as minutes_flown,
    cast(coalesce(sum(flights.distance) filter (where not flights.cancelled), 0) as bigint)
        as miles_flown
from {{ ref('operations', 'flights') }} as flights
left join {{ ref('planes') }} as planes on flights.tailnum = planes.tailnum
-- A flight cancelled before an aircraft was assigned belongs to none.
where flights.tailnum is not null
group by
    flights.flight_date, flights.tailnum, planes.tailnum, planes.manufacturer, planes.seats
