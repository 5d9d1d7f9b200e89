-- What exportd installs to capture the changes of one table: a change log, functions and triggers.
-- `exportd capture install --dry-run` prints it for a database administrator. This page is made by
-- `make docs`; do not edit it by hand. exportd/capture/triggers.py says why each statement is as it is.
--
-- The table, and its item in the catalog:
--
--     CREATE TABLE public.accounts (
--         id uuid PRIMARY KEY,
--         organization_id text NOT NULL,
--         name text,
--         created_at timestamptz NOT NULL DEFAULT now()
--     );
--
--     [[entity]]
--     code = "ACCOUNTS"
--     label = "Accounts"
--     type_token = "account"
--     table = "public.accounts"
--     key = ["id"]
--     tenant = "organization_id"

-- ACCOUNTS: the change log is missing
BEGIN;
SET LOCAL lock_timeout = '2s';
SET LOCAL search_path = pg_catalog, pg_temp;
LOCK TABLE ONLY "public"."accounts" IN SHARE ROW EXCLUSIVE MODE;
SET LOCAL ROLE "exportd";
CREATE TABLE "exportd"."log_accounts" (
    seq bigint,
    xid xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
    op pg_catalog."char" NOT NULL,
    key_1 uuid[],
    tenant text,
    image text
) WITH (
    autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.1,
    autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0
);
ALTER TABLE "exportd"."log_accounts" ALTER key_1 SET STORAGE EXTERNAL;
CREATE SEQUENCE "exportd"."seq_accounts" CACHE 1 OWNED BY "exportd"."log_accounts".seq;
COMMENT ON TABLE "exportd"."log_accounts" IS 'public.accounts key id tenant organization_id';
CREATE INDEX ON "exportd"."log_accounts" (tenant, xid);
CREATE OR REPLACE FUNCTION "exportd"."log_accounts_key_1"(uuid, uuid, bigint) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT $1';
CREATE OR REPLACE FUNCTION "exportd"."log_accounts_key_1"(anyelement, anyelement, integer) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT ((NULL::"exportd"."log_accounts").key_1)[1]';
CREATE OR REPLACE FUNCTION "exportd"."log_accounts_tenant"(text, text, bigint) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT CASE WHEN pg_catalog.octet_length($1) OPERATOR(pg_catalog.<=) 1000 THEN $1 END';
CREATE OR REPLACE FUNCTION "exportd"."log_accounts_tenant"(anyelement, anyelement, integer) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT (NULL::"exportd"."log_accounts").tenant';
CREATE OR REPLACE FUNCTION "exportd"."log_accounts_has_tenant"(text, text, bigint) RETURNS pg_catalog.bool LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT true';
CREATE OR REPLACE FUNCTION "exportd"."log_accounts_has_tenant"(anyelement, anyelement, integer) RETURNS pg_catalog.bool LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT false';
CREATE OR REPLACE FUNCTION "exportd"."log_accounts_insert"() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
AS $exportd$
#variable_conflict use_column
BEGIN
  INSERT INTO "exportd"."log_accounts" (op, key_1, tenant)
  SELECT 'I', ARRAY[n.key_1], n.tenant
  FROM (SELECT fetched.*, fetched.key_1 IS NOT NULL AND fetched.has_tenant AS known, (written.*)::pg_catalog.record AS row
          FROM (SELECT NULL::exportd.absent AS "id", NULL::exportd.absent AS "organization_id") AS absent
          CROSS JOIN new_rows AS written
          CROSS JOIN LATERAL (SELECT "exportd"."log_accounts_key_1"("id", "id", 1) AS key_1, "exportd"."log_accounts_tenant"("organization_id", "organization_id", 1) AS tenant, "exportd"."log_accounts_has_tenant"("organization_id", "organization_id", 1) AS has_tenant FROM (SELECT written.*) AS present) AS fetched) AS n
  WHERE n.known AND NOT EXISTS (SELECT FROM new_rows OFFSET 1);
  IF NOT FOUND THEN
    INSERT INTO "exportd"."log_accounts" (op, key_1, tenant)
    SELECT CASE WHEN n.known THEN 'I' ELSE 'T' END::pg_catalog."char", pg_catalog.array_agg(n.key_1), CASE WHEN n.known THEN n.tenant END
    FROM (SELECT n.*, pg_catalog.row_number() OVER () AS position
          FROM (SELECT fetched.*, fetched.key_1 IS NOT NULL AND fetched.has_tenant AS known, (written.*)::pg_catalog.record AS row
          FROM (SELECT NULL::exportd.absent AS "id", NULL::exportd.absent AS "organization_id") AS absent
          CROSS JOIN new_rows AS written
          CROSS JOIN LATERAL (SELECT "exportd"."log_accounts_key_1"("id", "id", 1) AS key_1, "exportd"."log_accounts_tenant"("organization_id", "organization_id", 1) AS tenant, "exportd"."log_accounts_has_tenant"("organization_id", "organization_id", 1) AS has_tenant FROM (SELECT written.*) AS present) AS fetched) AS n) AS n
    GROUP BY n.known, n.position OPERATOR(pg_catalog./) 10000, n.tenant;
  END IF;
  IF pg_catalog.pg_sequence_last_value('exportd.doorbell'::pg_catalog.regclass)::pg_catalog.float8
     OPERATOR(pg_catalog.>) pg_catalog.date_part('epoch', pg_catalog.now())
     AND pg_catalog.pg_notification_queue_usage() OPERATOR(pg_catalog.<) 0.1::pg_catalog.float8 THEN
    PERFORM pg_catalog.pg_notify('exportd_doorbell', 'ACCOUNTS');
  END IF;
  RETURN NULL;
