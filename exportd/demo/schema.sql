-- The demo's tables: a billing system with the 20 entities of config/entities.toml, for several organizations.
--
-- Keys are uuids, amounts are numeric, times are timestamptz. What belongs to one thing goes with it (ON DELETE CASCADE);
-- what is only mentioned elsewhere is forgotten there (SET NULL); what a bill was computed from cannot be deleted while
-- it is in use. A bill's and a plan group's key may change (ON UPDATE CASCADE). Accounts and line items refer to their
-- own kind. Foreign keys that a delete has to follow are indexed.

CREATE TABLE products (
    id               uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id  text NOT NULL,
    version          integer NOT NULL DEFAULT 1,
    name             text NOT NULL,
    code             text NOT NULL,
    custom_fields    jsonb NOT NULL DEFAULT '{}',
    dt_created       timestamptz NOT NULL DEFAULT now(),
    dt_last_modified timestamptz NOT NULL DEFAULT now(),
    created_by       uuid,
    last_modified_by uuid,
    UNIQUE (organization_id, code)
);

CREATE TABLE transaction_types (
    id               uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id  text NOT NULL,
    version          integer NOT NULL DEFAULT 1,
    name             text NOT NULL,
    code             text NOT NULL,
    archived         boolean NOT NULL DEFAULT false,
    dt_created       timestamptz NOT NULL DEFAULT now(),
    dt_last_modified timestamptz NOT NULL DEFAULT now(),
    created_by       uuid,
    last_modified_by uuid,
    UNIQUE (organization_id, code)
);

CREATE TABLE accounts (
    id                           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id              text NOT NULL,
    version                      integer NOT NULL DEFAULT 1,
    name                         text NOT NULL,
    code                         text NOT NULL,
    address                      jsonb,
    auto_generate_statement_mode text CHECK (auto_generate_statement_mode IN ('NONE', 'JSON', 'JSON_AND_CSV')),
    bill_epoch                   date,
    -- the list as JSON text: consumers see a plain string
    credit_application_order     text,
    currency                     text,
    email_address                text,
    parent_account_id            uuid REFERENCES accounts ON DELETE SET NULL,
    purchase_order_number        text,
    statement_definition_id      uuid,
    custom_fields                jsonb NOT NULL DEFAULT '{}',
    dt_created                   timestamptz NOT NULL DEFAULT now(),
    dt_last_modified             timestamptz NOT NULL DEFAULT now(),
    created_by                   uuid,
    last_modified_by             uuid,
    UNIQUE (organization_id, code)
);
CREATE INDEX ON accounts (parent_account_id) WHERE parent_account_id IS NOT NULL;

CREATE TABLE meters (
    id               uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id  text NOT NULL,
    version          integer NOT NULL DEFAULT 1,
    name             text NOT NULL,
    code             text NOT NULL,
    product_id       uuid REFERENCES products,
    group_id         uuid,
    data_fields      jsonb NOT NULL DEFAULT '[]',
    derived_fields   jsonb NOT NULL DEFAULT '[]',
    custom_fields    jsonb NOT NULL DEFAULT '{}',
    dt_created       timestamptz NOT NULL DEFAULT now(),
    dt_last_modified timestamptz NOT NULL DEFAULT now(),
    created_by       uuid,
    last_modified_by uuid
);

CREATE TABLE aggregations (
    id                uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id   text NOT NULL,
    version           integer NOT NULL DEFAULT 1,
    name              text NOT NULL,
    code              text NOT NULL,
    rounding          text CHECK (rounding IN ('UP', 'DOWN', 'NEAREST', 'NONE')),
    quantity_per_unit integer NOT NULL DEFAULT 1,
    unit              text,
    segments          jsonb,
    meter_id          uuid NOT NULL REFERENCES meters ON DELETE CASCADE,
    target_field      text,
    aggregation       text NOT NULL
        CHECK (aggregation IN ('SUM', 'MIN', 'MAX', 'COUNT', 'LATEST', 'MEAN', 'UNIQUE', 'CUSTOM_SQL')),
    segmented_fields  jsonb,
    default_value     integer,
    dt_created        timestamptz NOT NULL DEFAULT now(),
    dt_last_modified  timestamptz NOT NULL DEFAULT now(),
    created_by        uuid,
    last_modified_by  uuid
);
CREATE INDEX ON aggregations (meter_id);

