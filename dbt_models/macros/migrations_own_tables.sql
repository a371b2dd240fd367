{#- Refuses to run where the migrations have not made the table: dbt would build one of its own. -#}
{% macro require_migrated() %}
    {% if execute and flags.WHICH in ('run', 'build') and not is_incremental() %}
        {{ exceptions.raise_compiler_error(
            "the table " ~ this ~ " is missing, and only migrations create it: run `analytics migrate`"
        ) }}
    {% endif %}
{% endmacro %}

{#- Called by dbt when a model's text column is wider than the table's; it would add, copy and drop a column. -#}
{% macro postgres__alter_column_type(relation, column_name, new_column_type) %}
    {{ exceptions.raise_compiler_error(
        "the model's column " ~ column_name ~ " is wider than that of " ~ relation ~ ": cast it to the table's type"
    ) }}
{% endmacro %}