END
$exportd$;
REVOKE ALL ON FUNCTION "exportd"."log_accounts_insert"() FROM PUBLIC;
CREATE OR REPLACE FUNCTION "exportd"."log_accounts_update"() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
AS $exportd$
#variable_conflict use_column
BEGIN
  INSERT INTO "exportd"."log_accounts" (op, key_1, tenant)
  SELECT 'U', ARRAY[n.key_1], n.tenant
  FROM (SELECT fetched.*, fetched.key_1 IS NOT NULL AND fetched.has_tenant AS known, (written.*)::pg_catalog.record AS row
          FROM (SELECT NULL::exportd.absent AS "id", NULL::exportd.absent AS "organization_id") AS absent
          CROSS JOIN new_rows AS written
          CROSS JOIN LATERAL (SELECT "exportd"."log_accounts_key_1"("id", "id", 1) AS key_1, "exportd"."log_accounts_tenant"("organization_id", "organization_id", 1) AS tenant, "exportd"."log_accounts_has_tenant"("organization_id", "organization_id", 1) AS has_tenant FROM (SELECT written.*) AS present) AS fetched) AS n,
       (SELECT fetched.*, fetched.key_1 IS NOT NULL AND fetched.has_tenant AS known, (written.*)::pg_catalog.record AS row
          FROM (SELECT NULL::exportd.absent AS "id", NULL::exportd.absent AS "organization_id") AS absent
          CROSS JOIN old_rows AS written
          CROSS JOIN LATERAL (SELECT "exportd"."log_accounts_key_1"("id", "id", 1) AS key_1, "exportd"."log_accounts_tenant"("organization_id", "organization_id", 1) AS tenant, "exportd"."log_accounts_has_tenant"("organization_id", "organization_id", 1) AS has_tenant FROM (SELECT written.*) AS present) AS fetched) AS o
  WHERE o.key_1 OPERATOR(pg_catalog.=) n.key_1 AND (o.tenant OPERATOR(pg_catalog.=) n.tenant AND o.tenant IS NOT NULL AND n.tenant IS NOT NULL OR o.tenant IS NULL AND n.tenant IS NULL)
    AND n.known AND NOT EXISTS (SELECT FROM new_rows OFFSET 1);
  IF NOT FOUND THEN
    INSERT INTO "exportd"."log_accounts" (op, key_1, tenant)
    SELECT CASE WHEN n.known THEN 'U' ELSE 'T' END::pg_catalog."char", pg_catalog.array_agg(n.key_1), CASE WHEN n.known THEN n.tenant END
    FROM (SELECT n.*, pg_catalog.row_number() OVER () AS position
          FROM (SELECT fetched.*, fetched.key_1 IS NOT NULL AND fetched.has_tenant AS known, (written.*)::pg_catalog.record AS row
          FROM (SELECT NULL::exportd.absent AS "id", NULL::exportd.absent AS "organization_id") AS absent
          CROSS JOIN new_rows AS written
          CROSS JOIN LATERAL (SELECT "exportd"."log_accounts_key_1"("id", "id", 1) AS key_1, "exportd"."log_accounts_tenant"("organization_id", "organization_id", 1) AS tenant, "exportd"."log_accounts_has_tenant"("organization_id", "organization_id", 1) AS has_tenant FROM (SELECT written.*) AS present) AS fetched) AS n) AS n
    GROUP BY n.known, n.position OPERATOR(pg_catalog./) 10000, n.tenant;
    IF NOT (NOT EXISTS (SELECT FROM new_rows OFFSET 10000)
       AND EXISTS (SELECT FROM (SELECT pg_catalog.array_agg(r.key_1) AS key_1, pg_catalog.array_agg(r.tenant) AS tenant FROM (SELECT fetched.*, fetched.key_1 IS NOT NULL AND fetched.has_tenant AS known, (written.*)::pg_catalog.record AS row
          FROM (SELECT NULL::exportd.absent AS "id", NULL::exportd.absent AS "organization_id") AS absent
          CROSS JOIN new_rows AS written
          CROSS JOIN LATERAL (SELECT "exportd"."log_accounts_key_1"("id", "id", 1) AS key_1, "exportd"."log_accounts_tenant"("organization_id", "organization_id", 1) AS tenant, "exportd"."log_accounts_has_tenant"("organization_id", "organization_id", 1) AS has_tenant FROM (SELECT written.*) AS present) AS fetched) AS r) AS n,
                   (SELECT pg_catalog.array_agg(r.key_1) AS key_1, pg_catalog.array_agg(r.tenant) AS tenant FROM (SELECT fetched.*, fetched.key_1 IS NOT NULL AND fetched.has_tenant AS known, (written.*)::pg_catalog.record AS row
          FROM (SELECT NULL::exportd.absent AS "id", NULL::exportd.absent AS "organization_id") AS absent
          CROSS JOIN old_rows AS written
          CROSS JOIN LATERAL (SELECT "exportd"."log_accounts_key_1"("id", "id", 1) AS key_1, "exportd"."log_accounts_tenant"("organization_id", "organization_id", 1) AS tenant, "exportd"."log_accounts_has_tenant"("organization_id", "organization_id", 1) AS has_tenant FROM (SELECT written.*) AS present) AS fetched) AS r) AS o
                   WHERE n.key_1 OPERATOR(pg_catalog.=) o.key_1 AND n.tenant OPERATOR(pg_catalog.=) o.tenant)) THEN
    IF EXISTS (SELECT FROM pg_catalog.pg_attribute AS a WHERE a.attrelid OPERATOR(pg_catalog.=) TG_RELID
               AND a.attgenerated OPERATOR(pg_catalog.=) 'v' AND NOT a.attisdropped) THEN
    INSERT INTO "exportd"."log_accounts" (seq, op, key_1, tenant, image)
    SELECT pg_catalog.nextval('"exportd"."seq_accounts"'::pg_catalog.regclass),
           CASE WHEN o.known AND (o.image IS NOT NULL OR o.tenant IS NULL) THEN 'D' ELSE 'T' END::pg_catalog."char", ARRAY[o.key_1], CASE WHEN o.known THEN o.tenant END, o.image
    FROM (SELECT o.key_1, o.tenant, o.known, CASE WHEN o.known THEN CASE WHEN o.may_be_large THEN CASE WHEN o.can_be_tried THEN exportd.large_row_image(o.row) END ELSE exportd.row_image(o.row) END END AS image
    FROM (SELECT fetched.*, fetched.key_1 IS NOT NULL AND fetched.has_tenant AS known, (written.*)::pg_catalog.record AS row
          FROM (SELECT NULL::exportd.absent AS "id", NULL::exportd.absent AS "organization_id", NULL::exportd.absent AS "name") AS absent
          CROSS JOIN old_rows AS written
          CROSS JOIN LATERAL (SELECT "exportd"."log_accounts_key_1"("id", "id", 1) AS key_1, "exportd"."log_accounts_tenant"("organization_id", "organization_id", 1) AS tenant, "exportd"."log_accounts_has_tenant"("organization_id", "organization_id", 1) AS has_tenant, (coalesce(pg_catalog.pg_column_size("organization_id"), 0)::pg_catalog.int8 OPERATOR(pg_catalog.+) coalesce(pg_catalog.pg_column_size("name"), 0)::pg_catalog.int8) OPERATOR(pg_catalog.>) 256000 AS may_be_large, (coalesce(pg_catalog.pg_column_size("organization_id"), 0)::pg_catalog.int8 OPERATOR(pg_catalog.+) coalesce(pg_catalog.pg_column_size("name"), 0)::pg_catalog.int8) OPERATOR(pg_catalog.<=) 160000000 AS can_be_tried FROM (SELECT written.*) AS present) AS fetched) AS o
    WHERE o.known AND NOT EXISTS (SELECT FROM (SELECT fetched.*, fetched.key_1 IS NOT NULL AND fetched.has_tenant AS known, (written.*)::pg_catalog.record AS row
          FROM (SELECT NULL::exportd.absent AS "id", NULL::exportd.absent AS "organization_id") AS absent
          CROSS JOIN new_rows AS written
          CROSS JOIN LATERAL (SELECT "exportd"."log_accounts_key_1"("id", "id", 1) AS key_1, "exportd"."log_accounts_tenant"("organization_id", "organization_id", 1) AS tenant, "exportd"."log_accounts_has_tenant"("organization_id", "organization_id", 1) AS has_tenant FROM (SELECT written.*) AS present) AS fetched) AS n
                                  WHERE o.key_1 OPERATOR(pg_catalog.=) n.key_1 AND (o.tenant OPERATOR(pg_catalog.=) n.tenant AND o.tenant IS NOT NULL AND n.tenant IS NOT NULL OR o.tenant IS NULL AND n.tenant IS NULL)) OFFSET 0) AS o;
    ELSE
    INSERT INTO "exportd"."log_accounts" (seq, op, key_1, tenant, image)
    SELECT pg_catalog.nextval('"exportd"."seq_accounts"'::pg_catalog.regclass),
           CASE WHEN o.known AND (o.image IS NOT NULL OR o.tenant IS NULL) THEN 'D' ELSE 'T' END::pg_catalog."char", ARRAY[o.key_1], CASE WHEN o.known THEN o.tenant END, o.image
    FROM (SELECT o.key_1, o.tenant, o.known, CASE WHEN o.known THEN CASE WHEN o.may_be_large THEN CASE WHEN o.can_be_tried THEN exportd.large_row_image(o.row) END ELSE exportd.row_image(o.row) END END AS image
    FROM (SELECT fetched.*, fetched.key_1 IS NOT NULL AND fetched.has_tenant AS known, (written.*)::pg_catalog.record AS row
          FROM (SELECT NULL::exportd.absent AS "id", NULL::exportd.absent AS "organization_id", NULL::exportd.absent AS "name") AS absent
          CROSS JOIN (SELECT * FROM old_rows) AS written
          CROSS JOIN LATERAL (SELECT "exportd"."log_accounts_key_1"("id", "id", 1) AS key_1, "exportd"."log_accounts_tenant"("organization_id", "organization_id", 1) AS tenant, "exportd"."log_accounts_has_tenant"("organization_id", "organization_id", 1) AS has_tenant, (coalesce(pg_catalog.pg_column_size("organization_id"), 0)::pg_catalog.int8 OPERATOR(pg_catalog.+) coalesce(pg_catalog.pg_column_size("name"), 0)::pg_catalog.int8) OPERATOR(pg_catalog.>) 256000 AS may_be_large, (coalesce(pg_catalog.pg_column_size("organization_id"), 0)::pg_catalog.int8 OPERATOR(pg_catalog.+) coalesce(pg_catalog.pg_column_size("name"), 0)::pg_catalog.int8) OPERATOR(pg_catalog.<=) 160000000 AS can_be_tried FROM (SELECT written.*) AS present) AS fetched) AS o
    WHERE o.known AND NOT EXISTS (SELECT FROM (SELECT fetched.*, fetched.key_1 IS NOT NULL AND fetched.has_tenant AS known, (written.*)::pg_catalog.record AS row
          FROM (SELECT NULL::exportd.absent AS "id", NULL::exportd.absent AS "organization_id") AS absent
          CROSS JOIN new_rows AS written
          CROSS JOIN LATERAL (SELECT "exportd"."log_accounts_key_1"("id", "id", 1) AS key_1, "exportd"."log_accounts_tenant"("organization_id", "organization_id", 1) AS tenant, "exportd"."log_accounts_has_tenant"("organization_id", "organization_id", 1) AS has_tenant FROM (SELECT written.*) AS present) AS fetched) AS n
                                  WHERE o.key_1 OPERATOR(pg_catalog.=) n.key_1 AND (o.tenant OPERATOR(pg_catalog.=) n.tenant AND o.tenant IS NOT NULL AND n.tenant IS NOT NULL OR o.tenant IS NULL AND n.tenant IS NULL)) OFFSET 0) AS o;
    END IF;
    END IF;
  END IF;
  IF pg_catalog.pg_sequence_last_value('exportd.doorbell'::pg_catalog.regclass)::pg_catalog.float8
     OPERATOR(pg_catalog.>) pg_catalog.date_part('epoch', pg_catalog.now())
     AND pg_catalog.pg_notification_queue_usage() OPERATOR(pg_catalog.<) 0.1::pg_catalog.float8 THEN
    PERFORM pg_catalog.pg_notify('exportd_doorbell', 'ACCOUNTS');
  END IF;
  RETURN NULL;
