{#-
A property as a number: NULL for text, and beyond 1e18, as the rollups count it. It has 18 decimals at most, because
Postgres refuses to make a double of a number that is too near to zero.
-#}
{% macro number_property(event, name) -%}
    CASE jsonb_typeof({{ event }}.properties -> '{{ name }}') WHEN 'number' THEN
        CASE WHEN abs(({{ event }}.properties -> '{{ name }}')::numeric) <= 1e18
            THEN trim_scale(round(({{ event }}.properties -> '{{ name }}')::numeric, 18)) END
    END
{%- endmacro %}

{#- A property as text that fits its column. -#}
{% macro text_property(event, name, length=255) -%}
    left({{ event }}.properties ->> '{{ name }}', {{ length }})
{%- endmacro %}

{#- A property that must be true or false. -#}
{% macro boolean_property(event, name) -%}
    CASE jsonb_typeof({{ event }}.properties -> '{{ name }}') WHEN 'boolean' THEN
        ({{ event }}.properties -> '{{ name }}')::boolean
    END
{%- endmacro %}
