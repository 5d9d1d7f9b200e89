-- How each demo record follows from its number: nothing is random, so that the same numbers give the same bytes on every
-- server. `pg_temp.dice` is a hash of the number, and each column has a die of its own (`:salt + 1`, `+ 2`, ...).
--
-- OFFSET 0 keeps the planner from computing the same number once for every column.
--
-- Parameters, by name: :organization; :salt of the seed and organization; :prefix of its keys; how many records of an
-- entity it has (:bills, :accounts, ...); and the keys of the small entities, by number (:product_keys, ...). The keys of
-- the big ones are computed by `pg_temp.key`. A record that belongs to another one finds it by arithmetic: bill n is of
-- the account (n - 1) % :accounts + 1.

-- name: functions
-- Single expressions, which the planner inlines.
CREATE OR REPLACE FUNCTION pg_temp.dice(n bigint, salt bigint, sides integer) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT (hashint8extended(n, salt) & 2147483647)::integer % sides $$;

CREATE OR REPLACE FUNCTION pg_temp.pick(n bigint, salt bigint, VARIADIC options text[]) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT options[1 + (hashint8extended(n, salt) & 2147483647)::integer % cardinality(options)] $$;

CREATE OR REPLACE FUNCTION pg_temp.key(prefix text, n bigint) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT md5(prefix || n::text)::uuid $$;

CREATE OR REPLACE FUNCTION pg_temp.number(prefix text, n bigint) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT prefix || (1000000 + n)::text $$;

-- The first day of a month; month 0 is January 2024.
CREATE OR REPLACE FUNCTION pg_temp.month(m integer) RETURNS date
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT make_date(2024 + m / 12, m % 12 + 1, 1) $$;

-- Some moment, to the millisecond, in the first years of an organization.
CREATE OR REPLACE FUNCTION pg_temp.moment(n bigint, salt bigint) RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE
AS $$ SELECT timestamptz '2024-01-01 00:00:00+00'
             + (hashint8extended(n, salt) & 2147483647)::integer * interval '29.347 milliseconds' $$;

CREATE OR REPLACE FUNCTION pg_temp.currency(account bigint) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT (ARRAY['USD', 'EUR', 'USD', 'GBP', 'EUR', 'JPY', 'USD', 'CHF'])[1 + account % 8] $$;

CREATE OR REPLACE FUNCTION pg_temp.person(n bigint, salt bigint) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT pg_temp.pick(n, salt, 'amara', U&'bj\00F6rn', 'chloe', 'dmitri', 'elif', 'farah', 'goran', 'hana', 'ines', 'jonas')
             || '.' || pg_temp.pick(n, salt + 1, 'okafor', 'lindqvist', 'dubois', 'ivanov', 'yilmaz', 'haddad', 'novak') $$;

-- The amount of a bill in hundredths; its line items add up to it.
CREATE OR REPLACE FUNCTION pg_temp.bill_cents(bill bigint, salt bigint) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT 1000 + pg_temp.dice(bill, salt, 90) * pg_temp.dice(bill, salt + 1, 90000) / 9 $$;

-- name: products
INSERT INTO public.products
SELECT (:product_keys)[n], :organization, 1 + pg_temp.dice(n, :salt, 6),
       (:product_names)[n],
       pg_temp.number('PROD-', n),
       jsonb_build_object('costCentre', 4000 + n, 'family', pg_temp.pick(n, :salt + 3, 'core', 'add-on', 'legacy')),
       pg_temp.moment(n, :salt + 4), pg_temp.moment(n, :salt + 4) + n * interval '1 hour',
       (:user_keys)[1 + n % cardinality(:user_keys)], (:user_keys)[1 + n / 2 % cardinality(:user_keys)]
FROM generate_series(1::bigint, :products) AS n;

-- name: transaction_types
INSERT INTO public.transaction_types
SELECT (:transaction_type_keys)[n], :organization, 1,
       pg_temp.pick(n - 1, 0, 'Top-up', 'Refund', 'Goodwill', 'Correction', 'Consumption', 'Expiry', 'Transfer'),
       pg_temp.number('TT-', n), n % 7 = 0, pg_temp.moment(n, :salt), pg_temp.moment(n, :salt),
       (:user_keys)[1], (:user_keys)[1]
FROM generate_series(1::bigint, :transaction_types) AS n;