END
$exportd$;
REVOKE ALL ON FUNCTION "exportd"."log_accounts_update"() FROM PUBLIC;
CREATE OR REPLACE FUNCTION "exportd"."log_accounts_delete"() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET datestyle = 'ISO, YMD'
SET intervalstyle = 'postgres'
SET timezone = 'UTC'
SET extra_float_digits = '1'
SET bytea_output = 'hex'
SET lc_monetary = 'C'
SET xmlbinary = 'base64'
AS $exportd$
#variable_conflict use_column
BEGIN
  INSERT INTO "exportd"."log_accounts" (seq, op, key_1, tenant, image)
    SELECT pg_catalog.nextval('"exportd"."seq_accounts"'::pg_catalog.regclass),
           CASE WHEN o.known AND (o.image IS NOT NULL OR o.tenant IS NULL) THEN 'D' ELSE 'T' END::pg_catalog."char", ARRAY[o.key_1], CASE WHEN o.known THEN o.tenant END, o.image
    FROM (SELECT o.key_1, o.tenant, o.known, CASE WHEN o.known THEN CASE WHEN o.may_be_large THEN CASE WHEN o.can_be_tried THEN exportd.large_row_image(o.row) END ELSE o.row::pg_catalog.text END END AS image
    FROM (SELECT fetched.*, fetched.key_1 IS NOT NULL AND fetched.has_tenant AS known, (written.*)::pg_catalog.record AS row
          FROM (SELECT NULL::exportd.absent AS "id", NULL::exportd.absent AS "organization_id", NULL::exportd.absent AS "name") AS absent
          CROSS JOIN old_rows AS written
          CROSS JOIN LATERAL (SELECT "exportd"."log_accounts_key_1"("id", "id", 1) AS key_1, "exportd"."log_accounts_tenant"("organization_id", "organization_id", 1) AS tenant, "exportd"."log_accounts_has_tenant"("organization_id", "organization_id", 1) AS has_tenant, (coalesce(pg_catalog.pg_column_size("organization_id"), 0)::pg_catalog.int8 OPERATOR(pg_catalog.+) coalesce(pg_catalog.pg_column_size("name"), 0)::pg_catalog.int8) OPERATOR(pg_catalog.>) 256000 AS may_be_large, (coalesce(pg_catalog.pg_column_size("organization_id"), 0)::pg_catalog.int8 OPERATOR(pg_catalog.+) coalesce(pg_catalog.pg_column_size("name"), 0)::pg_catalog.int8) OPERATOR(pg_catalog.<=) 160000000 AS can_be_tried FROM (SELECT written.*) AS present) AS fetched) AS o OFFSET 0) AS o;
  IF pg_catalog.pg_sequence_last_value('exportd.doorbell'::pg_catalog.regclass)::pg_catalog.float8
     OPERATOR(pg_catalog.>) pg_catalog.date_part('epoch', pg_catalog.now())
     AND pg_catalog.pg_notification_queue_usage() OPERATOR(pg_catalog.<) 0.1::pg_catalog.float8 THEN
    PERFORM pg_catalog.pg_notify('exportd_doorbell', 'ACCOUNTS');
  END IF;
  RETURN NULL;
