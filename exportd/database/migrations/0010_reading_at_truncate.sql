-- Whether reading a table with our rights runs no code of anyone but a superuser. The trigger function of TRUNCATE asks,
-- because it would read the table as exportd: a row security policy runs then, and the planner evaluates what is constant
-- in index predicates and expressions, checks, statistics, generated columns and partition bounds. So the answer is yes
-- when row security is off, and nothing of that reaches (through operators, casts, types and domains) a function that is
-- neither of Postgres itself nor written in C, which only superusers can make. Where the table is ours or a superuser's,
-- functions of such owners are trusted too.
--
-- It has to see what the planner will see, which is the newest state, whatever the transaction's snapshot is. So the
-- answer is no at REPEATABLE READ and SERIALIZABLE, and the function is VOLATILE: its query takes a snapshot of its own.
CREATE FUNCTION exportd.runs_no_foreign_code(relation pg_catalog.oid) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RETURN false;
  END IF;
  RETURN coalesce((
    WITH RECURSIVE trusted AS MATERIALIZED (
        SELECT r.oid FROM pg_roles AS r WHERE r.rolsuper OR r.rolname = current_user
    ), used (class, id) AS (
        SELECT start.class, start.id FROM (
            SELECT 'pg_class'::regclass::oid, i.indexrelid FROM pg_index AS i WHERE i.indrelid = relation
            UNION ALL SELECT 'pg_constraint'::regclass, c.oid FROM pg_constraint AS c WHERE c.conrelid = relation
            UNION ALL SELECT 'pg_statistic_ext'::regclass, s.oid FROM pg_statistic_ext AS s WHERE s.stxrelid = relation
            UNION ALL SELECT 'pg_rewrite'::regclass, w.oid FROM pg_rewrite AS w WHERE w.ev_class = relation
            UNION ALL SELECT 'pg_attrdef'::regclass, d.oid
                      FROM pg_attrdef AS d JOIN pg_attribute AS a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
                      WHERE d.adrelid = relation AND a.attgenerated <> ''
            -- The functions of generated columns and of partition keys.
            UNION ALL SELECT 'pg_class'::regclass, relation
            UNION ALL SELECT 'pg_class'::regclass, p.relid FROM pg_partition_ancestors(relation) AS p
        ) AS start (class, id)
        UNION
        SELECT found.class, found.id
        FROM used CROSS JOIN LATERAL (
            SELECT d.refclassid, d.refobjid FROM pg_depend AS d
            WHERE d.classid = used.class AND d.objid = used.id
              AND d.refclassid = ANY (ARRAY['pg_proc', 'pg_operator', 'pg_type', 'pg_constraint', 'pg_opclass',
                                            'pg_opfamily', 'pg_cast']::regclass[])
            -- A domain does not depend on its checks, nor a family of operators on its members.
            UNION ALL SELECT 'pg_constraint'::regclass, c.oid FROM pg_constraint AS c
                      WHERE used.class = 'pg_type'::regclass AND c.contypid = used.id
            UNION ALL SELECT 'pg_proc'::regclass, m.amproc FROM pg_amproc AS m
                      WHERE used.class = 'pg_opfamily'::regclass AND m.amprocfamily = used.id
            UNION ALL SELECT 'pg_operator'::regclass, m.amopopr FROM pg_amop AS m
                      WHERE used.class = 'pg_opfamily'::regclass AND m.amopfamily = used.id
        ) AS found (class, id)
    )
    SELECT c.relkind = 'r' AND NOT c.relrowsecurity AND NOT EXISTS (
        SELECT FROM used JOIN pg_proc AS p ON used.class = 'pg_proc'::regclass AND p.oid = used.id
        WHERE p.oid >= 16384  -- those below are made with the cluster
          AND p.prolang <> ALL (ARRAY[12, 13]::oid[])  -- internal and C
          AND NOT (c.relowner IN (SELECT t.oid FROM trusted AS t) AND p.proowner IN (SELECT t.oid FROM trusted AS t)))
    FROM pg_class AS c WHERE c.oid = relation
  ), false);
END
$function$;
REVOKE ALL ON FUNCTION exportd.runs_no_foreign_code(pg_catalog.oid) FROM PUBLIC;
