"""What Prometheus reads."""

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from exportd.api.dependencies import Caller, Using
from exportd.api.problems import Refusal, responses
from exportd.api.transport.request_reader import StrictRoute

router = APIRouter(tags=["daemon"], route_class=StrictRoute)


@router.get("/metrics", responses=responses(401, 403), response_class=Response)
async def show_metrics(caller: Caller, using: Using) -> Response:
    """Metrics in the text format of Prometheus. For those who may see every organization."""
    if caller.organization is not None:
        raise Refusal(403, "The daemon's metrics are for users of its own machine.")
    return Response(await using.exposition.text(), media_type=CONTENT_TYPE_LATEST)
