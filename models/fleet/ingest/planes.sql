-- The aircraft register, whole.
with landed as (
    select
        tailnum,
        nullif(year, 'NA') as year_built,
        nullif(type, 'NA') as type,
        nullif(manufacturer, 'NA') as manufacturer,
        nullif(model, 'NA') as model,
        nullif(engines, 'NA') as engines,
        nullif(seats, 'NA') as seats,
        nullif(speed, 'NA') as speed,
        nullif(engine, 'NA') as engine
    from {{ source('landing', 'planes') }}
)

select
    tailnum,
    {{ as_type('year_built', 'integer') }} as year_built,
    type,
    manufacturer,
    model,
    {{ as_type('engines', 'integer') }} as engines,
    {{ as_type('seats', 'integer') }} as seats,
    {{ as_type('speed', 'integer') }} as speed,
    engine,
    {{ unreadable({'year_built': 'integer', 'speed': 'integer'}) }} as unreadable
from landed
