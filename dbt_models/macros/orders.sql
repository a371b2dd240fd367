{#- The events that an order consists of. -#}
{% macro order_event_types() -%}
    'order.placed', 'order.filled', 'order.canceled', 'order.rejected'
{%- endmacro %}

{#- The order an event belongs to; NULL without one, and where it would not fit its column. -#}
{% macro order_id(event) -%}
    CASE WHEN length({{ event }}.properties ->> 'order_id') BETWEEN 1 AND 255
        THEN {{ event }}.properties ->> 'order_id' END
{%- endmacro %}

{#- The first value that an order's events give, in order of time. -#}
{% macro first_value(column) -%}
    (array_agg({{ column }} ORDER BY timestamp, event_id) FILTER (WHERE {{ column }} IS NOT NULL))[1]
{%- endmacro %}
