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
       a.attnotnull AS not_null,
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