CREATE TABLE compound_aggregations (
    id                         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id            text NOT NULL,
    version                    integer NOT NULL DEFAULT 1,
    name                       text NOT NULL,
    code                       text NOT NULL,
    rounding                   text CHECK (rounding IN ('UP', 'DOWN', 'NEAREST', 'NONE')),
    quantity_per_unit          numeric(18, 6) NOT NULL DEFAULT 1,
    unit                       text,
    segments                   jsonb,
    accounting_product_id      uuid REFERENCES products ON DELETE SET NULL,
    calculation                text NOT NULL,
    product_id                 uuid REFERENCES products,
    evaluate_null_aggregations boolean NOT NULL DEFAULT false,
    custom_fields              jsonb NOT NULL DEFAULT '{}',
    dt_created                 timestamptz NOT NULL DEFAULT now(),
    dt_last_modified           timestamptz NOT NULL DEFAULT now(),
    created_by                 uuid,
    last_modified_by           uuid
);

CREATE TABLE plan_templates (
    id                              uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id                 text NOT NULL,
    version                         integer NOT NULL DEFAULT 1,
    name                            text NOT NULL,
    code                            text NOT NULL,
    product_id                      uuid NOT NULL REFERENCES products,
    currency                        text NOT NULL,
    standing_charge                 numeric(18, 2) NOT NULL DEFAULT 0,
    standing_charge_description     text,
    standing_charge_interval        integer,
    standing_charge_offset          integer,
    bill_frequency_interval         integer,
    bill_frequency                  text NOT NULL
        CHECK (bill_frequency IN ('DAILY', 'WEEKLY', 'MONTHLY', 'ANNUALLY', 'AD_HOC', 'MIXED')),
    ordinal                         integer,
    minimum_spend                   numeric(18, 2),
    minimum_spend_description       text,
    standing_charge_bill_in_advance boolean,
    minimum_spend_bill_in_advance   boolean,
    custom_fields                   jsonb NOT NULL DEFAULT '{}',
    dt_created                      timestamptz NOT NULL DEFAULT now(),
    dt_last_modified                timestamptz NOT NULL DEFAULT now(),
    created_by                      uuid,
    last_modified_by                uuid
);

CREATE TABLE plans (
    id                                    uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id                       text NOT NULL,
    version                               integer NOT NULL DEFAULT 1,
    name                                  text NOT NULL,
    code                                  text NOT NULL,
    plan_template_id                      uuid NOT NULL REFERENCES plan_templates,
    product_id                            uuid NOT NULL REFERENCES products,
    standing_charge                       numeric(18, 2) NOT NULL DEFAULT 0,
    standing_charge_description           text,
    ordinal                               integer,
    bespoke                               boolean NOT NULL DEFAULT false,
    minimum_spend                         numeric(18, 2),
    minimum_spend_description             text,
    standing_charge_bill_in_advance       boolean,
    minimum_spend_bill_in_advance         boolean,
    minimum_spend_accounting_product_id   uuid REFERENCES products ON DELETE SET NULL,
    standing_charge_accounting_product_id uuid REFERENCES products ON DELETE SET NULL,
    account_id                            uuid REFERENCES accounts ON DELETE SET NULL,
    custom_fields                         jsonb NOT NULL DEFAULT '{}',
    dt_created                            timestamptz NOT NULL DEFAULT now(),
    dt_last_modified                      timestamptz NOT NULL DEFAULT now(),
    created_by                            uuid,
    last_modified_by                      uuid
);
CREATE INDEX ON plans (account_id) WHERE account_id IS NOT NULL;

CREATE TABLE plan_groups (
    id                                    uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id                       text NOT NULL,
    version                               integer NOT NULL DEFAULT 1,
    name                                  text NOT NULL,
    code                                  text NOT NULL,
    standing_charge                       numeric(18, 2) NOT NULL DEFAULT 0,
    standing_charge_description           text,
    minimum_spend                         numeric(18, 2),
    minimum_spend_description             text,
    currency                              text NOT NULL,
    standing_charge_bill_in_advance       boolean,
    minimum_spend_bill_in_advance         boolean,
    account_id                            uuid REFERENCES accounts ON DELETE SET NULL,
    minimum_spend_accounting_product_id   uuid REFERENCES products ON DELETE SET NULL,
    standing_charge_accounting_product_id uuid REFERENCES products ON DELETE SET NULL,
    custom_fields                         jsonb NOT NULL DEFAULT '{}',
    dt_created                            timestamptz NOT NULL DEFAULT now(),
    dt_last_modified                      timestamptz NOT NULL DEFAULT now(),
    created_by                            uuid,
    last_modified_by                      uuid
);
CREATE INDEX ON plan_groups (account_id) WHERE account_id IS NOT NULL;

