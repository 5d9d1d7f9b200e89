-- The image of a row whose text may be too long for one value, or for JSON, by which it is read back: NULL then. JSON takes
-- up to six characters for one. The block that catches the error writes nothing, so it costs no transaction number.
CREATE FUNCTION exportd.large_row_image(record) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET datestyle = 'ISO, YMD'
SET intervalstyle = 'postgres'
SET timezone = 'UTC'
SET extra_float_digits = '1'
SET bytea_output = 'hex'
SET lc_monetary = 'C'
SET xmlbinary = 'base64'
AS $function$
DECLARE
  image text;
BEGIN
  image := $1::text;
  RETURN CASE WHEN octet_length(image) <= 160000000 THEN image END;
EXCEPTION
  -- What Postgres says of a text that is too long, by where it notices.
  WHEN program_limit_exceeded OR out_of_memory OR internal_error THEN
    RETURN NULL;
END
$function$;
REVOKE ALL ON FUNCTION exportd.large_row_image(record) FROM PUBLIC;
