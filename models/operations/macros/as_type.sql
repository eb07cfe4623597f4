{#-
    Text read as a type; NULL where it does not read as one. Every database has its own words.
-#}
{% macro as_type(text, type) -%}
    {%- if target is defined and target.type == 'postgres' -%}
        case when pg_input_is_valid({{ text }}, '{{ type }}') then cast({{ text }} as {{ type }}) end
    {%- else -%}
        try_cast({{ text }} as {{ type }})
    {%- endif -%}
{%- endmacro %}
