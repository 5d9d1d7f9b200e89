"""A job's progress as the JSON in its row. Pure."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from exportd.model.entity import EntityCode
from exportd.model.job import EntityProgress, JobProgress

_FIGURES = tuple(each.name for each in dataclasses.fields(EntityProgress))


def to_json(progress: JobProgress) -> dict[str, Any]:
    """A copy of the figures as they are now; later changes of ``progress`` do not show in it."""
    return {
        "entities": {code: dataclasses.asdict(figures) for code, figures in progress.entities.items()},
        "published_files": progress.published_files,
    }


def from_json(document: Mapping[str, Any]) -> JobProgress:
    """The progress a row holds, without the figures that only another version knows."""
    return JobProgress(
        entities={
            EntityCode(code): EntityProgress(**{name: figures[name] for name in _FIGURES if name in figures})
            for code, figures in document.get("entities", {}).items()
        },
        published_files=document.get("published_files", 0),
    )