-- name: accounts
INSERT INTO public.accounts
SELECT pg_temp.key(:prefix || 'account/', n), :organization, 1 + pg_temp.dice(n, :salt, 9),
       pg_temp.pick(n, :salt + 1, 'Nordlicht', 'O''Neill', U&'Caf\00E9 Central', 'Blue Heron', U&'\00C5kerlund', 'Summit', U&'\65E5\672C\6A4B',
                    'Granite & Sons', 'Pampa', 'Harbour', 'Kestrel', 'Zephyr')
           || pg_temp.pick(n, :salt + 2, ' Logistics', ' Retail', ' Foods, Inc.', ' Medical', ' "Digital"', ' Energy')
           || pg_temp.pick(n, :salt + 3, ' GmbH', ' Ltd', ' S.A.', ' LLC', ' AB', ''),
       pg_temp.number(:account_code, n),
       CASE WHEN n % 9 > 0 THEN
           ('{"addressLine1": "' || (1 + pg_temp.dice(n, :salt + 4, 240)) || ' '
            || pg_temp.pick(n, :salt + 5, 'High Street', U&'Rue de l''\00C9glise', U&'Hauptstra\00DFe', 'Market Square', 'Via Roma')
            || '", "locality": "'
            || pg_temp.pick(n, :salt + 6, 'London', 'Lyon', U&'K\00F6ln', 'Austin', 'Torino', U&'Malm\00F6', 'Osaka')
            || '", "region": null, "postCode": "' || (10000 + pg_temp.dice(n, :salt + 7, 89999))
            || '", "country": "' || pg_temp.pick(n, :salt + 6, 'GB', 'FR', 'DE', 'US', 'IT', 'SE', 'JP') || '"}')::jsonb
       END,
       pg_temp.pick(n, :salt + 8, 'NONE', 'JSON', 'JSON_AND_CSV'),
       pg_temp.month((n % 12)::integer),
       pg_temp.pick(n, :salt + 9, '["PREPAYMENT","BALANCE"]', '["BALANCE","PREPAYMENT"]', NULL),
       pg_temp.currency(n),
       pg_temp.person(n, :salt + 10) || '@customer' || n || '.example',
       CASE WHEN n > 10 AND n % 10 = 0 THEN pg_temp.key(:prefix || 'account/', n / 10) END,
       CASE WHEN n % 5 = 0 THEN pg_temp.number('PO-', n) WHEN n % 5 = 1 THEN '' END,
       CASE WHEN n % 4 = 0 THEN (:user_keys)[1 + n % cardinality(:user_keys)] END,
       CASE WHEN n % 3 = 0 THEN jsonb_build_object('tier', pg_temp.pick(n, :salt + 12, 'gold', 'silver'), 'seats', n % 500)
            ELSE '{}' END,
       pg_temp.moment(n, :salt + 13),
       pg_temp.moment(n, :salt + 13) + pg_temp.dice(n, :salt + 14, 900000) * interval '1.003 seconds',
       (:user_keys)[1 + n % cardinality(:user_keys)], (:user_keys)[1 + n / 3 % cardinality(:user_keys)]
FROM generate_series(1::bigint, :accounts) AS n;

-- name: meters
INSERT INTO public.meters
SELECT (:meter_keys)[n], :organization, 1 + pg_temp.dice(n, :salt, 5),
       pg_temp.pick(n, :salt + 1, 'API calls', 'Bytes stored', 'Compute hours', 'Messages', 'Active users', 'Queries'),
       pg_temp.number('METER-', n),
       CASE WHEN n % 6 > 0 THEN (:product_keys)[1 + (n - 1) % :products] END,
       CASE WHEN n % 3 = 0 THEN (:user_keys)[1 + n % cardinality(:user_keys)] END,
       jsonb_build_array(jsonb_build_object('category', 'MEASURE', 'code', 'amount', 'name', 'Amount',
                                            'unit', pg_temp.pick(n, :salt + 2, 'calls', 'GB', 'h', 'messages')),
                         jsonb_build_object('category', 'WHERE', 'code', 'region', 'name', 'Region, "zone"')),
       CASE WHEN n % 4 = 0 THEN '[{"category": "COST", "code": "cost", "name": "Cost", "calculation": "amount * 0.02"}]'::jsonb
            ELSE '[]'::jsonb END,
       '{}', pg_temp.moment(n, :salt + 3), pg_temp.moment(n, :salt + 3) + n * interval '3 hours',
       (:user_keys)[1 + n % cardinality(:user_keys)], (:user_keys)[1]
FROM generate_series(1::bigint, :meters) AS n;

-- name: aggregations
INSERT INTO public.aggregations
SELECT (:aggregation_keys)[n], :organization, 1 + pg_temp.dice(n, :salt, 4),
       'Aggregation ' || n, pg_temp.number('AGG-', n),
       pg_temp.pick(n, :salt + 1, 'UP', 'DOWN', 'NEAREST', 'NONE'),
       (ARRAY[1, 1, 100, 1000])[1 + n % 4],
       pg_temp.pick(n, :salt + 2, 'call', 'GB', 'hour', 'message', NULL),
       CASE WHEN n % 5 = 0 THEN '[{"region": "eu"}, {"region": "us"}, {"region": "*"}]'::jsonb END,
       (:meter_keys)[1 + (n - 1) % :meters],
       'amount',
       pg_temp.pick(n, :salt + 3, 'SUM', 'SUM', 'MIN', 'MAX', 'COUNT', 'LATEST', 'MEAN', 'UNIQUE', 'CUSTOM_SQL'),
       CASE WHEN n % 5 = 0 THEN '["region"]'::jsonb END,
       CASE WHEN n % 3 = 0 THEN 0 END,
       pg_temp.moment(n, :salt + 4), pg_temp.moment(n, :salt + 4) + n * interval '7 minutes',
       (:user_keys)[1 + n % cardinality(:user_keys)], (:user_keys)[1]
