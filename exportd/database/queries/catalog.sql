-- What the catalog's checker and drafter ask: only the system catalogs, never a row of a table.

-- name: look_from_pg_catalog
-- Names without a schema mean what they will mean in exports; types and expressions are given with theirs.
SET LOCAL search_path TO pg_catalog

-- name: describe_tables
-- One row of JSON for each table that exists, whatever its kind.
-- $1: text[], the schemas; $2: text[], the tables' names, in the same order
WITH RECURSIVE
found AS (
    SELECT c.*, n.nspname
    FROM unnest($1::text[], $2::text[]) AS wanted (schema_name, table_name)
    JOIN pg_namespace n ON n.nspname = wanted.schema_name
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.table_name
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
),
member AS (
    SELECT f.oid AS root, f.oid AS oid FROM found f
    UNION
    SELECT m.root, i.inhrelid FROM member m JOIN pg_inherits i ON i.inhparent = m.oid
),
unmodified AS (
    -- the types below domains
    SELECT a.attrelid, a.attnum, a.atttypid AS type_oid
    FROM pg_attribute a
    JOIN found f ON f.oid = a.attrelid
    WHERE a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT u.attrelid, u.attnum, t.typbasetype
    FROM unmodified u
    JOIN pg_type t ON t.oid = u.type_oid
    WHERE t.typtype = 'd'
),
compared_type AS MATERIALIZED (
    -- arrays are compared by their elements
    SELECT DISTINCT e.oid AS type_oid, e.typtype
    FROM unmodified u
    JOIN pg_type t ON t.oid = u.type_oid AND t.typtype <> 'd'
    JOIN pg_type e ON e.oid = CASE WHEN t.typcategory = 'A' THEN t.typelem ELSE t.oid END
),
ordered AS MATERIALIZED (
    SELECT compared.type_oid
    FROM compared_type compared
    WHERE EXISTS (
        SELECT FROM pg_opclass o
        JOIN pg_am m ON m.oid = o.opcmethod AND m.amname = 'btree'
        WHERE o.opcdefault AND (
            o.opcintype IN (
                compared.type_oid,
                CASE compared.typtype
                    WHEN 'e' THEN 'anyenum'::regtype
                    WHEN 'r' THEN 'anyrange'::regtype
                    WHEN 'm' THEN 'anymultirange'::regtype
                    WHEN 'c' THEN 'record'::regtype
                END
            )
            OR EXISTS (
                SELECT FROM pg_cast s
                WHERE s.castsource = compared.type_oid AND s.casttarget = o.opcintype
                    AND s.castmethod = 'b' AND s.castcontext = 'i'
            )
        )
    )
),
-- Materialized: the planner, which expects one table, would make these three again for each table.
live_column AS MATERIALIZED (
    SELECT
        a.attrelid,
        json_agg(
            json_build_object(
                'name', a.attname,
                'type', format_type(a.atttypid, a.atttypmod),
                'base', t.typname,
                'is_nested', t.typcategory = 'A' OR t.typtype = 'c',
                'is_array', t.typcategory = 'A',
                'is_nullable', NOT a.attnotnull OR EXISTS (
                    -- Postgres 18: NOT NULL that was not validated for the rows that were there
                    SELECT FROM pg_constraint k
                    WHERE k.conrelid = a.attrelid AND k.contype = 'n'
                        AND NOT k.convalidated AND k.conkey = ARRAY[a.attnum]
                ),
                'is_ordered', compared.type_oid IN (SELECT o.type_oid FROM ordered o),
                'generation', CASE WHEN a.attgenerated = 'v' THEN pg_get_expr(d.adbin, d.adrelid) END
            )
            ORDER BY a.attnum
        ) AS described
    FROM pg_attribute a
    JOIN unmodified u ON u.attrelid = a.attrelid AND u.attnum = a.attnum
    JOIN pg_type t ON t.oid = u.type_oid AND t.typtype <> 'd'
    JOIN compared_type AS compared
        ON compared.type_oid = CASE WHEN t.typcategory = 'A' THEN t.typelem ELSE t.oid END
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.attgenerated <> ''
    GROUP BY a.attrelid
),
live_index AS MATERIALIZED (
    SELECT
        i.indrelid,
        json_agg(
            json_build_object(
                'name', c.relname,
                'columns', (
                    SELECT json_agg(a.attname ORDER BY part.position)
                    FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS part (attnum, position)
                    LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = part.attnum AND a.attnum > 0
                    WHERE part.position <= i.indnkeyatts
                ),
                'is_primary', i.indisprimary,
                'is_valid', i.indisvalid AND i.indisready AND i.indislive,
                'is_partial', i.indpred IS NOT NULL
            )
            ORDER BY NOT i.indisprimary, c.relname
        ) AS described
    FROM pg_index i
    JOIN found f ON f.oid = i.indrelid
    JOIN pg_class c ON c.oid = i.indexrelid
    JOIN pg_am m ON m.oid = c.relam AND m.amname = 'btree'
    WHERE i.indisunique AND NOT i.indisexclusion
    GROUP BY i.indrelid
),
tree AS MATERIALIZED (
    SELECT
        m.root,
        coalesce(json_agg(json_build_array(n.nspname, c.relname) ORDER BY n.nspname, c.relname)
            FILTER (WHERE c.relkind = 'f'), '[]') AS foreign_members,
        coalesce(json_agg(json_build_array(n.nspname, c.relname) ORDER BY n.nspname, c.relname)
            FILTER (WHERE c.relkind = 'r' AND c.relpersistence <> 'p'), '[]') AS unlogged_members,
        coalesce(json_agg(json_build_array(n.nspname, c.relname) ORDER BY n.nspname, c.relname)
            FILTER (WHERE (SELECT count(*) FROM pg_inherits i WHERE i.inhrelid = m.oid) > 1), '[]') AS shared_members
    FROM member m
    JOIN pg_class c ON c.oid = m.oid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE m.oid <> m.root
    GROUP BY m.root
)
SELECT json_build_object(
    'name', json_build_array(f.nspname, f.relname),
    'kind', f.relkind,
    'persistence', f.relpersistence,
    'role', current_user,
    'columns', coalesce(live_column.described, '[]'),
    'indexes', coalesce(live_index.described, '[]'),
    'partition_root', (
        SELECT json_build_array(n.nspname, c.relname)
        FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE f.relispartition AND c.oid = pg_partition_root(f.oid)
    ),
    'parents', (
        SELECT coalesce(json_agg(json_build_array(n.nspname, c.relname) ORDER BY i.inhseqno), '[]')
        FROM pg_inherits i
        JOIN pg_class c ON c.oid = i.inhparent
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE i.inhrelid = f.oid AND NOT f.relispartition
    ),
    'foreign_members', coalesce(tree.foreign_members, '[]'),
    'unlogged_members', coalesce(tree.unlogged_members, '[]'),
    'shared_members', coalesce(tree.shared_members, '[]'),
    'has_children', f.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = f.oid),
    'is_readable', has_table_privilege(f.oid, 'SELECT'),
    'is_reachable', has_schema_privilege(f.relnamespace, 'USAGE'),
    'is_filtered', row_security_active(f.oid)
)::text AS described
FROM found f
LEFT JOIN live_column ON live_column.attrelid = f.oid
LEFT JOIN live_index ON live_index.indrelid = f.oid
LEFT JOIN tree ON tree.root = f.oid