CREATE TABLE plan_group_links (
    id               uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id  text NOT NULL,
    version          integer NOT NULL DEFAULT 1,
    plan_group_id    uuid NOT NULL REFERENCES plan_groups ON DELETE CASCADE ON UPDATE CASCADE,
    plan_id          uuid NOT NULL REFERENCES plans ON DELETE CASCADE,
    dt_created       timestamptz NOT NULL DEFAULT now(),
    dt_last_modified timestamptz NOT NULL DEFAULT now(),
    created_by       uuid,
    last_modified_by uuid
);
CREATE INDEX ON plan_group_links (plan_group_id);
CREATE INDEX ON plan_group_links (plan_id);

CREATE TABLE pricing (
    id                            uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id               text NOT NULL,
    version                       integer NOT NULL DEFAULT 1,
    code                          text NOT NULL,
    plan_id                       uuid REFERENCES plans ON DELETE CASCADE,
    plan_template_id              uuid REFERENCES plan_templates ON DELETE CASCADE,
    cumulative                    boolean NOT NULL DEFAULT false,
    start_date                    timestamptz NOT NULL,
    end_date                      timestamptz,
    description                   text,
    accounting_product_id         uuid REFERENCES products ON DELETE SET NULL,
    aggregation_id                uuid REFERENCES aggregations,
    compound_aggregation_id       uuid REFERENCES compound_aggregations,
    type                          text NOT NULL CHECK (type IN ('DEBIT', 'PRODUCT_CREDIT', 'GLOBAL_CREDIT')),
    segment                       jsonb,
    tiers_span_plan               boolean NOT NULL DEFAULT false,
    minimum_spend                 numeric(18, 2),
    minimum_spend_description     text,
    minimum_spend_bill_in_advance boolean,
    aggregation_type              text NOT NULL CHECK (aggregation_type IN ('SIMPLE', 'COMPOUND')),
    segment_string                text,
    dt_created                    timestamptz NOT NULL DEFAULT now(),
    dt_last_modified              timestamptz NOT NULL DEFAULT now(),
    created_by                    uuid,
    last_modified_by              uuid,
    CHECK (num_nonnulls(plan_id, plan_template_id) = 1)
);
CREATE INDEX ON pricing (plan_id) WHERE plan_id IS NOT NULL;
CREATE INDEX ON pricing (plan_template_id) WHERE plan_template_id IS NOT NULL;

CREATE TABLE pricing_bands (
    id              uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id text NOT NULL,
    version         integer NOT NULL DEFAULT 1,
    lower_limit     numeric(18, 4) NOT NULL,
    fixed_price     numeric(18, 2) NOT NULL,
    unit_price      numeric(18, 6) NOT NULL,
    credit_type_id  uuid,
    type            text NOT NULL CHECK (type IN ('STANDARD', 'OVERAGE')),
    pricing_id      uuid NOT NULL REFERENCES pricing ON DELETE CASCADE
);
CREATE INDEX ON pricing_bands (pricing_id);

CREATE TABLE contracts (
    id                           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id              text NOT NULL,
    version                      integer NOT NULL DEFAULT 1,
    name                         text NOT NULL,
    code                         text NOT NULL,
    account_id                   uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
    description                  text,
    purchase_order_number        text,
    apply_contract_period_limits boolean NOT NULL DEFAULT false,
    usage_filters                jsonb NOT NULL DEFAULT '[]',
    bill_grouping_key_id         uuid,
    start_date                   date NOT NULL,
    end_date                     date NOT NULL,
    custom_fields                jsonb NOT NULL DEFAULT '{}',
    dt_created                   timestamptz NOT NULL DEFAULT now(),
    dt_last_modified             timestamptz NOT NULL DEFAULT now(),
    created_by                   uuid,
    last_modified_by             uuid
);
CREATE INDEX ON contracts (account_id);

