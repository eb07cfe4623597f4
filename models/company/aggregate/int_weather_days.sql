{{ config(materialized='ephemeral') }}
-- Hours of weather rolled up to New York's local days, per airport.
-- Means and sums go over decimals: sums of doubles depend on the order of the rows.
select
    origin,
    cast(timezone('America/New_York', observed_at) as date) as weather_date,
    count(*) as hours_observed,
    cast(avg(cast(temp as decimal(9, 2))) as decimal(5, 1)) as mean_temp,
    cast(sum(cast(precip as decimal(9, 2))) as decimal(7, 2)) as precip,
    cast(min(visib) as decimal(5, 2)) as worst_visib,
    -- Of plausible readings only: the contract of the observations warns of the others.
    cast(max(wind_speed) filter (where wind_speed <= 200) as decimal(6, 1)) as max_wind_speed
from {{ ref('weather', 'observations') }}
group by origin, weather_date
