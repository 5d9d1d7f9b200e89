-- name: relations
-- The tables of the given names with every partition or inheritance child below them; missing names give no row.
-- $1 text[]: schemas; $2 text[]: names; $3 text[]: bare names of their change logs, same order
WITH RECURSIVE wanted AS (
    SELECT w.position, c.oid, w.log_name
    FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS w (schema_name, table_name, log_name, position)
    JOIN pg_catalog.pg_namespace AS n ON n.nspname = w.schema_name
    JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = w.table_name
), tree AS (
    SELECT position, oid, oid AS root, log_name FROM wanted
    UNION
    SELECT t.position, i.inhrelid, t.root, t.log_name
    FROM tree AS t JOIN pg_catalog.pg_inherits AS i ON i.inhparent = t.oid
)
SELECT t.position,
       t.oid,
       t.oid = t.root AS is_root,
       n.nspname AS schema_name,
       c.relname AS table_name,
       c.relkind::text AS kind,
       c.relpersistence::text AS persistence,
       c.relfilenode AS file,
       -- The size of a table that has just been dropped is NULL.
       CASE WHEN c.relkind = 'r' THEN coalesce(pg_catalog.pg_relation_size(c.oid), 0) / 8192 ELSE 0 END AS pages,
       l.oid AS log_oid
FROM tree AS t
JOIN pg_catalog.pg_class AS c ON c.oid = t.oid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_class AS l
       ON l.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'exportd')
      AND l.relname = t.log_name AND l.relkind = 'r'
ORDER BY t.position, is_root DESC, n.nspname, c.relname

-- name: row_estimates
-- How many rows the planner takes the tables of the given names for, with those below them; a table that was never
-- analysed counts for nothing, and where that is true of all there is no row.
-- $1 text[]: schemas; $2 text[]: names
WITH RECURSIVE tree AS (
    SELECT w.position, c.oid
    FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS w (schema_name, table_name, position)
    JOIN pg_catalog.pg_namespace AS n ON n.nspname = w.schema_name
    JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = w.table_name
    UNION
    SELECT t.position, i.inhrelid
    FROM tree AS t JOIN pg_catalog.pg_inherits AS i ON i.inhparent = t.oid
)
SELECT t.position, sum(c.reltuples::float8)::bigint AS rows
FROM tree AS t JOIN pg_catalog.pg_class AS c ON c.oid = t.oid
WHERE c.relkind = 'r' AND c.reltuples >= 0
GROUP BY t.position

-- name: columns
-- The live columns of the given tables, with their types resolved below domains.
-- $1 oid[]: tables
WITH RECURSIVE used AS (
    SELECT DISTINCT atttypid AS oid FROM pg_catalog.pg_attribute
    WHERE attrelid = ANY ($1::oid[]) AND attnum > 0 AND NOT attisdropped
), base AS (
    SELECT u.oid, u.oid AS below FROM used AS u
    UNION ALL
    SELECT b.oid, t.typbasetype FROM base AS b JOIN pg_catalog.pg_type AS t ON t.oid = b.below WHERE t.typtype = 'd'
), resolved AS MATERIALIZED (
    SELECT b.oid,
           t.oid AS base_oid,
           CASE WHEN n.nspname = 'pg_catalog' THEN t.typname ELSE n.nspname || '.' || t.typname END AS base_type,
           pg_catalog.format_type(t.oid, -1) AS type_name,
           t.typtype::text AS base_kind,
           t.typcollation AS base_collation,
           coalesce(CASE WHEN t.typelem <> 0 AND t.typlen = -1 THEN (
               SELECT CASE WHEN en.nspname = 'pg_catalog' THEN e.typname ELSE en.nspname || '.' || e.typname END
               FROM pg_catalog.pg_type AS e JOIN pg_catalog.pg_namespace AS en ON en.oid = e.typnamespace
               WHERE e.oid = t.typelem) END, '') AS element_type,
           coalesce(CASE WHEN t.typelem <> 0 AND t.typlen = -1 THEN (
               SELECT e.typtype::text FROM pg_catalog.pg_type AS e WHERE e.oid = t.typelem) END, '') AS element_kind,
           coalesce((
               SELECT opn.nspname
               FROM pg_catalog.pg_opclass AS oc
               JOIN pg_catalog.pg_amop AS ao ON ao.amopfamily = oc.opcfamily AND ao.amopstrategy = 3
                    AND ao.amoplefttype = oc.opcintype AND ao.amoprighttype = oc.opcintype
               JOIN pg_catalog.pg_operator AS op ON op.oid = ao.amopopr
               JOIN pg_catalog.pg_namespace AS opn ON opn.oid = op.oprnamespace
               WHERE oc.opcintype = t.oid AND oc.opcdefault
                 AND oc.opcmethod = (SELECT am.oid FROM pg_catalog.pg_am AS am WHERE am.amname = 'btree')
               LIMIT 1), 'pg_catalog') AS equality
    FROM base AS b
    JOIN pg_catalog.pg_type AS t ON t.oid = b.below AND t.typtype <> 'd'
    JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace
)
SELECT a.attrelid AS table_oid,
       a.attnum AS number,
       a.attname AS name,
       r.type_name,
       a.atttypid AS type_oid,
       a.atttypmod AS type_modifier,
       r.base_type, r.base_kind, r.element_type, r.element_kind, r.equality,
       CASE WHEN a.attcollation <> r.base_collation
            THEN pg_catalog.quote_ident(cn.nspname) || '.' || pg_catalog.quote_ident(c.collname) END AS collation_name,
       coalesce(c.collisdeterministic, true) AS deterministic,
       a.xmin::text AS version,
       a.attgenerated = 'v' AS is_virtual