CREATE TABLE account_plans (
    id                 uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id    text NOT NULL,
    version            integer NOT NULL DEFAULT 1,
    code               text,
    account_id         uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
    bill_epoch         date,
    child_billing_mode text CHECK (child_billing_mode IN ('PARENT_SUMMARY', 'PARENT_BREAKDOWN', 'CHILD')),
    contract_id        uuid REFERENCES contracts ON DELETE SET NULL,
    modified_by        uuid,
    plan_id            uuid REFERENCES plans,
    plan_group_id      uuid REFERENCES plan_groups ON DELETE SET NULL ON UPDATE CASCADE,
    product_id         uuid REFERENCES products,
    start_date         timestamptz NOT NULL,
    end_date           timestamptz,
    custom_fields      jsonb NOT NULL DEFAULT '{}',
    dt_created         timestamptz NOT NULL DEFAULT now(),
    dt_last_modified   timestamptz NOT NULL DEFAULT now(),
    created_by         uuid,
    last_modified_by   uuid
);
CREATE INDEX ON account_plans (account_id);
CREATE INDEX ON account_plans (contract_id) WHERE contract_id IS NOT NULL;
CREATE INDEX ON account_plans (plan_group_id) WHERE plan_group_id IS NOT NULL;

CREATE TABLE balances (
    id                                 uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id                    text NOT NULL,
    version                            integer NOT NULL DEFAULT 1,
    name                               text NOT NULL,
    code                               text,
    description                        text,
    account_id                         uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
    amount                             numeric(18, 2) NOT NULL,
    currency                           text NOT NULL,
    start_date                         timestamptz NOT NULL,
    end_date                           timestamptz NOT NULL,
    rollover_amount                    numeric(18, 2),
    rollover_end_date                  timestamptz,
    balance_draw_down_description      text,
    overage_surcharge_percent          numeric(9, 4),
    overage_description                text,
    product_ids                        jsonb NOT NULL DEFAULT '[]',
    line_item_types                    jsonb NOT NULL DEFAULT '[]',
    contract_id                        uuid REFERENCES contracts ON DELETE SET NULL,
    consumptions_accounting_product_id uuid REFERENCES products ON DELETE SET NULL,
    fees_accounting_product_id         uuid REFERENCES products ON DELETE SET NULL,
    allow_overdraft                    boolean NOT NULL DEFAULT false,
    custom_fields                      jsonb NOT NULL DEFAULT '{}',
    dt_created                         timestamptz NOT NULL DEFAULT now(),
    dt_last_modified                   timestamptz NOT NULL DEFAULT now(),
    created_by                         uuid,
    last_modified_by                   uuid
);
CREATE INDEX ON balances (account_id);
CREATE INDEX ON balances (contract_id) WHERE contract_id IS NOT NULL;

CREATE TABLE commitments (
    id                               uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id                  text NOT NULL,
    version                          integer NOT NULL DEFAULT 1,
    account_id                       uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
    billing_plan_id                  uuid REFERENCES plans,
    product_ids                      jsonb NOT NULL DEFAULT '[]',
    start_date                       date NOT NULL,
    end_date                         date NOT NULL,
    currency                         text NOT NULL,
    amount                           numeric(18, 2) NOT NULL,
    amount_pre_paid                  numeric(18, 2) NOT NULL DEFAULT 0,
    amount_first_bill                numeric(18, 2),
    amount_spent                     numeric(18, 2) NOT NULL DEFAULT 0,
    overage_surcharge_percent        numeric(9, 4),
    separate_overage_usage           boolean,
    billing_interval                 integer,
    billing_offset                   integer,
    commitment_fee_description       text,
    commitment_usage_description     text,
    overage_description              text,
    commitment_fee_bill_in_advance   boolean,
    bill_epoch                       date,
    contract_id                      uuid REFERENCES contracts ON DELETE SET NULL,
    accounting_product_id            uuid REFERENCES products ON DELETE SET NULL,
    fees_accounting_product_id       uuid REFERENCES products ON DELETE SET NULL,
    drawdowns_accounting_product_id  uuid REFERENCES products ON DELETE SET NULL,
    fee_dates                        jsonb NOT NULL DEFAULT '[]',
    child_billing_mode               text CHECK (child_billing_mode IN ('PARENT_SUMMARY', 'PARENT_BREAKDOWN', 'CHILD')),
    line_item_types                  jsonb NOT NULL DEFAULT '[]',
    dt_created                       timestamptz NOT NULL DEFAULT now(),
    dt_last_modified                 timestamptz NOT NULL DEFAULT now(),
    created_by                       uuid,
    last_modified_by                 uuid
);
CREATE INDEX ON commitments (account_id);
CREATE INDEX ON commitments (contract_id) WHERE contract_id IS NOT NULL;

