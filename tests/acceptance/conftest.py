"""A shop and a site for each test."""

import pytest

from tests.acceptance.shop import Shop
from tests.fixtures.daemon import Site


@pytest.fixture
async def shop(site: Site) -> Shop:
    """The application's database, opened and not yet captured."""
    shop = Shop(await site.database.connect())
    await shop.open()
    return shop
