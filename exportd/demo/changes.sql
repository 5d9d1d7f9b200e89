-- What the changer writes, where it is more than a column. Parameters by name: :id, a new key, from which the keys of what
-- belongs to it are made; :organization; :near, a key from which on an existing record is looked for; :at, the time
-- of the change; :text, a name or remark; :number, how many.

-- name: open_account
-- A customer with a contract, a plan, a commitment and a balance that has been topped up.
WITH account AS (
    INSERT INTO public.accounts
        (id, organization_id, name, code, currency, email_address, bill_epoch, dt_created, dt_last_modified)
    VALUES (:id, :organization, :text, 'NEW-' || :id::text, 'EUR', 'new@customer.example',
            (:at AT TIME ZONE 'UTC')::date, :at, :at)
    RETURNING *
), contract AS (
    INSERT INTO public.contracts
        (id, organization_id, name, code, account_id, start_date, end_date, dt_created, dt_last_modified)
    SELECT md5(id || 'contract')::uuid, organization_id, 'Contract of ' || name, code, id, bill_epoch, bill_epoch + 365,
           :at, :at
    FROM account
    RETURNING *
), plan AS (
    SELECT id, product_id FROM public.plans
    WHERE organization_id = :organization AND id >= :near ORDER BY id LIMIT 1
), account_plan AS (
    INSERT INTO public.account_plans
        (id, organization_id, code, account_id, contract_id, plan_id, product_id, start_date, dt_created, dt_last_modified)
    SELECT md5(c.id || 'plan')::uuid, c.organization_id, c.code, c.account_id, c.id, plan.id, plan.product_id, :at, :at, :at
    FROM contract AS c LEFT JOIN plan ON true
), commitment AS (
    INSERT INTO public.commitments
        (id, organization_id, account_id, contract_id, start_date, end_date, currency, amount, dt_created, dt_last_modified)
    SELECT md5(id || 'commitment')::uuid, organization_id, account_id, id, start_date, end_date, 'EUR', 12000, :at, :at
    FROM contract
), balance AS (
    INSERT INTO public.balances
        (id, organization_id, name, account_id, contract_id, amount, currency, start_date, end_date, dt_created, dt_last_modified)
    SELECT md5(id || 'balance')::uuid, organization_id, 'Welcome credit', account_id, id, 100, 'EUR',
           :at, :at + interval '1 year', :at, :at
    FROM contract
    RETURNING *
)
INSERT INTO public.balance_transactions
    (id, organization_id, balance_id, description, amount, entity_type, transaction_date, dt_created, dt_last_modified)
SELECT md5(id::text || n)::uuid, organization_id, id, :text, 50, 'USER', :at, :at, :at
FROM balance CROSS JOIN generate_series(1, 2) AS n;

-- name: write_bill
-- A bill for an existing account, with :number line items and a charge.
WITH account AS (
    SELECT * FROM public.accounts WHERE organization_id = :organization AND id >= :near ORDER BY id LIMIT 1
), bill AS (
    INSERT INTO public.bills
        (id, organization_id, account_id, account_code, start_date, end_date, start_date_time_utc, end_date_time_utc,
         bill_date, billing_frequency, currency, created_date, status, bill_total, purchase_order_number, dt_created,
         dt_last_modified)
    SELECT :id, organization_id, id, code, day - 30, day, :at - interval '30 days', :at, day, 'MONTHLY',
           coalesce(currency, 'EUR'), :at, 'PENDING', :number * 12.50, :text, :at, :at
    FROM account CROSS JOIN CAST(:at AT TIME ZONE 'UTC' AS date) AS day
    RETURNING *
), charge AS (
    INSERT INTO public.charges
        (id, organization_id, name, account_id, amount, currency, entity_type, bill_id, line_item_type, notes, dt_created,
         dt_last_modified)
    SELECT md5(id || 'charge')::uuid, organization_id, 'Setup', account_id, 99.90, currency, 'AD_HOC', id, 'AD_HOC', :text,
           :at, :at
    FROM bill
)
INSERT INTO public.bill_line_items
    (id, organization_id, line_item_type, description, bill_id, quantity, units, subtotal, currency, converted_subtotal,
     sequence_number, dt_created, dt_last_modified)
SELECT md5(id::text || n)::uuid, organization_id, 'AD_HOC', :text, id, n, n, 12.50, currency, 12.50, n, :at, :at
FROM bill CROSS JOIN generate_series(1, :number) AS n;