FROM generate_series(1::bigint, :aggregations) AS n;

-- name: compound_aggregations
INSERT INTO public.compound_aggregations
SELECT (:compound_aggregation_keys)[n], :organization, 1 + pg_temp.dice(n, :salt, 4),
       'Compound ' || n, pg_temp.number('COMP-', n),
       pg_temp.pick(n, :salt + 1, 'UP', 'DOWN', 'NEAREST', 'NONE'),
       (1 + pg_temp.dice(n, :salt + 2, 4000)) * 0.25,
       pg_temp.pick(n, :salt + 3, 'unit', 'GB-hour', NULL),
       CASE WHEN n % 4 = 0 THEN '[{"region": "eu"}]'::jsonb END,
       CASE WHEN n % 3 = 0 THEN (:product_keys)[1 + n % :products] END,
       'aggregation.agg1 / (aggregation.agg2 + ' || n || ')',
       (:product_keys)[1 + (n - 1) % :products],
       n % 2 = 0, '{}', pg_temp.moment(n, :salt + 4), pg_temp.moment(n, :salt + 4),
       (:user_keys)[1 + n % cardinality(:user_keys)], (:user_keys)[1]
FROM generate_series(1::bigint, :compound_aggregations) AS n;

-- name: plan_templates
INSERT INTO public.plan_templates
SELECT (:plan_template_keys)[n], :organization, 1 + pg_temp.dice(n, :salt, 4),
       pg_temp.pick(n, :salt + 1, 'Starter', 'Team', 'Business', 'Enterprise') || ' template ' || n,
       pg_temp.number('PT-', n), (:product_keys)[1 + (n - 1) % :products], pg_temp.currency(n),
       pg_temp.dice(n, :salt + 2, 500) * 1.00, CASE WHEN n % 2 = 0 THEN 'Monthly standing charge' END, 1,
       CASE WHEN n % 3 = 0 THEN 5 ELSE 0 END, 1,
       pg_temp.pick(n, :salt + 3, 'MONTHLY', 'MONTHLY', 'MONTHLY', 'ANNUALLY', 'WEEKLY', 'DAILY'),
       n, CASE WHEN n % 4 = 0 THEN pg_temp.dice(n, :salt + 4, 9000) * 1.00 END,
       CASE WHEN n % 4 = 0 THEN 'Minimum spend' END, n % 2 = 0, n % 3 = 0, '{}',
       pg_temp.moment(n, :salt + 5), pg_temp.moment(n, :salt + 5),
       (:user_keys)[1 + n % cardinality(:user_keys)], (:user_keys)[1]
FROM generate_series(1::bigint, :plan_templates) AS n;

-- name: plans
INSERT INTO public.plans
SELECT (:plan_keys)[n], :organization, 1 + pg_temp.dice(n, :salt, 4),
       pg_temp.pick(n, :salt + 1, 'Starter', 'Team', 'Business', 'Enterprise')
           || pg_temp.pick(n, :salt + 2, ' monthly', ' annual', ', pay as you go', ' "Flex"'),
       pg_temp.number('PLAN-', n), (:plan_template_keys)[1 + (n - 1) % :plan_templates],
       (:product_keys)[1 + (n - 1) % :products],
       pg_temp.dice(n, :salt + 3, 90000) * 0.01, CASE WHEN n % 2 = 0 THEN 'Standing charge' END, n,
       n % 11 = 0, CASE WHEN n % 4 = 0 THEN pg_temp.dice(n, :salt + 4, 900000) * 0.01 END,
       CASE WHEN n % 4 = 0 THEN 'Minimum spend per month' END, n % 2 = 0, n % 3 = 0,
       CASE WHEN n % 4 = 0 THEN (:product_keys)[1 + n % :products] END,
       CASE WHEN n % 5 = 0 THEN (:product_keys)[1 + n % :products] END,
       CASE WHEN n % 11 = 0 THEN pg_temp.key(:prefix || 'account/', 1 + n % :accounts) END,
       '{}', pg_temp.moment(n, :salt + 5), pg_temp.moment(n, :salt + 5) + n * interval '11 minutes',
       (:user_keys)[1 + n % cardinality(:user_keys)], (:user_keys)[1]
FROM generate_series(1::bigint, :plans) AS n;

-- name: plan_groups
INSERT INTO public.plan_groups
SELECT (:plan_group_keys)[n], :organization, 1 + pg_temp.dice(n, :salt, 4),
       'Bundle ' || n, pg_temp.number('PG-', n), pg_temp.dice(n, :salt + 1, 90000) * 0.01,
       CASE WHEN n % 2 = 0 THEN 'Bundle charge' END,
       CASE WHEN n % 3 = 0 THEN pg_temp.dice(n, :salt + 2, 900000) * 0.01 END,
       CASE WHEN n % 3 = 0 THEN 'Bundle minimum' END, pg_temp.currency(n), n % 2 = 0, n % 3 = 0,
       CASE WHEN n % 5 = 0 THEN pg_temp.key(:prefix || 'account/', 1 + n % :accounts) END,
       CASE WHEN n % 3 = 0 THEN (:product_keys)[1 + n % :products] END,
       CASE WHEN n % 2 = 0 THEN (:product_keys)[1 + n % :products] END,
       '{"campaign": "autumn"}', pg_temp.moment(n, :salt + 3), pg_temp.moment(n, :salt + 3),
       (:user_keys)[1 + n % cardinality(:user_keys)], (:user_keys)[1]