-- name: list_tables
-- Every table that could be an entity or nearly: no partitions and inheritance children (they belong to
-- theirs), no tables of the system, of extensions or of exportd.
-- $1: text[], the schemas to look in; NULL for all
SELECT n.nspname AS schema_name, c.relname AS table_name
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f')
    AND c.relpersistence <> 't'
    AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'exportd')
    AND ($1::text[] IS NULL OR n.nspname = ANY ($1::text[]))
    AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid)
    AND NOT EXISTS (
        SELECT FROM pg_depend d
        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
    )
ORDER BY n.nspname, c.relname

-- name: list_schemas
-- The schemas that can hold tables of the application.
SELECT n.nspname::text AS schema_name
FROM pg_namespace n
WHERE n.nspname NOT IN ('information_schema', 'exportd') AND n.nspname NOT LIKE 'pg\_%'
ORDER BY n.nspname

-- name: list_references
-- Foreign keys between tables, one row for each.
-- $1: text[], the schemas to look in; NULL for all
SELECT
    n.nspname AS schema_name,
    c.relname AS table_name,
    other_n.nspname AS other_schema_name,
    other_c.relname AS other_table_name,
    (
        SELECT array_agg(a.attname::text ORDER BY part.position)
        FROM unnest(k.conkey) WITH ORDINALITY AS part (attnum, position)
        JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = part.attnum
    ) AS columns,
    (
        SELECT array_agg(a.attname::text ORDER BY part.position)
        FROM unnest(k.confkey) WITH ORDINALITY AS part (attnum, position)
        JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = part.attnum
    ) AS other_columns
