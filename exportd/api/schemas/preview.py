"""What a schedule's next run would hold, as an answer. Pure."""

from typing import Annotated

from pydantic import Field

from exportd.api.schemas.fields import Answer, Moment
from exportd.extraction.estimate import EntityPreview, Figure
from exportd.extraction.previewer import Preview
from exportd.model.extraction import Mode
from exportd.model.reason import FullReason


class ShownEntityPreview(Answer):
    """One entity. ``reason`` says why it would be full."""

    entity: str
    mode: Mode
    reason: FullReason | None = None
    rows: Annotated[int, Field(ge=0, description="All records, deletions included.")]
    deleted_rows: Annotated[int, Field(ge=0, description="Those that are deletions.")]
    content_bytes: Annotated[int, Field(ge=0, description="Before compression.")]
    estimated: Annotated[list[Figure], Field(description="The figures that are estimates; the others are exact.")]


class SchedulePreview(Answer):
    """What a run that begins at ``takenAt`` would hold, in all and by entity."""

    taken_at: Moment
    rows: int
    deleted_rows: int
    content_bytes: int
    entities: list[ShownEntityPreview]


def shown_preview(preview: Preview) -> SchedulePreview:
    return SchedulePreview(
        taken_at=preview.taken_at,
        rows=sum(each.rows for each in preview.entities),
        deleted_rows=sum(each.deleted_rows for each in preview.entities),
        content_bytes=sum(each.content_bytes for each in preview.entities),
        entities=[_shown(each) for each in preview.entities],
    )


def _shown(preview: EntityPreview) -> ShownEntityPreview:
    return ShownEntityPreview(
        entity=preview.entity,
        mode=preview.mode,
        reason=preview.full_reason,
        rows=preview.rows,
        deleted_rows=preview.deleted_rows,
        content_bytes=preview.content_bytes,
        estimated=list(preview.estimated),
    )