FROM generate_series(1::bigint, :plan_groups) AS n;

-- name: plan_group_links
INSERT INTO public.plan_group_links
SELECT pg_temp.key(:prefix || 'plan_group_link/', n), :organization, 1,
       (:plan_group_keys)[1 + (n - 1) % :plan_groups], (:plan_keys)[1 + (n - 1) % :plans],
       pg_temp.moment(n, :salt), pg_temp.moment(n, :salt),
       (:user_keys)[1 + n % cardinality(:user_keys)], (:user_keys)[1]
FROM generate_series(1::bigint, :plan_group_links) AS n;

-- name: pricing
INSERT INTO public.pricing
SELECT (:pricing_keys)[n], :organization, 1 + pg_temp.dice(n, :salt, 7), pg_temp.number('PRICE-', n),
       CASE WHEN n % 8 > 0 THEN (:plan_keys)[1 + (n - 1) % :plans] END,
       CASE WHEN n % 8 = 0 THEN (:plan_template_keys)[1 + (n - 1) % :plan_templates] END,
       n % 3 = 0, pg_temp.month((n % 24)::integer)::timestamptz,
       CASE WHEN n % 7 = 0 THEN pg_temp.month((n % 24 + 12)::integer)::timestamptz END,
       CASE WHEN n % 2 = 0 THEN 'Price of ' || pg_temp.pick(n, :salt + 1, 'calls', 'storage', 'hours, metered') END,
       CASE WHEN n % 3 = 0 THEN (:product_keys)[1 + n % :products] END,
       CASE WHEN n % 6 > 0 THEN (:aggregation_keys)[1 + (n - 1) % :aggregations] END,
       CASE WHEN n % 6 = 0 THEN (:compound_aggregation_keys)[1 + (n - 1) % :compound_aggregations] END,
       pg_temp.pick(n, :salt + 2, 'DEBIT', 'DEBIT', 'DEBIT', 'PRODUCT_CREDIT', 'GLOBAL_CREDIT'),
       CASE WHEN n % 5 = 0 THEN jsonb_build_object('region', pg_temp.pick(n, :salt + 3, 'eu', 'us', 'ap')) END,
       n % 4 = 0, CASE WHEN n % 9 = 0 THEN pg_temp.dice(n, :salt + 4, 90000) * 0.01 END,
       CASE WHEN n % 9 = 0 THEN 'Minimum' END, n % 2 = 0, CASE WHEN n % 6 = 0 THEN 'COMPOUND' ELSE 'SIMPLE' END,
       CASE WHEN n % 5 = 0 THEN 'region=' || pg_temp.pick(n, :salt + 3, 'eu', 'us', 'ap') END,
       pg_temp.moment(n, :salt + 5), pg_temp.moment(n, :salt + 5) + n * interval '1 minute',
       (:user_keys)[1 + n % cardinality(:user_keys)], (:user_keys)[1]
FROM generate_series(1::bigint, :pricing) AS n;

-- name: pricing_bands
INSERT INTO public.pricing_bands
SELECT pg_temp.key(:prefix || 'pricing_band/', n), :organization, 1,
       ((n - 1) / :pricing) * 1000.0000, pg_temp.dice(n, :salt, 300) * 0.01,
       (1 + pg_temp.dice(n, :salt + 1, 999999)) * 0.000001, NULL,
       CASE WHEN n % 12 = 0 THEN 'OVERAGE' ELSE 'STANDARD' END, (:pricing_keys)[1 + (n - 1) % :pricing]
FROM generate_series(1::bigint, :pricing_bands) AS n;

-- name: contracts
INSERT INTO public.contracts
SELECT pg_temp.key(:prefix || 'contract/', n), :organization, 1 + pg_temp.dice(n, :salt, 5),
       'Contract ' || n, pg_temp.number('CON-', n), pg_temp.key(:prefix || 'account/', 1 + (n - 1) % :accounts),
       CASE WHEN n % 4 = 0 THEN E'Signed by both parties.\nRenews itself, unless "terminated".' END,
       CASE WHEN n % 3 = 0 THEN pg_temp.number('PO-', n) END, n % 2 = 0,
       CASE WHEN n % 6 = 0 THEN '[{"dimensionCode": "region", "value": "eu", "mode": "INCLUDE"}]'::jsonb
            ELSE '[]'::jsonb END,
       CASE WHEN n % 7 = 0 THEN (:user_keys)[1 + n % cardinality(:user_keys)] END,
       pg_temp.month((n % 24)::integer), pg_temp.month((n % 24 + 12)::integer), '{}',
       pg_temp.moment(n, :salt + 1), pg_temp.moment(n, :salt + 1) + n % 5000 * interval '1 minute',
       (:user_keys)[1 + n % cardinality(:user_keys)], (:user_keys)[1]