FROM pg_constraint k
JOIN pg_class c ON c.oid = k.conrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class other_c ON other_c.oid = k.confrelid
JOIN pg_namespace other_n ON other_n.oid = other_c.relnamespace
WHERE k.contype = 'f'
    AND k.conparentid = 0
    AND ($1::text[] IS NULL OR n.nspname = ANY ($1::text[]))
ORDER BY n.nspname, c.relname, k.conname

-- name: list_volatile_functions
-- Those names that only volatile functions have.
-- $1: text[], the functions' names
SELECT p.proname::text AS function_name
FROM pg_proc p
WHERE p.proname = ANY ($1::text[])
GROUP BY p.proname
HAVING bool_and(p.provolatile = 'v')
ORDER BY p.proname;

-- name: unreadable_members
-- The partitions and inheritance children of tables that the current role may not read, or reach.
-- $1: text[], schemas; $2: text[], names, same order
WITH RECURSIVE tree AS (
    SELECT i.inhrelid AS oid
    FROM unnest($1::text[], $2::text[]) AS wanted (schema_name, table_name)
    JOIN pg_namespace n ON n.nspname = wanted.schema_name
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.table_name
    JOIN pg_inherits i ON i.inhparent = c.oid
    UNION
    SELECT i.inhrelid FROM tree t JOIN pg_inherits i ON i.inhparent = t.oid
)
SELECT n.nspname AS schema_name, c.relname AS table_name
FROM tree t
JOIN pg_class c ON c.oid = t.oid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT has_table_privilege(t.oid, 'SELECT') OR NOT has_schema_privilege(n.oid, 'USAGE')
ORDER BY n.nspname, c.relname;

-- name: without_index
-- The tables whose column begins no valid index, with what they and their partitions take on disk by the last ANALYZE or
-- VACUUM, in bytes.
-- $1: text[], schemas; $2: text[], names, same order; $3: text[], columns, same order
WITH RECURSIVE wanted AS (
    SELECT c.oid, w.schema_name, w.table_name, w.column_name, a.attnum
    FROM unnest($1::text[], $2::text[], $3::text[]) AS w (schema_name, table_name, column_name)
    JOIN pg_namespace n ON n.nspname = w.schema_name
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.table_name
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = w.column_name AND NOT a.attisdropped
), tree AS (
    SELECT w.oid AS root, w.oid FROM wanted w
    UNION
    SELECT t.root, i.inhrelid FROM tree t JOIN pg_inherits i ON i.inhparent = t.oid
)
SELECT w.schema_name, w.table_name, w.column_name, sum(greatest(c.relpages, 0)::bigint * 8192)::bigint AS size_bytes
FROM wanted w
JOIN tree t ON t.root = w.oid
JOIN pg_class c ON c.oid = t.oid
WHERE NOT EXISTS (
    SELECT FROM pg_index x
    WHERE x.indrelid = w.oid AND x.indisvalid AND x.indpred IS NULL AND x.indkey[0] = w.attnum
)
GROUP BY w.schema_name, w.table_name, w.column_name
ORDER BY w.schema_name, w.table_name;

-- name: describe_role
-- Who we are, and how many connections there may be: of the role and of the database (-1: no bound), and of the server
-- for ordinary roles.
SELECT rolname, rolsuper, rolconnlimit, datconnlimit,
    pg_catalog.current_setting('max_connections')::integer
    - pg_catalog.current_setting('superuser_reserved_connections')::integer AS server_limit
FROM pg_catalog.pg_roles
CROSS JOIN pg_catalog.pg_database
WHERE rolname = current_user AND datname = pg_catalog.current_database();
