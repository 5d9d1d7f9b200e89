"""The shipped catalog against the facts of the service that it is compatible with, frozen here."""

from pathlib import Path

import pytest

from exportd.catalog import document
from exportd.model.entity import EntityCode, Field

CATALOG = document.load(Path(__file__).parents[3] / "config" / "entities.toml")

# Each field of the service in its order: the name, and what it is unless it is plain text; what it refers to follows
# in brackets.
SHORT = {
    "": ("string", None),
    "uuid": ("string", "uuid"),
    "date": ("string", "date"),
    "time": ("string", "date-time"),
    "int": ("integer", None),
    "float": ("float", None),
    "bool": ("boolean", None),
    "json": ("json", None),
}
FACTS = {
    ("ACCOUNTS", "Accounts", "account"): """
        id/uuid version/int name code address/json autoGenerateStatementMode billEpoch/date
        creditApplicationOrder currency emailAddress parentAccountId/uuid[ACCOUNTS]
        purchaseOrderNumber statementDefinitionId/uuid customFields/json dtCreated/time
        dtLastModified/time createdBy/uuid lastModifiedBy/uuid
    """,
    ("ACCOUNT_PLANS", "Account Plans", "accountplan"): """
        id/uuid version/int code accountId/uuid[ACCOUNTS] billEpoch/date childBillingMode
        contractId/uuid[CONTRACTS] modifiedBy/uuid planId/uuid[PLANS] planGroupId/uuid[PLAN_GROUPS]
        productId/uuid[PRODUCTS] startDate/time endDate/time customFields/json dtCreated/time
        dtLastModified/time createdBy/uuid lastModifiedBy/uuid
    """,
    ("AGGREGATIONS", "Aggregations", "aggregation"): """
        id/uuid version/int name code rounding quantityPerUnit/int unit segments/json
        meterId/uuid[METERS] targetField aggregation segmentedFields/json defaultValue/int
        dtCreated/time dtLastModified/time createdBy/uuid lastModifiedBy/uuid
    """,
    ("BALANCES", "Balances", "balance"): """
        id/uuid version/int name code description accountId/uuid[ACCOUNTS] amount/float currency
        startDate/time endDate/time rolloverAmount/float rolloverEndDate/time
        balanceDrawDownDescription overageSurchargePercent/float overageDescription productIds/json
        lineItemTypes/json contractId/uuid[CONTRACTS] consumptionsAccountingProductId/uuid[PRODUCTS]
        feesAccountingProductId/uuid[PRODUCTS] allowOverdraft/bool customFields/json dtCreated/time
        dtLastModified/time createdBy/uuid lastModifiedBy/uuid
    """,
    ("BALANCE_TRANSACTIONS", "Balance Transactions", "balancetransaction"): """
        id/uuid version/int balanceId/uuid[BALANCES] description amount/float paid/float
        currencyPaid entityType entityId/uuid transactionTypeId/uuid[TRANSACTION_TYPES]
        appliedDate/time transactionDate/time dtCreated/time dtLastModified/time createdBy/uuid
        lastModifiedBy/uuid
    """,
    ("BILLS", "Bills", "bill"): """
        id/uuid version/int accountId/uuid[ACCOUNTS] accountCode startDate/date endDate/date
        startDateTimeUTC/time endDateTimeUTC/time billDate/date dueDate/date billingFrequency
        billFrequencyInterval/int timezone currency locked/bool createdDate/time status
        billJobId/uuid currencyConversions/json lastCalculatedDate/time purchaseOrderNumber
        externalInvoiceReference externalInvoiceDate/date jsonStatementGenerated/bool
        csvStatementGenerated/bool statementStale/bool billTotal/float sequentialInvoiceNumber
        dtApproved/time approvedBy/uuid dtLocked/time lockedBy/uuid dtCreated/time
        dtLastModified/time createdBy/uuid lastModifiedBy/uuid
    """,
    ("BILL_LINE_ITEMS", "Bill line items", "billlineitem"): """
        id/uuid version/int lineItemType productId/uuid[PRODUCTS] description
        servicePeriodStartDate/time servicePeriodEndDate/time referencedBillId/uuid[BILLS]
        referencedLineItemId/uuid[BILL_LINE_ITEMS] productName productCode
        accountingProductId/uuid[PRODUCTS] accountingProductName accountingProductCode
        aggregationId/uuid[AGGREGATIONS] compoundAggregationId/uuid[COMPOUND_AGGREGATIONS]
        counterId/uuid chargeId/uuid[CHARGES] segment/json group/json meterId/uuid[METERS]
        planId/uuid[PLANS] planGroupId/uuid[PLAN_GROUPS] commitmentId/uuid[COMMITMENTS]
        balanceId/uuid[BALANCES] billId/uuid[BILLS] quantity/float units/float unit subtotal/float
        currency conversionRate/float convertedSubtotal/float creditTypeId/uuid
        pricingId/uuid[PRICING] bandUsage/json reasonId/uuid contractId/uuid[CONTRACTS]
        jsonUsageGenerated/bool averageUnitPrice/float sequenceNumber/int additional/json
        dtCreated/time dtLastModified/time createdBy/uuid lastModifiedBy/uuid
    """,
    ("CHARGES", "Charges", "charge"): """
        id/uuid version/int name code accountId/uuid[ACCOUNTS] billDate/date amount/float
        units/float unitPrice/float currency description entityType entityId/uuid billId/uuid[BILLS]
        accountingProductId/uuid[PRODUCTS] servicePeriodStartDate/time servicePeriodEndDate/time
        notes contractId/uuid[CONTRACTS] lineItemType scheduleId/uuid dtCreated/time
        dtLastModified/time createdBy/uuid lastModifiedBy/uuid
    """,
    ("COMMITMENTS", "Prepayments/Commitments", "commitment"): """
        id/uuid version/int accountId/uuid[ACCOUNTS] billingPlanId/uuid[PLANS] productIds/json
        startDate/date endDate/date currency amount/float amountPrePaid/float amountFirstBill/float
        amountSpent/float overageSurchargePercent/float separateOverageUsage/bool
        billingInterval/int billingOffset/int commitmentFeeDescription commitmentUsageDescription
        overageDescription commitmentFeeBillInAdvance/bool billEpoch/date contractId/uuid[CONTRACTS]
        accountingProductId/uuid[PRODUCTS] feesAccountingProductId/uuid[PRODUCTS]
        drawdownsAccountingProductId/uuid[PRODUCTS] feeDates/json childBillingMode
        lineItemTypes/json dtCreated/time dtLastModified/time createdBy/uuid lastModifiedBy/uuid
    """,
    ("COMPOUND_AGGREGATIONS", "Compound Aggregations", "compoundaggregation"): """
        id/uuid version/int name code rounding quantityPerUnit/float unit segments/json
        accountingProductId/uuid[PRODUCTS] calculation productId/uuid[PRODUCTS]
        evaluateNullAggregations/bool customFields/json dtCreated/time dtLastModified/time
        createdBy/uuid lastModifiedBy/uuid
    """,
    ("CONTRACTS", "Contracts", "contract"): """
        id/uuid version/int name code accountId/uuid[ACCOUNTS] description purchaseOrderNumber
        applyContractPeriodLimits/bool usageFilters/json billGroupingKeyId/uuid startDate/date
        endDate/date customFields/json dtCreated/time dtLastModified/time createdBy/uuid
        lastModifiedBy/uuid
    """,
    ("METERS", "Meters", "meter"): """
        id/uuid version/int name code productId/uuid[PRODUCTS] groupId/uuid dataFields/json
        derivedFields/json customFields/json dtCreated/time dtLastModified/time createdBy/uuid
        lastModifiedBy/uuid
    """,
    ("PLANS", "Plans", "plan"): """
        id/uuid version/int name code planTemplateId/uuid[PLAN_TEMPLATES] productId/uuid[PRODUCTS]
        standingCharge/float standingChargeDescription ordinal/int bespoke/bool minimumSpend/float
        minimumSpendDescription standingChargeBillInAdvance/bool minimumSpendBillInAdvance/bool
        minimumSpendAccountingProductId/uuid[PRODUCTS]
        standingChargeAccountingProductId/uuid[PRODUCTS] accountId/uuid[ACCOUNTS] customFields/json
        dtCreated/time dtLastModified/time createdBy/uuid lastModifiedBy/uuid
    """,
    ("PLAN_GROUPS", "Plan Groups", "plangroup"): """
        id/uuid version/int name code standingCharge/float standingChargeDescription
        minimumSpend/float minimumSpendDescription currency standingChargeBillInAdvance/bool
        minimumSpendBillInAdvance/bool accountId/uuid[ACCOUNTS]
        minimumSpendAccountingProductId/uuid[PRODUCTS]
        standingChargeAccountingProductId/uuid[PRODUCTS] customFields/json dtCreated/time
        dtLastModified/time createdBy/uuid lastModifiedBy/uuid
    """,
    ("PLAN_GROUP_LINKS", "Plan Group Links", "plangrouplink"): """
        id/uuid version/int planGroupId/uuid[PLAN_GROUPS] planId/uuid[PLANS] dtCreated/time
        dtLastModified/time createdBy/uuid lastModifiedBy/uuid
    """,
    ("PLAN_TEMPLATES", "Plan Templates", "plantemplate"): """
        id/uuid version/int name code productId/uuid[PRODUCTS] currency standingCharge/float
        standingChargeDescription standingChargeInterval/int standingChargeOffset/int
        billFrequencyInterval/int billFrequency ordinal/int minimumSpend/float
        minimumSpendDescription standingChargeBillInAdvance/bool minimumSpendBillInAdvance/bool
        customFields/json dtCreated/time dtLastModified/time createdBy/uuid lastModifiedBy/uuid
    """,
    ("PRICING", "Pricing", "pricing"): """
        id/uuid version/int code planId/uuid[PLANS] planTemplateId/uuid[PLAN_TEMPLATES]
        cumulative/bool startDate/time endDate/time description accountingProductId/uuid[PRODUCTS]
        aggregationId/uuid[AGGREGATIONS] compoundAggregationId/uuid[COMPOUND_AGGREGATIONS] type
        segment/json tiersSpanPlan/bool minimumSpend/float minimumSpendDescription
        minimumSpendBillInAdvance/bool aggregationType segmentString dtCreated/time
        dtLastModified/time createdBy/uuid lastModifiedBy/uuid
    """,
    ("PRICING_BANDS", "Pricing Bands", "pricingband"): """
        id/uuid version/int lowerLimit/float fixedPrice/float unitPrice/float creditTypeId/uuid type
        pricingId/uuid[PRICING]
    """,
    ("PRODUCTS", "Products", "product"): """
        id/uuid version/int name code customFields/json dtCreated/time dtLastModified/time
        createdBy/uuid lastModifiedBy/uuid
    """,
    ("TRANSACTION_TYPES", "Transaction Types", "transactiontype"): """
        id/uuid version/int name code archived/bool dtCreated/time dtLastModified/time
        createdBy/uuid lastModifiedBy/uuid
    """,
}


