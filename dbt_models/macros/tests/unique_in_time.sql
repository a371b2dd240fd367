{#- Rows of the last two days that share what only one may have. -#}
{% test unique_in_time(model, columns, column='time_bucket') %}
SELECT
    {{ columns | join(', ') }},
    count(*) AS rows_count
FROM {{ model }}
WHERE {{ column }} >= date_trunc('day', now(), 'UTC') - interval '1 day'
GROUP BY {{ columns | join(', ') }}
HAVING count(*) > 1
{% endtest %}