END
$exportd$;
REVOKE ALL ON FUNCTION "exportd"."log_accounts_delete"() FROM PUBLIC;
CREATE OR REPLACE FUNCTION "exportd"."log_accounts_row"() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET datestyle = 'ISO, YMD'
SET intervalstyle = 'postgres'
SET timezone = 'UTC'
SET extra_float_digits = '1'
SET bytea_output = 'hex'
SET lc_monetary = 'C'
SET xmlbinary = 'base64'
SET work_mem = '1GB'
SET jit = 'off'
AS $exportd$
#variable_conflict use_column
BEGIN
  IF NOT (pg_catalog.pg_column_size(OLD) BETWEEN 0 AND 160000000 AND pg_catalog.pg_column_size(NEW) BETWEEN 0 AND 160000000) THEN
    INSERT INTO "exportd"."log_accounts" (op) VALUES ('T');
  ELSIF TG_OP = 'DELETE' THEN
    EXECUTE 'INSERT INTO "exportd"."log_accounts" (seq, op, key_1, tenant, image)
    SELECT pg_catalog.nextval(''"exportd"."seq_accounts"''::pg_catalog.regclass),
           CASE WHEN o.known AND (o.image IS NOT NULL OR o.tenant IS NULL) THEN ''D'' ELSE ''T'' END::pg_catalog."char", ARRAY[o.key_1], CASE WHEN o.known THEN o.tenant END, o.image
    FROM (SELECT o.key_1, o.tenant, o.known, CASE WHEN o.known THEN CASE WHEN o.may_be_large THEN CASE WHEN o.can_be_tried THEN exportd.large_row_image(o.row) END ELSE o.row::pg_catalog.text END END AS image
    FROM (SELECT fetched.*, fetched.key_1 IS NOT NULL AND fetched.has_tenant AS known, (written.*)::pg_catalog.record AS row
          FROM (SELECT NULL::exportd.absent AS "id", NULL::exportd.absent AS "organization_id", NULL::exportd.absent AS "name") AS absent
          CROSS JOIN (SELECT ($1).*) AS written
          CROSS JOIN LATERAL (SELECT "exportd"."log_accounts_key_1"("id", "id", 1) AS key_1, "exportd"."log_accounts_tenant"("organization_id", "organization_id", 1) AS tenant, "exportd"."log_accounts_has_tenant"("organization_id", "organization_id", 1) AS has_tenant, (coalesce(pg_catalog.pg_column_size("organization_id"), 0)::pg_catalog.int8 OPERATOR(pg_catalog.+) coalesce(pg_catalog.pg_column_size("name"), 0)::pg_catalog.int8) OPERATOR(pg_catalog.>) 256000 AS may_be_large, (coalesce(pg_catalog.pg_column_size("organization_id"), 0)::pg_catalog.int8 OPERATOR(pg_catalog.+) coalesce(pg_catalog.pg_column_size("name"), 0)::pg_catalog.int8) OPERATOR(pg_catalog.<=) 160000000 AS can_be_tried FROM (SELECT written.*) AS present) AS fetched) AS o OFFSET 0) AS o;' USING OLD;
  ELSE
    EXECUTE 'INSERT INTO "exportd"."log_accounts" (op, key_1, tenant)
    SELECT CASE WHEN n.known THEN ''U'' ELSE ''T'' END::pg_catalog."char", ARRAY[n.key_1], CASE WHEN n.known THEN n.tenant END
    FROM (SELECT fetched.*, fetched.key_1 IS NOT NULL AND fetched.has_tenant AS known, (written.*)::pg_catalog.record AS row
          FROM (SELECT NULL::exportd.absent AS "id", NULL::exportd.absent AS "organization_id") AS absent
          CROSS JOIN (SELECT ($1).*) AS written
          CROSS JOIN LATERAL (SELECT "exportd"."log_accounts_key_1"("id", "id", 1) AS key_1, "exportd"."log_accounts_tenant"("organization_id", "organization_id", 1) AS tenant, "exportd"."log_accounts_has_tenant"("organization_id", "organization_id", 1) AS has_tenant FROM (SELECT written.*) AS present) AS fetched) AS n' USING NEW;
    IF TG_OP = 'UPDATE' THEN
      EXECUTE 'INSERT INTO "exportd"."log_accounts" (seq, op, key_1, tenant, image)
    SELECT pg_catalog.nextval(''"exportd"."seq_accounts"''::pg_catalog.regclass),
           CASE WHEN o.known AND (o.image IS NOT NULL OR o.tenant IS NULL) THEN ''D'' ELSE ''T'' END::pg_catalog."char", ARRAY[o.key_1], CASE WHEN o.known THEN o.tenant END, o.image
    FROM (SELECT o.key_1, o.tenant, o.known, CASE WHEN o.known THEN CASE WHEN o.may_be_large THEN CASE WHEN o.can_be_tried THEN exportd.large_row_image(o.row) END ELSE o.row::pg_catalog.text END END AS image
    FROM (SELECT fetched.*, fetched.key_1 IS NOT NULL AND fetched.has_tenant AS known, (written.*)::pg_catalog.record AS row
          FROM (SELECT NULL::exportd.absent AS "id", NULL::exportd.absent AS "organization_id", NULL::exportd.absent AS "name") AS absent
          CROSS JOIN (SELECT ($1).*) AS written
          CROSS JOIN LATERAL (SELECT "exportd"."log_accounts_key_1"("id", "id", 1) AS key_1, "exportd"."log_accounts_tenant"("organization_id", "organization_id", 1) AS tenant, "exportd"."log_accounts_has_tenant"("organization_id", "organization_id", 1) AS has_tenant, (coalesce(pg_catalog.pg_column_size("organization_id"), 0)::pg_catalog.int8 OPERATOR(pg_catalog.+) coalesce(pg_catalog.pg_column_size("name"), 0)::pg_catalog.int8) OPERATOR(pg_catalog.>) 256000 AS may_be_large, (coalesce(pg_catalog.pg_column_size("organization_id"), 0)::pg_catalog.int8 OPERATOR(pg_catalog.+) coalesce(pg_catalog.pg_column_size("name"), 0)::pg_catalog.int8) OPERATOR(pg_catalog.<=) 160000000 AS can_be_tried FROM (SELECT written.*) AS present) AS fetched) AS o
    WHERE NOT EXISTS (SELECT FROM (SELECT fetched.*, fetched.key_1 IS NOT NULL AND fetched.has_tenant AS known, (written.*)::pg_catalog.record AS row
          FROM (SELECT NULL::exportd.absent AS "id", NULL::exportd.absent AS "organization_id") AS absent
          CROSS JOIN (SELECT ($2).*) AS written
          CROSS JOIN LATERAL (SELECT "exportd"."log_accounts_key_1"("id", "id", 1) AS key_1, "exportd"."log_accounts_tenant"("organization_id", "organization_id", 1) AS tenant, "exportd"."log_accounts_has_tenant"("organization_id", "organization_id", 1) AS has_tenant FROM (SELECT written.*) AS present) AS fetched) AS n
                      WHERE o.key_1 OPERATOR(pg_catalog.=) n.key_1 AND (o.tenant OPERATOR(pg_catalog.=) n.tenant AND o.tenant IS NOT NULL AND n.tenant IS NOT NULL OR o.tenant IS NULL AND n.tenant IS NULL)) OFFSET 0) AS o;' USING OLD, NEW;
    END IF;
  END IF;
  IF pg_catalog.pg_sequence_last_value('exportd.doorbell'::pg_catalog.regclass)::pg_catalog.float8
     OPERATOR(pg_catalog.>) pg_catalog.date_part('epoch', pg_catalog.now())
     AND pg_catalog.pg_notification_queue_usage() OPERATOR(pg_catalog.<) 0.1::pg_catalog.float8 THEN
    PERFORM pg_catalog.pg_notify('exportd_doorbell', 'ACCOUNTS');
  END IF;
  RETURN NULL;