CREATE TABLE bills (
    id                         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id            text NOT NULL,
    version                    integer NOT NULL DEFAULT 1,
    account_id                 uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
    account_code               text NOT NULL,
    start_date                 date NOT NULL,
    end_date                   date NOT NULL,
    start_date_time_utc        timestamptz NOT NULL,
    end_date_time_utc          timestamptz NOT NULL,
    bill_date                  date NOT NULL,
    due_date                   date,
    billing_frequency          text NOT NULL
        CHECK (billing_frequency IN ('DAILY', 'WEEKLY', 'MONTHLY', 'ANNUALLY', 'AD_HOC', 'MIXED')),
    bill_frequency_interval    integer,
    timezone                   text NOT NULL DEFAULT 'UTC',
    currency                   text NOT NULL,
    locked                     boolean NOT NULL DEFAULT false,
    created_date               timestamptz NOT NULL DEFAULT now(),
    status                     text NOT NULL CHECK (status IN ('PENDING', 'APPROVED')),
    bill_job_id                uuid,
    currency_conversions       jsonb NOT NULL DEFAULT '[]',
    last_calculated_date       timestamptz,
    purchase_order_number      text,
    external_invoice_reference text,
    external_invoice_date      date,
    json_statement_generated   boolean NOT NULL DEFAULT false,
    csv_statement_generated    boolean NOT NULL DEFAULT false,
    statement_stale            boolean NOT NULL DEFAULT false,
    bill_total                 numeric(18, 2) NOT NULL,
    sequential_invoice_number  text,
    dt_approved                timestamptz,
    approved_by                uuid,
    dt_locked                  timestamptz,
    locked_by                  uuid,
    dt_created                 timestamptz NOT NULL DEFAULT now(),
    dt_last_modified           timestamptz NOT NULL DEFAULT now(),
    created_by                 uuid,
    last_modified_by           uuid
);
CREATE INDEX ON bills (account_id);

CREATE TABLE charges (
    id                        uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id           text NOT NULL,
    version                   integer NOT NULL DEFAULT 1,
    name                      text NOT NULL,
    code                      text,
    account_id                uuid NOT NULL REFERENCES accounts ON DELETE CASCADE,
    bill_date                 date,
    amount                    numeric(18, 2),
    units                     numeric(18, 4),
    unit_price                numeric(18, 6),
    currency                  text NOT NULL,
    description               text,
    entity_type               text NOT NULL CHECK (entity_type IN ('AD_HOC', 'BALANCE')),
    -- a balance when entity_type says so, else nothing
    entity_id                 uuid,
    bill_id                   uuid REFERENCES bills ON DELETE SET NULL ON UPDATE CASCADE,
    accounting_product_id     uuid REFERENCES products ON DELETE SET NULL,
    service_period_start_date timestamptz,
    service_period_end_date   timestamptz,
    notes                     text,
    contract_id               uuid REFERENCES contracts ON DELETE SET NULL,
    line_item_type            text NOT NULL CHECK (line_item_type IN ('BALANCE_FEE', 'AD_HOC')),
    schedule_id               uuid,
    dt_created                timestamptz NOT NULL DEFAULT now(),
    dt_last_modified          timestamptz NOT NULL DEFAULT now(),
    created_by                uuid,
    last_modified_by          uuid
);
CREATE INDEX ON charges (account_id);
CREATE INDEX ON charges (bill_id) WHERE bill_id IS NOT NULL;
CREATE INDEX ON charges (contract_id) WHERE contract_id IS NOT NULL;

