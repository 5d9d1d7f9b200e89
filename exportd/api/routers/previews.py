"""What a schedule's next run would hold."""

from fastapi import APIRouter

from exportd.api.dependencies import Looking, Using
from exportd.api.problems import responses
from exportd.api.references import IdInPath, id_in_path
from exportd.api.schemas.preview import SchedulePreview, shown_preview
from exportd.api.transport.request_reader import StrictRoute
from exportd.model.schedule import ScheduleId

router = APIRouter(prefix="/v1", tags=["operations"], route_class=StrictRoute)


@router.get("/schedules/{id}/preview", responses=responses(401, 403, 404, 409), response_model_exclude_none=True)
async def preview_schedule(_caller: Looking, using: Using, schedule_id: IdInPath) -> SchedulePreview:
    """What a run that begins now would hold, entity by entity. Nothing is run, installed or repaired.

    409 for what would fail the run, such as a missing table.
    """
    schedule = await using.schedule_operator.get(ScheduleId(id_in_path(schedule_id, "schedule")))
    return shown_preview(await using.previewer.preview(schedule))
