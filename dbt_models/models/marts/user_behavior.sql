{{ config(
    unique_key=['user_id', 'session_id'],
    pre_hook="{{ begin_run() }}",
    post_hook="{{ end_run() }}"
) }}
{{- require_migrated() -}}

-- A session's row remembers its minutes: what a run computes anew replaces them one by one, and the row is their sum.
WITH {{ changed_minutes('user_behavior') }},

counted AS (
    SELECT
        raw.user_id,
        raw.session_id,
        changed_minutes.minute,
        raw.event_type,
        count(*) AS event_count,
        min(raw.timestamp) AS first_at,
        max(raw.timestamp) AS last_at
    FROM changed_minutes
    INNER JOIN {{ source('analytics', 'events') }} AS raw
        ON
            changed_minutes.minute <= raw.timestamp
            AND changed_minutes.minute + interval '1 minute' > raw.timestamp
    WHERE raw.user_id <> '' AND raw.session_id <> ''
    GROUP BY raw.user_id, raw.session_id, changed_minutes.minute, raw.event_type
),

-- Times are microseconds since 1970 in the row: short, and the same in every time zone.
computed AS (
    SELECT
        user_id,
        session_id,
        (extract(EPOCH FROM minute)::bigint / 60)::text AS minute,
        jsonb_build_object(
            'first', (extract(EPOCH FROM min(first_at)) * 1000000)::bigint,
            'last', (extract(EPOCH FROM max(last_at)) * 1000000)::bigint,
            'types', jsonb_object_agg(event_type, event_count)
        ) AS content
    FROM counted
    GROUP BY user_id, session_id, minute
),

session_minutes AS (
    SELECT
        user_id,
        session_id,
        jsonb_object_agg(minute, content) AS minutes
    FROM computed
    GROUP BY user_id, session_id
),

sessions AS (
    SELECT
        session_minutes.user_id,
        session_minutes.session_id,
        coalesce(known.created_at, now()) AS created_at,
        coalesce(known.minutes, '{}') || session_minutes.minutes AS minutes
    FROM session_minutes
    LEFT JOIN LATERAL (
        SELECT
            mart.created_at,
            mart.minutes
        FROM {{ this }} AS mart
        WHERE mart.session_id = session_minutes.session_id AND mart.user_id = session_minutes.user_id
        ORDER BY mart.minutes IS NULL, mart.session_start
        LIMIT 1
    ) AS known ON TRUE
),

spans AS (
    SELECT
        sessions.user_id,
        sessions.session_id,
        min((content.value ->> 'first')::bigint) AS first_at,
        max((content.value ->> 'last')::bigint) AS last_at
    FROM sessions
    CROSS JOIN jsonb_each(sessions.minutes) AS content
    GROUP BY sessions.user_id, sessions.session_id
),

types AS (
    SELECT
        user_id,
        session_id,
        jsonb_object_agg(event_type, event_count) AS event_types,
        sum(event_count) AS event_count,
        count(*) AS unique_event_types,
        coalesce(sum(event_count) FILTER (WHERE event_type = 'page.view'), 0) AS page_views
    FROM (
        SELECT
            sessions.user_id,
            sessions.session_id,
            type.key AS event_type,
            sum(type.value::bigint) AS event_count
        FROM sessions
        CROSS JOIN jsonb_each(sessions.minutes) AS content
        CROSS JOIN jsonb_each_text(content.value -> 'types') AS type
        GROUP BY sessions.user_id, sessions.session_id, type.key
    ) AS by_type
    GROUP BY user_id, session_id
)

SELECT
    sessions.minutes,
    sessions.created_at,
    sessions.user_id::varchar(255) AS user_id,
    sessions.session_id::varchar(255) AS session_id,
    types.page_views::integer AS page_views,
    types.event_count::integer AS event_count,
    types.unique_event_types::integer AS unique_event_types,
    'epoch'::timestamptz + spans.first_at * interval '1 microsecond' AS session_start,
    'epoch'::timestamptz + spans.last_at * interval '1 microsecond' AS session_end,
    ((spans.last_at - spans.first_at) / 1000000)::integer AS duration,
    jsonb_build_object('event_types', types.event_types) AS properties,
    md5(jsonb_build_array(sessions.user_id, sessions.session_id)::text)::uuid AS id,
    now() AS updated_at
FROM sessions
INNER JOIN spans USING (user_id, session_id)
INNER JOIN types USING (user_id, session_id)
