{#
  Balances at an instant, from a snapshot that was taken later. Copy this file into the macros of a project.

  A movement counts for the balance if it is effective before `at` and was never reversed; it is in the
  snapshot if it was recorded by then and not reversed by then. The difference is taken back, so that late,
  back-dated and reversed rows come out as at the instant. One key of the snapshot twice, no time at which it
  was taken, or a movement without amount or times is an error: nobody knows the balance.

  snapshot, movements: relations; key: a list of columns of both; balance, taken: columns of the snapshot;
  amount, effective, recorded, reversed: columns of the movements, the last one may be none.
#}
{% macro balances_at(
    at, snapshot, movements, key,
    balance='balance', taken='taken_at',
    amount='amount', effective='effective_at', recorded='recorded_at', reversed=none
) %}
{%- set keys = key | join(', ') -%}
{%- set gone = 'm.' ~ reversed if reversed else 'cast(null as timestamp with time zone)' -%}
with levada_snapshot as (
    select
        {{ keys }}
        , {{ balance }} as levada_balance
        , case
            when count(*) over (partition by {{ keys }}) > 1 then error('the snapshot has a key twice')
            when {{ taken }} is null then error('the snapshot does not say when it was taken')
            else {{ taken }}
        end as levada_taken
    from {{ snapshot }}
)

, levada_moved as (
    select
        {% for each in key %}x.{{ each }}, {% endfor -%}
        sum(x.levada_amount * (
            cast(
                case
                    when x.levada_amount is null then error('a movement is incomplete: it lacks amount')
                    when x.levada_effective is null then error('a movement is incomplete: it lacks effective')
                    when x.levada_recorded is null then error('a movement is incomplete: it lacks recorded')
                    else x.levada_effective < {{ at }} and x.levada_reversed is null
                end as integer
            )
            - cast(
                x.levada_recorded <= x.levada_taken
                and (x.levada_reversed is null or x.levada_reversed > x.levada_taken) as integer
            )
        )) as levada_sum
    from (
        select
            {% for each in key %}m.{{ each }}, {% endfor -%}
            m.{{ amount }} as levada_amount
            , m.{{ effective }} as levada_effective
            , m.{{ recorded }} as levada_recorded
            , {{ gone }} as levada_reversed
            , coalesce(
                s.levada_taken
                , (select max(levada_taken) from levada_snapshot)
                , error('the snapshot has no row')
            ) as levada_taken
        from {{ movements }} as m
        left join levada_snapshot as s
            on {% for each in key %}{{ 'and ' if not loop.first }}m.{{ each }} is not distinct from s.{{ each }} {% endfor %}
    ) as x
    group by all
)

select
    {% for each in key %}coalesce(s.{{ each }}, m.{{ each }}) as {{ each }}, {% endfor -%}
    coalesce(s.levada_balance, 0) + coalesce(m.levada_sum, 0) as {{ balance }}
from levada_snapshot as s
full join levada_moved as m
    on {% for each in key %}{{ 'and ' if not loop.first }}s.{{ each }} is not distinct from m.{{ each }} {% endfor %}
{% endmacro %}
