{#-
    Names the columns whose text does not read as their type, comma-separated; NULL where all do.
    as_type alone would turn a broken value into an unknown one, and nobody would ever see it.
-#}
{% macro unreadable(types) -%}
    nullif(concat_ws(
        ','
        {%- for column, type in types.items() %},
        case
            when {{ column }} is not null and {{ as_type(column, type) }} is null
                then '{{ column }}'
        end
        {%- endfor %}
    ), '')
{%- endmacro %}