def spelled(field: Field) -> str:
    kind = {value: key for key, value in SHORT.items()}[field.type, field.format]
    return field.name + (f"/{kind}" if kind else "") + (f"[{field.reference}]" if field.reference else "")


def test_the_catalog_has_the_entities_of_the_service_in_its_order() -> None:
    assert [(entity.code, entity.label, entity.type_token) for entity in CATALOG.entities.values()] == list(FACTS)


@pytest.mark.parametrize(("code", "facts"), [(names[0], facts) for names, facts in FACTS.items()])
def test_an_entity_has_the_fields_of_the_service_in_its_order(code: str, facts: str) -> None:
    assert [spelled(field) for field in CATALOG.entities[EntityCode(code)].fields] == facts.split()


def test_there_are_422_fields_with_the_deleted_field_of_each_entity() -> None:
    assert len(CATALOG.entities) == 20
    assert sum(len(entity.field_names) for entity in CATALOG.entities.values()) == 422
    assert {entity.field_names[-1] for entity in CATALOG.entities.values()} == {"deleted"}


def test_every_type_is_told_and_every_entity_has_an_organization() -> None:
    assert not CATALOG.open_types
    assert {(entity.key, entity.tenant) for entity in CATALOG.entities.values()} == {(("id",), "organization_id")}


def test_every_entity_that_has_the_time_of_its_last_change_names_it() -> None:
    naming = {entity.code for entity in CATALOG.entities.values() if entity.modified == "dt_last_modified"}
    assert CATALOG.entities.keys() - naming == {"PRICING_BANDS"}
    assert all("dtLastModified" in CATALOG.entities[code].field_names for code in naming)
