-- What the capture triggers of all entities share.

-- The type of "no such column" in a trigger function: see changes/trigger_functions.py.
CREATE TYPE exportd.absent AS ENUM ();

-- Triggers ring (NOTIFY) only while the doorbell is armed, because NOTIFY takes a global lock at commit. A sequence rather
-- than a row: its value is read by an expression, without a query, and set without a transaction, so that no
-- dead row versions pile up where every writer looks. It is the second (since 1970) until which the doorbell is armed; arming ends by itself, so a daemon that
-- died leaves no ringing.
CREATE SEQUENCE exportd.doorbell MINVALUE 0 START 0;

-- The text form of a row under settings that make it readable again, whatever the writer's own settings are. It takes an
-- anonymous record, for which nobody can define a cast to text.
CREATE FUNCTION exportd.row_image(record) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET datestyle = 'ISO, YMD'
SET intervalstyle = 'postgres'
SET timezone = 'UTC'
SET extra_float_digits = '1'
SET bytea_output = 'hex'
SET lc_monetary = 'C'
SET xmlbinary = 'base64'
AS 'BEGIN RETURN $1::pg_catalog.text; END';

-- Which database the change logs were written in. After a restore transaction numbers may start anew; the old rows
-- would then look like changes of the future, and are dropped.
CREATE TABLE exportd.cluster (
    only_row          boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    system_identifier text NOT NULL,
    database_oid      oid NOT NULL
);