-- name: launch_product
-- A product with everything that prices it.
WITH product AS (
    INSERT INTO public.products (id, organization_id, name, code, dt_created, dt_last_modified)
    VALUES (:id, :organization, :text, 'NEW-' || :id::text, :at, :at)
    RETURNING *
), transaction_type AS (
    INSERT INTO public.transaction_types (id, organization_id, name, code, dt_created, dt_last_modified)
    SELECT md5(id || 'type')::uuid, organization_id, name, code, :at, :at FROM product
), meter AS (
    INSERT INTO public.meters (id, organization_id, name, code, product_id, dt_created, dt_last_modified)
    SELECT md5(id || 'meter')::uuid, organization_id, name, code, id, :at, :at FROM product
    RETURNING *
), aggregation AS (
    INSERT INTO public.aggregations (id, organization_id, name, code, meter_id, aggregation, dt_created, dt_last_modified)
    SELECT md5(id || 'aggregation')::uuid, organization_id, name, code, id, 'SUM', :at, :at FROM meter
    RETURNING *
), compound AS (
    INSERT INTO public.compound_aggregations
        (id, organization_id, name, code, calculation, product_id, dt_created, dt_last_modified)
    SELECT md5(id || 'compound')::uuid, organization_id, name, code, 'aggregation.a * 2', id, :at, :at FROM product
), template AS (
    INSERT INTO public.plan_templates
        (id, organization_id, name, code, product_id, currency, bill_frequency, dt_created, dt_last_modified)
    SELECT md5(id || 'template')::uuid, organization_id, name, code, id, 'EUR', 'MONTHLY', :at, :at FROM product
    RETURNING *
), plan AS (
    INSERT INTO public.plans
        (id, organization_id, name, code, plan_template_id, product_id, dt_created, dt_last_modified)
    SELECT md5(id || 'plan')::uuid, organization_id, name, code, id, product_id, :at, :at FROM template
    RETURNING *
), bundle AS (
    INSERT INTO public.plan_groups (id, organization_id, name, code, currency, dt_created, dt_last_modified)
    SELECT md5(id || 'group')::uuid, organization_id, name, code, 'EUR', :at, :at FROM plan
    RETURNING *
), link AS (
    INSERT INTO public.plan_group_links (id, organization_id, plan_group_id, plan_id, dt_created, dt_last_modified)
    SELECT md5(plan.id || 'link')::uuid, plan.organization_id, bundle.id, plan.id, :at, :at FROM plan CROSS JOIN bundle
), price AS (
    INSERT INTO public.pricing
        (id, organization_id, code, plan_id, start_date, aggregation_id, type, aggregation_type, dt_created, dt_last_modified)
    SELECT md5(plan.id || 'pricing')::uuid, plan.organization_id, plan.code, plan.id, :at, aggregation.id, 'DEBIT', 'SIMPLE',
           :at, :at
    FROM plan CROSS JOIN aggregation
    RETURNING *
)
INSERT INTO public.pricing_bands (id, organization_id, lower_limit, fixed_price, unit_price, type, pricing_id)
SELECT md5(id::text || n)::uuid, organization_id, (n - 1) * 1000, 0, 0.05 / n, 'STANDARD', id
FROM price CROSS JOIN generate_series(1, :number) AS n;

-- name: import_accounts
-- As many known customers as new ones, from a list of another system.
INSERT INTO public.accounts (id, organization_id, code, name, dt_created, dt_last_modified)
SELECT md5(:id::text || code)::uuid, :organization, code, :text, :at, :at
FROM (
    (SELECT code FROM public.accounts WHERE organization_id = :organization AND id >= :near ORDER BY id LIMIT :number)
    UNION ALL
    SELECT 'LIST-' || left(:id::text, 13) || n FROM generate_series(1, :number) AS n
) AS list
ON CONFLICT (organization_id, code) DO UPDATE
SET name = excluded.name, version = accounts.version + 1, dt_last_modified = excluded.dt_last_modified;

-- name: import_transaction_types
INSERT INTO public.transaction_types (id, organization_id, code, name, dt_created, dt_last_modified)
SELECT md5(:id::text || n)::uuid, :organization, 'TT-' || (1000000 + n), :text, :at, :at
FROM generate_series(1, :number) AS n
ON CONFLICT (organization_id, code) DO UPDATE
SET name = excluded.name, version = transaction_types.version + 1, dt_last_modified = excluded.dt_last_modified;

-- name: reprice
-- Bands by their key: those that exist are updated, a new one is inserted.
INSERT INTO public.pricing_bands (id, organization_id, lower_limit, fixed_price, unit_price, type, pricing_id)
SELECT id, organization_id, lower_limit, fixed_price, unit_price, type, pricing_id
FROM (
    (SELECT * FROM public.pricing_bands WHERE organization_id = :organization AND id >= :near ORDER BY id LIMIT :number)
    UNION ALL
    (SELECT :id, organization_id, 1, 5000, 0, 0.01, NULL, 'OVERAGE', id
     FROM public.pricing WHERE organization_id = :organization AND id >= :near ORDER BY id LIMIT 1)
) AS list
ON CONFLICT (id) DO UPDATE SET unit_price = excluded.unit_price * 1.1, version = pricing_bands.version + 1;

-- name: withdraw_product
-- A product that was launched before goes with everything that priced it. One statement, so that references among what
-- goes are no obstacle.
WITH product AS (
    SELECT id, organization_id, code FROM public.products
    WHERE organization_id = :organization AND code LIKE 'NEW-%' AND id >= :near ORDER BY id LIMIT 1
), plan AS (
    SELECT p.id FROM public.plans AS p JOIN product ON product_id = product.id
), account_plan AS (
    DELETE FROM public.account_plans AS a USING plan WHERE a.plan_id = plan.id
), price AS (
    DELETE FROM public.pricing AS p USING plan WHERE p.plan_id = plan.id
), gone_plan AS (
    DELETE FROM public.plans AS p USING plan WHERE p.id = plan.id
), template AS (
    DELETE FROM public.plan_templates AS t USING product WHERE t.product_id = product.id
), meter AS (
    DELETE FROM public.meters AS m USING product WHERE m.product_id = product.id
), compound AS (
    DELETE FROM public.compound_aggregations AS c USING product WHERE c.product_id = product.id
), transaction_type AS (
    DELETE FROM public.transaction_types AS t USING product
    WHERE t.organization_id = product.organization_id AND t.code = product.code
)
DELETE FROM public.products AS p USING product WHERE p.id = product.id;
