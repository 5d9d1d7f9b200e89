"""What a configuration declares, with what is usual in these tests."""

from pathlib import Path

from tests.acceptance.shop import ORGANIZATION


def schedule(code: str = "often", **others: object) -> dict[str, object]:
    """A schedule of everything to the destination ``lake``; it fires once, at the daemon's start."""
    return {
        "code": code,
        "organization": ORGANIZATION,
        "entities": "ALL",
        "destinations": ["lake"],
        "unit": "DAY",
        "period": 1,
        **others,
    }


def destination(code: str, directory: Path, **others: object) -> dict[str, object]:
    return {"code": code, "organization": ORGANIZATION, "directory": str(directory), **others}