FROM generate_series(1::bigint, :contracts) AS n;

-- name: account_plans
INSERT INTO public.account_plans
SELECT pg_temp.key(:prefix || 'account_plan/', n), :organization, 1 + pg_temp.dice(n, :salt, 5),
       pg_temp.number('AP-', n), pg_temp.key(:prefix || 'account/', account), pg_temp.month((n % 12)::integer),
       pg_temp.pick(n, :salt + 1, 'PARENT_SUMMARY', 'PARENT_BREAKDOWN', 'CHILD', NULL),
       CASE WHEN account <= :contracts THEN pg_temp.key(:prefix || 'contract/', account) END,
       CASE WHEN n % 4 = 0 THEN (:user_keys)[1 + n % cardinality(:user_keys)] END,
       CASE WHEN n % 10 > 0 THEN (:plan_keys)[1 + (n - 1) % :plans] END,
       CASE WHEN n % 10 = 0 THEN (:plan_group_keys)[1 + (n - 1) % :plan_groups] END,
       CASE WHEN n % 10 > 0 THEN (:product_keys)[1 + (n - 1) % :plans % :products] END,
       pg_temp.month((n % 24)::integer)::timestamptz,
       CASE WHEN n % 5 = 0 THEN pg_temp.month((n % 24 + 12)::integer)::timestamptz END, '{}',
       pg_temp.moment(n, :salt + 2), pg_temp.moment(n, :salt + 2) + n % 7000 * interval '1.007 seconds',
       (:user_keys)[1 + n % cardinality(:user_keys)], (:user_keys)[1]
FROM (SELECT n, 1 + (n - 1) % :accounts AS account FROM generate_series(1::bigint, :account_plans) AS n) AS numbers;

-- name: balances
INSERT INTO public.balances
SELECT pg_temp.key(:prefix || 'balance/', n), :organization, 1 + pg_temp.dice(n, :salt, 9),
       pg_temp.pick(n, :salt + 1, 'Prepaid credit', 'Promotional credit', 'Goodwill, 2025') , pg_temp.number('BAL-', n),
       CASE WHEN n % 3 = 0 THEN 'For the "first" year' WHEN n % 3 = 1 THEN '' END,
       pg_temp.key(:prefix || 'account/', account), pg_temp.dice(n, :salt + 2, 5000000) * 0.01, pg_temp.currency(account),
       pg_temp.month((n % 24)::integer)::timestamptz, pg_temp.month((n % 24 + 12)::integer)::timestamptz,
       CASE WHEN n % 4 = 0 THEN pg_temp.dice(n, :salt + 3, 50000) * 0.01 END,
       CASE WHEN n % 4 = 0 THEN pg_temp.month((n % 24 + 15)::integer)::timestamptz END,
       CASE WHEN n % 2 = 0 THEN 'Drawn from the balance' END, CASE WHEN n % 5 = 0 THEN 2.5000 END,
       CASE WHEN n % 5 = 0 THEN 'Overage' END,
       jsonb_build_array((:product_keys)[1 + n % :products]), '["STANDING_CHARGE", "USAGE", "MINIMUM_SPEND"]',
       CASE WHEN account <= :contracts THEN pg_temp.key(:prefix || 'contract/', account) END,
       CASE WHEN n % 3 = 0 THEN (:product_keys)[1 + n % :products] END,
       CASE WHEN n % 4 = 0 THEN (:product_keys)[1 + n % :products] END,
       n % 6 = 0, '{}', pg_temp.moment(n, :salt + 4), pg_temp.moment(n, :salt + 4) + n % 9000 * interval '1.013 seconds',
       (:user_keys)[1 + n % cardinality(:user_keys)], (:user_keys)[1]
FROM (SELECT n, 1 + (n - 1) % :accounts AS account FROM generate_series(1::bigint, :balances) AS n) AS numbers;

-- name: commitments
INSERT INTO public.commitments
SELECT pg_temp.key(:prefix || 'commitment/', n), :organization, 1 + pg_temp.dice(n, :salt, 5),
       pg_temp.key(:prefix || 'account/', account), (:plan_keys)[1 + (n - 1) % :plans],
       jsonb_build_array((:product_keys)[1 + (n - 1) % :plans % :products]),
       pg_temp.month((n % 24)::integer), pg_temp.month((n % 24 + 12)::integer), pg_temp.currency(account),
       12000.00 + pg_temp.dice(n, :salt + 1, 9000000) * 0.01, pg_temp.dice(n, :salt + 2, 1200000) * 0.01,
       CASE WHEN n % 3 = 0 THEN 1000.00 END, pg_temp.dice(n, :salt + 3, 1200000) * 0.01,
       CASE WHEN n % 2 = 0 THEN 5.0000 END, n % 2 = 0, 1, 0, 'Commitment fee',
       CASE WHEN n % 2 = 0 THEN 'Usage, committed' END, CASE WHEN n % 3 = 0 THEN 'Overage' END, n % 2 = 0,
       pg_temp.month((n % 12)::integer),
       CASE WHEN account <= :contracts THEN pg_temp.key(:prefix || 'contract/', account) END,
       CASE WHEN n % 3 = 0 THEN (:product_keys)[1 + n % :products] END, NULL, NULL,
       CASE WHEN n % 5 = 0 THEN '[{"date": "2025-01-01", "amount": 1000.00, "servicePeriodStartDate": '
                                '"2025-01-01T00:00:00Z", "servicePeriodEndDate": "2025-07-01T00:00:00Z"}]'::jsonb
            ELSE '[]'::jsonb END,
       pg_temp.pick(n, :salt + 4, 'PARENT_SUMMARY', 'PARENT_BREAKDOWN', 'CHILD', NULL), '["USAGE", "MINIMUM_SPEND"]',
       pg_temp.moment(n, :salt + 5), pg_temp.moment(n, :salt + 5) + n % 9000 * interval '1.013 seconds',
       (:user_keys)[1 + n % cardinality(:user_keys)], (:user_keys)[1]
