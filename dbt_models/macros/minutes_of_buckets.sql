{#-
The CTEs of a mart whose buckets are put together from its minutes. The model before them computes `computed`: minutes
anew from raw events, with `key`, `minute` and `columns`. From it follow

- `touched`: the buckets above the minute that hold one of these minutes;
- `minutes`: all minutes of those buckets, the computed ones and, for the rest, rows of the mart itself;
- `parts`: the minutes of each touched bucket, with its `interval` and `time_bucket`.

`column_of_ours` is NULL in rows that were not written by this model: somebody else's are left alone.
-#}
{% macro minutes_of_touched_buckets(key, columns, column_of_ours) %}
touched AS (
    SELECT DISTINCT
        computed.{{ key }},
        level.interval,
        level.length,
        bucket_start(level.interval, computed.minute) AS time_bucket
    FROM computed
    CROSS JOIN (
        VALUES
        ('5m', interval '5 minutes'), ('15m', interval '15 minutes'), ('1h', interval '1 hour'), ('1d', interval '24 hours')
    ) AS level (interval, length)
),

minutes AS (
    SELECT
        {{ key }},
        minute,
        {{ columns | join(',\n        ') }}
    FROM computed
    UNION ALL
    SELECT
        known.{{ key }},
        known.time_bucket,
        known.{{ columns | join(',\n        known.') }}
    FROM touched
    INNER JOIN {{ this }} AS known
        ON
            touched.{{ key }} = known.{{ key }}
            AND known.interval = '1m'
            AND touched.time_bucket <= known.time_bucket
            AND touched.time_bucket + touched.length > known.time_bucket
    WHERE
        touched.interval = '1d'
        AND known.{{ column_of_ours }} IS NOT NULL
        AND NOT EXISTS (
            SELECT FROM computed
            WHERE computed.{{ key }} = known.{{ key }} AND computed.minute = known.time_bucket
        )
),

parts AS (
    SELECT
        minutes.*,
        touched.interval,
        touched.time_bucket
    FROM touched
    INNER JOIN minutes
        ON
            touched.{{ key }} = minutes.{{ key }}
            AND touched.time_bucket <= minutes.minute
            AND touched.time_bucket + touched.length > minutes.minute
)
{% endmacro %}