FROM pg_catalog.pg_attribute AS a
JOIN resolved AS r ON r.oid = a.atttypid
LEFT JOIN pg_catalog.pg_collation AS c ON c.oid = a.attcollation
LEFT JOIN pg_catalog.pg_namespace AS cn ON cn.oid = c.collnamespace
WHERE a.attrelid = ANY ($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum

-- name: type_parts
-- What the columns' types are made of: the labels of enums and the attributes of composite types, also inside arrays,
-- domains and ranges. Changing them changes what rows look like, and no trigger fires.
-- $1 oid[]: tables
WITH RECURSIVE parts AS (
    SELECT DISTINCT atttypid AS type_oid, atttypid AS oid FROM pg_catalog.pg_attribute
    WHERE attrelid = ANY ($1::oid[]) AND attnum > 0 AND NOT attisdropped
    UNION
    SELECT p.type_oid, below.oid
    FROM parts AS p
    JOIN pg_catalog.pg_type AS t ON t.oid = p.oid
    CROSS JOIN LATERAL (
        SELECT t.typbasetype WHERE t.typtype = 'd'
        UNION ALL SELECT t.typelem WHERE t.typelem <> 0 AND t.typlen = -1
        UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range AS r WHERE r.rngtypid = t.oid
        UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute AS a
                  WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
    ) AS below (oid)
)
SELECT p.type_oid, 'label ' || e.oid AS part, e.enumlabel::text AS value
FROM parts AS p JOIN pg_catalog.pg_enum AS e ON e.enumtypid = p.oid
UNION ALL
SELECT p.type_oid, 'attribute ' || t.oid || '.' || a.attnum, a.attname || ' ' || a.atttypid || ' ' || a.xmin
FROM parts AS p
JOIN pg_catalog.pg_type AS t ON t.oid = p.oid AND t.typtype = 'c'
JOIN pg_catalog.pg_attribute AS a ON a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY type_oid, part

-- name: unique_keys
-- The columns of every index by which no two rows of a table are equal, whether at once or at the end of a transaction.
-- $1 oid[]: tables
SELECT i.indrelid AS table_oid,
       (SELECT pg_catalog.array_agg(a.attname::text ORDER BY part.position)
        FROM pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY AS part (attnum, position)
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = part.attnum
        WHERE part.position <= i.indnkeyatts) AS columns
FROM pg_catalog.pg_index AS i
WHERE i.indrelid = ANY ($1::oid[]) AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
ORDER BY i.indrelid, i.indexrelid

-- name: triggers
-- The capture triggers on the given tables: those that call a function of the schema exportd.
-- $1 oid[]: tables
SELECT g.tgrelid AS table_oid,
       g.oid,
       g.xmin::text AS xmin,
       g.tgname AS name,
       g.tgenabled::text AS enabled,
       g.tgtype AS fires,
       g.tgqual IS NOT NULL OR g.tgattr <> '' AS conditional,
       p.proname AS function
FROM pg_catalog.pg_trigger AS g
JOIN pg_catalog.pg_proc AS p ON p.oid = g.tgfoid
JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
WHERE g.tgrelid = ANY ($1::oid[]) AND n.nspname = 'exportd'
ORDER BY g.tgrelid, g.tgname

-- name: fingerprint
-- What tells whether anything has changed of all that the other queries of this file, and those that look at what is
-- installed of capture, read: it is equal as long as they would answer the same, but for sizes. It covers each row that
-- they look at by its number, its version and its place: a transaction that changes a row leaves another version at
-- another place, and freezing or rewriting a table never makes an old version look like a new one. Rows that could come
-- are covered by the conditions. The start of the server is in it, because a data directory that was put back may use
-- numbers of transactions again.
-- $1 text[]: schemas; $2 text[]: names; $3 text[]: bare names of their change logs
WITH RECURSIVE exportd AS (
    SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'exportd'
), tree AS (
    SELECT c.oid
    FROM unnest($1::text[], $2::text[]) AS w (schema_name, table_name)
    JOIN pg_catalog.pg_namespace AS n ON n.nspname = w.schema_name
    JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = w.table_name
    UNION
    SELECT i.inhrelid FROM tree AS t JOIN pg_catalog.pg_inherits AS i ON i.inhparent = t.oid
), log AS (
    -- with their sequences
    SELECT c.oid
    FROM exportd JOIN pg_catalog.pg_class AS c ON c.relnamespace = exportd.oid
    WHERE c.relname = ANY ($3::text[] || ARRAY(
        SELECT pg_catalog.regexp_replace(name, '^log', 'seq') FROM unnest($3::text[]) AS name))
), relation AS MATERIALIZED (
    SELECT oid FROM tree UNION SELECT oid FROM log
), attribute AS MATERIALIZED (
    SELECT a.attrelid, a.attnum, a.xmin, a.ctid, a.atttypid, a.attcollation, a.attisdropped
    FROM relation AS r JOIN pg_catalog.pg_attribute AS a ON a.attrelid = r.oid AND a.attnum > 0
), type AS MATERIALIZED (
    SELECT DISTINCT atttypid AS oid FROM attribute WHERE NOT attisdropped
    UNION
    SELECT below.oid
    FROM type AS u
    JOIN pg_catalog.pg_type AS t ON t.oid = u.oid
    CROSS JOIN LATERAL (
        SELECT t.typbasetype WHERE t.typtype = 'd'
        UNION ALL SELECT t.typelem WHERE t.typelem <> 0 AND t.typlen = -1
        UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range AS r WHERE r.rngtypid = t.oid
        UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute AS a
                  WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
    ) AS below (oid)
), capture_function AS MATERIALIZED (
    SELECT p.oid, p.xmin, p.ctid
    FROM exportd JOIN pg_catalog.pg_proc AS p ON p.pronamespace = exportd.oid
    WHERE p.proname >= 'log_' AND p.proname < 'log`'  -- a range of the index: no function of exportd has another name
), equality AS MATERIALIZED (
    SELECT oc.oid, oc.xmin, oc.ctid, ao.oid AS member, ao.xmin AS member_version, ao.ctid AS member_place,
           op.oid AS operator, op.xmin AS operator_version, op.ctid AS operator_place, op.oprnamespace
    FROM pg_catalog.pg_opclass AS oc
    LEFT JOIN pg_catalog.pg_amop AS ao ON ao.amopfamily = oc.opcfamily AND ao.amopstrategy = 3
         AND ao.amoplefttype = oc.opcintype AND ao.amoprighttype = oc.opcintype
    LEFT JOIN pg_catalog.pg_operator AS op ON op.oid = ao.amopopr
    WHERE oc.opcintype IN (SELECT oid FROM type)
), fact (kind, oid, number, version, place) AS (
    SELECT 'relation', c.oid, 0, c.xmin, c.ctid FROM relation JOIN pg_catalog.pg_class AS c USING (oid)
    UNION ALL SELECT 'column', attrelid, attnum, xmin, ctid FROM attribute
    UNION ALL SELECT 'trigger', g.oid, 0, g.xmin, g.ctid FROM pg_catalog.pg_trigger AS g
        WHERE g.tgrelid IN (SELECT oid FROM tree) OR g.tgfoid IN (SELECT oid FROM capture_function)
    UNION ALL SELECT 'function', oid, 0, xmin, ctid FROM capture_function
    UNION ALL SELECT 'called', p.oid, 0, p.xmin, p.ctid  -- it may come into the schema exportd, or leave it
        FROM tree JOIN pg_catalog.pg_trigger AS g ON g.tgrelid = tree.oid JOIN pg_catalog.pg_proc AS p ON p.oid = g.tgfoid
    UNION ALL SELECT 'index', i.indexrelid, 0, i.xmin, i.ctid
        FROM relation AS r JOIN pg_catalog.pg_index AS i ON i.indrelid = r.oid
    UNION ALL SELECT 'default', d.oid, 0, d.xmin, d.ctid
        FROM relation AS r JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = r.oid
    UNION ALL SELECT 'comment', d.objoid, 0, d.xmin, d.ctid
        FROM log JOIN pg_catalog.pg_description AS d
          ON d.objoid = log.oid AND d.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objsubid = 0
    UNION ALL SELECT 'member', i.inhrelid, 0, i.xmin, i.ctid
        FROM relation AS r JOIN pg_catalog.pg_inherits AS i ON i.inhparent = r.oid
    UNION ALL SELECT 'type', t.oid, 0, t.xmin, t.ctid FROM type JOIN pg_catalog.pg_type AS t USING (oid)
    UNION ALL SELECT 'label', e.oid, 0, e.xmin, e.ctid FROM type JOIN pg_catalog.pg_enum AS e ON e.enumtypid = type.oid
    UNION ALL SELECT 'range', r.rngtypid, 0, r.xmin, r.ctid
        FROM type JOIN pg_catalog.pg_range AS r ON r.rngtypid = type.oid
    UNION ALL SELECT 'part', a.attrelid, a.attnum, a.xmin, a.ctid
        FROM type JOIN pg_catalog.pg_type AS t ON t.oid = type.oid AND t.typtype = 'c'
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = t.typrelid AND a.attnum > 0
    UNION ALL SELECT 'collation', c.oid, 0, c.xmin, c.ctid FROM pg_catalog.pg_collation AS c
        WHERE c.oid IN (SELECT attcollation FROM attribute)
    UNION ALL SELECT 'operator class', oid, 0, xmin, ctid FROM equality
    UNION ALL SELECT 'operator of class', member, 0, member_version, member_place FROM equality
    UNION ALL SELECT 'operator', operator, 0, operator_version, operator_place FROM equality
    UNION ALL SELECT 'schema', n.oid, 0, n.xmin, n.ctid FROM pg_catalog.pg_namespace AS n
        WHERE n.oid IN (SELECT c.relnamespace FROM relation JOIN pg_catalog.pg_class AS c USING (oid)
                        UNION SELECT t.typnamespace FROM type JOIN pg_catalog.pg_type AS t USING (oid)
                        UNION SELECT oprnamespace FROM equality
                        UNION SELECT c.collnamespace FROM pg_catalog.pg_collation AS c
                              WHERE c.oid IN (SELECT attcollation FROM attribute))
)
SELECT pg_catalog.pg_postmaster_start_time() AS server_started_at,
       count(*) AS facts,
       -- Sums, for the order of the rows does not matter; two, so that they are 128 bits.
       coalesce(sum(pg_catalog.hash_record_extended(fact.*, 1)), 0)::text AS first_sum,
       coalesce(sum(pg_catalog.hash_record_extended(fact.*, 2)), 0)::text AS second_sum
FROM fact