FROM (SELECT n, 1 + (n - 1) % :accounts AS account FROM generate_series(1::bigint, :commitments) AS n) AS numbers;

-- name: bills
-- Bill after bill goes round the accounts, month after month.
INSERT INTO public.bills
SELECT pg_temp.key(:prefix || 'bill/', n), :organization, 1 + pg_temp.dice(n, :salt, 4),
       pg_temp.key(:prefix || 'account/', account), pg_temp.number(:account_code, account),
       starts, ends, starts::timestamptz, ends::timestamptz, ends, ends + 14 + pg_temp.dice(account, 1, 3) * 8,
       pg_temp.pick(account, 2, 'MONTHLY', 'MONTHLY', 'MONTHLY', 'MONTHLY', 'MIXED', 'AD_HOC'), 1,
       pg_temp.pick(account, 3, 'UTC', 'Europe/Paris', 'America/New_York', 'Asia/Tokyo'), pg_temp.currency(account),
       locked, at, CASE WHEN n % 8 > 0 THEN 'APPROVED' ELSE 'PENDING' END,
       CASE WHEN n % 10 = 0 THEN (:user_keys)[1 + month % cardinality(:user_keys)] END,
       CASE WHEN n % 12 = 0 THEN '[{"from": "EUR", "to": "USD", "multiplier": 1.0842}]'::jsonb ELSE '[]'::jsonb END,
       CASE WHEN n % 3 = 0 THEN at + interval '17.25 seconds' END,
       CASE WHEN account % 5 = 0 THEN pg_temp.number('PO-', account) WHEN account % 5 = 1 THEN '' END,
       CASE WHEN n % 3 = 0 THEN pg_temp.number('EXT-2026/', n) END, CASE WHEN n % 3 = 0 THEN ends + 1 END,
       n % 2 = 0, n % 5 = 0, n % 16 = 3, pg_temp.bill_cents(n, :salt + 1) * 0.01, pg_temp.number('INV-', n),
       CASE WHEN n % 4 = 1 THEN at + interval '2 days' END,
       CASE WHEN n % 4 = 1 THEN (:user_keys)[1 + n % cardinality(:user_keys)] END,
       CASE WHEN locked THEN at + interval '3 days' END,
       CASE WHEN locked THEN (:user_keys)[1 + n % cardinality(:user_keys)] END,
       at, at + interval '1 day' * (n % 8), CASE WHEN n % 3 > 0 THEN (:user_keys)[1 + n % 3] END,
       CASE WHEN n % 8 > 3 THEN (:user_keys)[1 + n % cardinality(:user_keys)] END
FROM (
    SELECT n, account, month, pg_temp.month(month) AS starts, pg_temp.month(month + 1) AS ends, n % 6 = 5 AS locked,
           pg_temp.month(month + 1)::timestamptz + pg_temp.dice(n, :salt + 3, 86400000) * interval '1.003 milliseconds' AS at
    FROM (
        SELECT n, 1 + (n - 1) % :accounts AS account, ((n - 1) / :accounts)::integer % 1200 AS month
        FROM generate_series(1::bigint, :bills) AS n
        OFFSET 0
    ) AS numbers
    OFFSET 0
) AS bill;

-- name: charges
INSERT INTO public.charges
SELECT pg_temp.key(:prefix || 'charge/', n), :organization, 1 + pg_temp.dice(n, :salt, 3),
       pg_temp.pick(n, :salt + 1, 'Onboarding', 'Balance fee', 'Support, premium', 'Migration', 'Training'),
       pg_temp.number('CHG-', n), pg_temp.key(:prefix || 'account/', account), on_day,
       units * 12.50, units * 1.0000, 12.500000, pg_temp.currency(account),
       pg_temp.pick(n, :salt + 2, 'One-off charge', E'Agreed on the phone.\nSee ticket "4711".', NULL, ''),
       CASE WHEN of_balance THEN 'BALANCE' ELSE 'AD_HOC' END,
       CASE WHEN of_balance THEN pg_temp.key(:prefix || 'balance/', 1 + (n - 1) % :balances) END,
       CASE WHEN n <= :bills AND n % 4 > 0 THEN pg_temp.key(:prefix || 'bill/', n) END,
       CASE WHEN n % 4 = 0 THEN (:product_keys)[1 + n % :products] END,
       on_day::timestamptz - interval '1 month', on_day::timestamptz,
       CASE WHEN n % 9 = 0 THEN 'Waived next year' END,
       CASE WHEN account <= :contracts AND n % 2 = 0 THEN pg_temp.key(:prefix || 'contract/', account) END,
       CASE WHEN of_balance THEN 'BALANCE_FEE' ELSE 'AD_HOC' END, NULL,
       pg_temp.moment(n, :salt + 3), pg_temp.moment(n, :salt + 3) + n % 9000 * interval '1.013 seconds',
       (:user_keys)[1 + n % cardinality(:user_keys)], (:user_keys)[1]
