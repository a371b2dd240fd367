{{ config(meta={'dagster': {'ref': {'name': 'user_behavior'}}}) }}
-- Sessions that end before they start, or hold fewer events than page views or types.
SELECT
    mart.user_id,
    mart.session_id
FROM {{ ref('user_behavior') }} AS mart
WHERE
    mart.session_start >= now() - interval '2 days'
    AND mart.minutes IS NOT NULL
    AND (mart.session_end < mart.session_start OR mart.event_count < greatest(mart.page_views, mart.unique_event_types))
