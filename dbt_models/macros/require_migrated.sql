{#- Refuses to run where the migrations have not made the table: dbt would build one of its own. -#}
{% macro require_migrated() %}
    {% if execute and flags.WHICH in ('run', 'build') and not is_incremental() %}
        {{ exceptions.raise_compiler_error(
            "the table " ~ this ~ " is missing, and only migrations create it: run `analytics migrate`"
        ) }}
    {% endif %}
{% endmacro %}