FROM (
    SELECT n, account, n % 3 = 0 AS of_balance, 1 + pg_temp.dice(n, :salt + 4, 40) AS units,
           pg_temp.month((n - 1)::integer / :accounts::integer % 1200 + 1) AS on_day
    FROM (SELECT n, 1 + (n - 1) % :accounts AS account FROM generate_series(1::bigint, :charges) AS n) AS numbers
    OFFSET 0
) AS charge;

-- name: bill_line_items
-- Of eight bills, the first has 1 line, the last 8; 32 in all. The lines of a bill halve what is left of its amount.
INSERT INTO public.bill_line_items
SELECT pg_temp.key(:prefix || 'bill_line_item/', n), :organization, 1, kind, (:product_keys)[product],
       CASE kind WHEN 'USAGE' THEN (:product_names)[product] || ' usage' WHEN 'AD_HOC' THEN 'Ad hoc, see "notes"' ELSE kind END,
       starts, ends,
       CASE WHEN kind = 'DEBIT_MEMO' THEN bill_id END,
       CASE WHEN kind = 'DEBIT_MEMO' AND position > 1 THEN pg_temp.key(:prefix || 'bill_line_item/', n - 1) END,
       (:product_names)[product], pg_temp.number('PROD-', product),
       CASE WHEN n % 3 = 0 THEN (:product_keys)[product] END, CASE WHEN n % 3 = 0 THEN (:product_names)[product] END,
       CASE WHEN n % 3 = 0 THEN pg_temp.number('PROD-', product) END,
       CASE WHEN kind = 'USAGE' THEN (:aggregation_keys)[1 + (price - 1) % :aggregations] END,
       CASE WHEN kind = 'OVERAGE_USAGE' THEN (:compound_aggregation_keys)[1 + (price - 1) % :compound_aggregations] END,
       CASE WHEN kind = 'COUNTER_RUNNING_TOTAL_CHARGE' THEN (:user_keys)[1 + n % cardinality(:user_keys)] END,
       CASE WHEN kind = 'AD_HOC' THEN pg_temp.key(:prefix || 'charge/', 1 + (n - 1) % :charges) END,
       CASE WHEN kind = 'USAGE' AND n % 5 = 0 THEN '{"region": "eu"}'::jsonb END,
       CASE WHEN kind = 'USAGE' AND n % 10 = 0 THEN '{"team": "a, b"}'::jsonb END,
       CASE WHEN kind = 'USAGE' THEN (:meter_keys)[1 + (price - 1) % :aggregations % :meters] END,
       CASE WHEN kind IN ('USAGE', 'STANDING_CHARGE', 'MINIMUM_SPEND') THEN (:plan_keys)[1 + (price - 1) % :plans] END,
       CASE WHEN kind = 'MINIMUM_SPEND' AND n % 2 = 0 THEN (:plan_group_keys)[1 + (price - 1) % :plan_groups] END,
       CASE WHEN kind = 'COMMITMENT_CONSUMED'
            THEN pg_temp.key(:prefix || 'commitment/', 1 + (account - 1) % :commitments) END,
       CASE WHEN kind = 'BALANCE_CONSUMED' THEN pg_temp.key(:prefix || 'balance/', 1 + (account - 1) % :balances) END,
       bill_id, units * 1.0000, units * 1.0000, CASE WHEN kind = 'USAGE' THEN 'call' END,
       cents * 0.01, pg_temp.currency(account), 1.00000000, cents * 0.01, NULL,
       CASE WHEN kind = 'USAGE' THEN (:pricing_keys)[price] END,
       CASE WHEN kind = 'USAGE' AND n % 2 = 0
            THEN '[{"lowerLimit": 0, "fixedPrice": 0, "unitPrice": 0.02, "bandUnits": 100}]'::jsonb ELSE '[]'::jsonb END,
       CASE WHEN kind IN ('DEBIT_MEMO', 'MANUAL_ADJUSTMENT') THEN (:user_keys)[1 + n % cardinality(:user_keys)] END,
       CASE WHEN account <= :contracts AND n % 2 = 0 THEN pg_temp.key(:prefix || 'contract/', account) END,
       n % 7 = 0, CASE WHEN kind = 'USAGE' THEN cents * 0.000125 END, position,
       CASE WHEN n % 20 = 0 THEN '{"source": "import"}'::jsonb END,
       at, at, (:user_keys)[1], (:user_keys)[1]
