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
    try_cast(year_built as integer) as year_built,
    type,
    manufacturer,
    model,
    try_cast(engines as integer) as engines,
    try_cast(seats as integer) as seats,
    try_cast(speed as integer) as speed,
    engine,
    {{ unreadable({'year_built': 'integer', 'speed': 'integer'}) }} as unreadable
from landed
