"""How many records of each entity a demo of a given size has.

A business has few products and prices and many bills; so what it configures stops growing, and what it bills
takes the rest.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from exportd.model.entity import EntityCode, OrganizationId

_Key = TypeVar("_Key")

_ORGANIZATIONS = ("org-acme", "org-globex", "org-initech", "org-umbrella", "org-hooli", "org-wonka")


@dataclass(frozen=True, slots=True)
class Share:
    """An entity's part of an organization's records, relative to the others'; at most ``ceiling`` records."""

    weight: int
    ceiling: int | None = None


SHARES: Mapping[EntityCode, Share] = {
    EntityCode("PRODUCTS"): Share(2, ceiling=24),
    EntityCode("TRANSACTION_TYPES"): Share(1, ceiling=12),
    EntityCode("ACCOUNTS"): Share(30),
    EntityCode("METERS"): Share(4, ceiling=60),
    EntityCode("AGGREGATIONS"): Share(6, ceiling=150),
    EntityCode("COMPOUND_AGGREGATIONS"): Share(2, ceiling=30),
    EntityCode("PLAN_TEMPLATES"): Share(3, ceiling=60),
    EntityCode("PLANS"): Share(10, ceiling=400),
    EntityCode("PLAN_GROUPS"): Share(4, ceiling=100),
    EntityCode("PLAN_GROUP_LINKS"): Share(8, ceiling=300),
    EntityCode("PRICING"): Share(25, ceiling=2_000),
    EntityCode("PRICING_BANDS"): Share(50, ceiling=6_000),
    EntityCode("CONTRACTS"): Share(15),
    EntityCode("ACCOUNT_PLANS"): Share(40),
    EntityCode("BALANCES"): Share(20),
    EntityCode("COMMITMENTS"): Share(10),
    EntityCode("BILLS"): Share(110),
    EntityCode("CHARGES"): Share(90),
    EntityCode("BILL_LINE_ITEMS"): Share(440),
    EntityCode("BALANCE_TRANSACTIONS"): Share(100),
}
"""In an order in which every record finds those that it refers to."""


def organization_ids(count: int) -> tuple[OrganizationId, ...]:
    """The ids of the demo's organizations, the largest first."""
    named = _ORGANIZATIONS[:count]
    return tuple(map(OrganizationId, [*named, *(f"org-{n}" for n in range(len(named) + 1, count + 1))]))


def counts(*, rows: int, organizations: int) -> dict[OrganizationId, dict[EntityCode, int]]:
    """How many records of each entity each organization has: ``rows`` in all, at least one of each.

    The second organization has half as many as the first, the third a third, and so on. Raises ValueError when
    there are too few rows for that.
    """
    least = len(SHARES) * organizations
    if organizations < 1 or rows < least:
        raise ValueError(f"{organizations} organizations need {max(least, len(SHARES))} rows or more, not {rows}")
    ids = organization_ids(organizations)
    weights = {id_: 1 / place for place, id_ in enumerate(ids, start=1)}
    extra = _apportion(rows - least, weights)
    return {id_: _records(extra[id_]) for id_ in ids}


def _records(extra: int) -> dict[EntityCode, int]:
    """One record of each entity, and ``extra`` more by their shares; what is above a ceiling goes to the others."""
    result = dict.fromkeys(SHARES, 1)
    growing = dict(SHARES)
    while True:
        added = _apportion(extra, {code: share.weight for code, share in growing.items()})
        full = {code for code, share in growing.items() if share.ceiling and 1 + added[code] > share.ceiling}
        if not full:
            return {code: result[code] + added.get(code, 0) for code in SHARES}
        for code in full:
            result[code] = growing.pop(code).ceiling or 1
            extra -= result[code] - 1


def _apportion(total: int, weights: Mapping[_Key, float]) -> dict[_Key, int]:
    """Divide a total by weights; what rounding leaves over goes to the largest remainders."""
    whole = sum(weights.values())
    exact = {key: total * weight / whole for key, weight in weights.items()}
    result = {key: int(value) for key, value in exact.items()}
    left = total - sum(result.values())
    for key in sorted(exact, key=lambda key: result[key] - exact[key])[:left]:
        result[key] += 1
    return result