FROM (
    SELECT n, bill, position, account, price, 1 + (price - 1) % :plans % :products AS product,
           (ARRAY['USAGE', 'USAGE', 'USAGE', 'STANDING_CHARGE', 'USAGE', 'USAGE', 'USAGE', 'STANDING_CHARGE',
                  'USAGE', 'USAGE', 'USAGE', 'STANDING_CHARGE', 'USAGE', 'USAGE', 'USAGE', 'MINIMUM_SPEND',
                  'USAGE', 'USAGE', 'USAGE', 'MINIMUM_SPEND', 'COMMITMENT_CONSUMED', 'COMMITMENT_CONSUMED',
                  'BALANCE_CONSUMED', 'BALANCE_CONSUMED', 'AD_HOC', 'AD_HOC', 'DEBIT_MEMO', 'MANUAL_ADJUSTMENT',
                  'OVERAGE_USAGE', 'OVERAGE_SURCHARGE', 'COUNTER_RUNNING_TOTAL_CHARGE', 'BALANCE_FEE'])
               [1 + pg_temp.dice(n, :salt + 1, 32)] AS kind,
           CASE WHEN last THEN total >> least(position - 1, 60)
                ELSE (total >> least(position - 1, 60)) - (total >> least(position, 60)) END AS cents,
           1 + pg_temp.dice(n, :salt + 2, 90000) AS units, pg_temp.key(:prefix || 'bill/', bill) AS bill_id,
           month::timestamptz AS starts, (month + 28)::timestamptz AS ends,
           (month + 31)::timestamptz + pg_temp.dice(bill, :salt + 3, 86400000) * interval '1 millisecond' AS at
    FROM (
        SELECT n, bill, position, 1 + (bill - 1) % :accounts AS account,
               1 + pg_temp.dice(n, :salt + 4, :pricing::integer) AS price,
               pg_temp.bill_cents(bill, :bill_salt + 1)::bigint AS total,
               n = :bill_line_items
                   OR bill < :bills AND position = (ARRAY[1, 2, 2, 3, 4, 5, 7, 8])[1 + (bill - 1) % 8] AS last,
               pg_temp.month((bill - 1)::integer / :accounts::integer % 1200) AS month
        FROM (
            -- The last bill takes what is left.
            SELECT n, least(bill, :bills) AS bill,
                   CASE WHEN bill < :bills THEN position
                        ELSE (n - (:bills - 1) / 8 * 32
                              - (ARRAY[0, 1, 3, 5, 8, 12, 17, 24])[1 + (:bills - 1) % 8])::integer END AS position
            FROM (
                SELECT n,
                       (n - 1) / 32 * 8 + (ARRAY[1, 2, 2, 3, 3, 4, 4, 4, 5, 5, 5, 5, 6, 6, 6, 6, 6,
                           7, 7, 7, 7, 7, 7, 7, 8, 8, 8, 8, 8, 8, 8, 8])[1 + (n - 1) % 32] AS bill,
                       (ARRAY[1, 1, 2, 1, 2, 1, 2, 3, 1, 2, 3, 4, 1, 2, 3, 4, 5,
                           1, 2, 3, 4, 5, 6, 7, 1, 2, 3, 4, 5, 6, 7, 8])[1 + (n - 1) % 32] AS position
                FROM generate_series(1::bigint, :bill_line_items) AS n
                OFFSET 0
            ) AS pattern
            OFFSET 0
        ) AS numbers
        OFFSET 0
    ) AS lines
    OFFSET 0
) AS line;

-- name: balance_transactions
INSERT INTO public.balance_transactions
SELECT pg_temp.key(:prefix || 'balance_transaction/', n), :organization, 1,
       pg_temp.key(:prefix || 'balance/', 1 + (n - 1) % :balances),
       pg_temp.pick(n, :salt + 1, 'Top-up', 'Drawn by a bill', 'Correction, manual', NULL),
       pg_temp.dice(n, :salt + 2, 100000) * 0.01 * (CASE WHEN n % 3 = 0 THEN 1 ELSE -1 END),
       CASE WHEN n % 3 = 0 THEN pg_temp.dice(n, :salt + 2, 100000) * 0.01 END,
       CASE WHEN n % 3 = 0 THEN pg_temp.currency(1 + (n - 1) % :balances) END,
       CASE WHEN n % 3 = 0 THEN 'USER' ELSE 'BILL' END,
       CASE WHEN n % 3 = 0 THEN (:user_keys)[1 + n % cardinality(:user_keys)]
            ELSE pg_temp.key(:prefix || 'bill/', 1 + (n - 1) % :bills) END,
       CASE WHEN n % 2 = 0 THEN (:transaction_type_keys)[1 + n % :transaction_types] END,
       pg_temp.moment(n, :salt + 3), pg_temp.moment(n, :salt + 3) - interval '1 hour',
       pg_temp.moment(n, :salt + 3), pg_temp.moment(n, :salt + 3),
       (:user_keys)[1 + n % cardinality(:user_keys)], (:user_keys)[1]
FROM generate_series(1::bigint, :balance_transactions) AS n;