CREATE TABLE bill_line_items (
    id                        uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id           text NOT NULL,
    version                   integer NOT NULL DEFAULT 1,
    line_item_type            text NOT NULL CHECK (line_item_type IN (
        'STANDING_CHARGE', 'USAGE', 'COUNTER_RUNNING_TOTAL_CHARGE', 'COUNTER_ADJUSTMENT_DEBIT',
        'COUNTER_ADJUSTMENT_CREDIT', 'USAGE_CREDIT', 'MINIMUM_SPEND', 'MINIMUM_SPEND_REFUND', 'CREDIT_DEDUCTION',
        'MANUAL_ADJUSTMENT', 'CREDIT_MEMO', 'DEBIT_MEMO', 'COMMITMENT_CONSUMED', 'COMMITMENT_FEE', 'OVERAGE_SURCHARGE',
        'OVERAGE_USAGE', 'BALANCE_CONSUMED', 'BALANCE_FEE', 'AD_HOC')),
    product_id                uuid REFERENCES products,
    description               text,
    service_period_start_date timestamptz,
    service_period_end_date   timestamptz,
    referenced_bill_id        uuid REFERENCES bills ON DELETE SET NULL ON UPDATE CASCADE,
    referenced_line_item_id   uuid REFERENCES bill_line_items ON DELETE SET NULL ON UPDATE CASCADE,
    product_name              text,
    product_code              text,
    accounting_product_id     uuid REFERENCES products ON DELETE SET NULL,
    accounting_product_name   text,
    accounting_product_code   text,
    aggregation_id            uuid REFERENCES aggregations,
    compound_aggregation_id   uuid REFERENCES compound_aggregations,
    counter_id                uuid,
    charge_id                 uuid REFERENCES charges ON DELETE SET NULL,
    segment                   jsonb,
    "group"                   jsonb,
    meter_id                  uuid REFERENCES meters,
    plan_id                   uuid REFERENCES plans,
    plan_group_id             uuid REFERENCES plan_groups ON DELETE SET NULL ON UPDATE CASCADE,
    commitment_id             uuid REFERENCES commitments ON DELETE SET NULL,
    balance_id                uuid REFERENCES balances ON DELETE SET NULL,
    bill_id                   uuid NOT NULL REFERENCES bills ON DELETE CASCADE ON UPDATE CASCADE,
    quantity                  numeric(18, 4) NOT NULL,
    units                     numeric(18, 4) NOT NULL,
    unit                      text,
    subtotal                  numeric(18, 2) NOT NULL,
    currency                  text NOT NULL,
    conversion_rate           numeric(18, 8) NOT NULL DEFAULT 1,
    converted_subtotal        numeric(18, 2) NOT NULL,
    credit_type_id            uuid,
    pricing_id                uuid REFERENCES pricing ON DELETE SET NULL,
    band_usage                jsonb NOT NULL DEFAULT '[]',
    reason_id                 uuid,
    contract_id               uuid REFERENCES contracts ON DELETE SET NULL,
    json_usage_generated      boolean NOT NULL DEFAULT false,
    average_unit_price        numeric(18, 6),
    sequence_number           integer NOT NULL,
    additional                jsonb,
    dt_created                timestamptz NOT NULL DEFAULT now(),
    dt_last_modified          timestamptz NOT NULL DEFAULT now(),
    created_by                uuid,
    last_modified_by          uuid
);
CREATE INDEX ON bill_line_items (bill_id);
CREATE INDEX ON bill_line_items (pricing_id) WHERE pricing_id IS NOT NULL;
CREATE INDEX ON bill_line_items (contract_id) WHERE contract_id IS NOT NULL;
CREATE INDEX ON bill_line_items (referenced_bill_id) WHERE referenced_bill_id IS NOT NULL;
CREATE INDEX ON bill_line_items (referenced_line_item_id) WHERE referenced_line_item_id IS NOT NULL;
CREATE INDEX ON bill_line_items (charge_id) WHERE charge_id IS NOT NULL;
CREATE INDEX ON bill_line_items (plan_group_id) WHERE plan_group_id IS NOT NULL;
CREATE INDEX ON bill_line_items (commitment_id) WHERE commitment_id IS NOT NULL;
CREATE INDEX ON bill_line_items (balance_id) WHERE balance_id IS NOT NULL;

CREATE TABLE balance_transactions (
    id                  uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id     text NOT NULL,
    version             integer NOT NULL DEFAULT 1,
    balance_id          uuid NOT NULL REFERENCES balances ON DELETE CASCADE,
    description         text,
    amount              numeric(18, 2) NOT NULL,
    paid                numeric(18, 2),
    currency_paid       text,
    entity_type         text CHECK (entity_type IN ('BILL', 'COMMITMENT', 'USER', 'SERVICE_USER', 'SCHEDULER')),
    -- what it is depends on entity_type, so there is no foreign key
    entity_id           uuid,
    transaction_type_id uuid REFERENCES transaction_types,
    applied_date        timestamptz,
    transaction_date    timestamptz NOT NULL,
    dt_created          timestamptz NOT NULL DEFAULT now(),
    dt_last_modified    timestamptz NOT NULL DEFAULT now(),
    created_by          uuid,
    last_modified_by    uuid
);
CREATE INDEX ON balance_transactions (balance_id);