END
$exportd$;
REVOKE ALL ON FUNCTION "exportd"."log_accounts_row"() FROM PUBLIC;
CREATE OR REPLACE FUNCTION "exportd"."log_accounts_truncate"() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET datestyle = 'ISO, YMD'
SET intervalstyle = 'postgres'
SET timezone = 'UTC'
SET extra_float_digits = '1'
SET bytea_output = 'hex'
SET lc_monetary = 'C'
SET xmlbinary = 'base64'
AS $exportd$
#variable_conflict use_column
BEGIN
  IF pg_catalog.has_schema_privilege(TG_TABLE_SCHEMA, 'USAGE') AND pg_catalog.has_table_privilege(TG_RELID, 'SELECT')
     AND exportd.runs_no_foreign_code(TG_RELID) THEN
    EXECUTE 'INSERT INTO "exportd"."log_accounts" (seq, op, key_1, tenant, image)
    SELECT pg_catalog.nextval(''"exportd"."seq_accounts"''::pg_catalog.regclass),
           CASE WHEN o.known AND (o.image IS NOT NULL OR o.tenant IS NULL) THEN ''D'' ELSE ''T'' END::pg_catalog."char", ARRAY[o.key_1], CASE WHEN o.known THEN o.tenant END, o.image
    FROM (SELECT o.key_1, o.tenant, o.known, CASE WHEN o.known THEN CASE WHEN o.may_be_large THEN CASE WHEN o.can_be_tried THEN exportd.large_row_image(o.row) END ELSE o.row::pg_catalog.text END END AS image
    FROM (SELECT fetched.*, fetched.key_1 IS NOT NULL AND fetched.has_tenant AS known, (written.*)::pg_catalog.record AS row
          FROM (SELECT NULL::exportd.absent AS "id", NULL::exportd.absent AS "organization_id", NULL::exportd.absent AS "name") AS absent
          CROSS JOIN (SELECT * FROM ONLY ' || TG_RELID::pg_catalog.regclass::pg_catalog.text || ') AS written
          CROSS JOIN LATERAL (SELECT "exportd"."log_accounts_key_1"("id", "id", 1) AS key_1, "exportd"."log_accounts_tenant"("organization_id", "organization_id", 1) AS tenant, "exportd"."log_accounts_has_tenant"("organization_id", "organization_id", 1) AS has_tenant, (coalesce(pg_catalog.pg_column_size("organization_id"), 0)::pg_catalog.int8 OPERATOR(pg_catalog.+) coalesce(pg_catalog.pg_column_size("name"), 0)::pg_catalog.int8) OPERATOR(pg_catalog.>) 256000 AS may_be_large, (coalesce(pg_catalog.pg_column_size("organization_id"), 0)::pg_catalog.int8 OPERATOR(pg_catalog.+) coalesce(pg_catalog.pg_column_size("name"), 0)::pg_catalog.int8) OPERATOR(pg_catalog.<=) 160000000 AS can_be_tried FROM (SELECT written.*) AS present) AS fetched) AS o OFFSET 0) AS o';
  ELSE
    INSERT INTO "exportd"."log_accounts" (op) VALUES ('T');
  END IF;
  IF pg_catalog.pg_sequence_last_value('exportd.doorbell'::pg_catalog.regclass)::pg_catalog.float8
     OPERATOR(pg_catalog.>) pg_catalog.date_part('epoch', pg_catalog.now())
     AND pg_catalog.pg_notification_queue_usage() OPERATOR(pg_catalog.<) 0.1::pg_catalog.float8 THEN
    PERFORM pg_catalog.pg_notify('exportd_doorbell', 'ACCOUNTS');
  END IF;
  RETURN NULL;
END
$exportd$;
REVOKE ALL ON FUNCTION "exportd"."log_accounts_truncate"() FROM PUBLIC;
RESET ROLE;
CREATE OR REPLACE TRIGGER "exportd_accounts_delete" AFTER DELETE ON "public"."accounts" REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION "exportd"."log_accounts_delete"();
ALTER TABLE "public"."accounts" ENABLE ALWAYS TRIGGER "exportd_accounts_delete";
CREATE OR REPLACE TRIGGER "exportd_accounts_insert" AFTER INSERT ON "public"."accounts" REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION "exportd"."log_accounts_insert"();
ALTER TABLE "public"."accounts" ENABLE ALWAYS TRIGGER "exportd_accounts_insert";
CREATE OR REPLACE TRIGGER "exportd_accounts_row" AFTER INSERT OR UPDATE OR DELETE ON "public"."accounts" FOR EACH ROW EXECUTE FUNCTION "exportd"."log_accounts_row"();
ALTER TABLE "public"."accounts" ENABLE REPLICA TRIGGER "exportd_accounts_row";
CREATE OR REPLACE TRIGGER "exportd_accounts_truncate" BEFORE TRUNCATE ON "public"."accounts" FOR EACH STATEMENT EXECUTE FUNCTION "exportd"."log_accounts_truncate"();
ALTER TABLE "public"."accounts" ENABLE ALWAYS TRIGGER "exportd_accounts_truncate";
CREATE OR REPLACE TRIGGER "exportd_accounts_update" AFTER UPDATE ON "public"."accounts" REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION "exportd"."log_accounts_update"();
ALTER TABLE "public"."accounts" ENABLE ALWAYS TRIGGER "exportd_accounts_update";
COMMIT;

