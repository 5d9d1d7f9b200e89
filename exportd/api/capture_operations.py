"""What is done with the capture of entities, whichever door it came through: the API, or the command line's own way.

A deed is written into the audit log before it is done: what cannot be written down is not done.
"""

from collections.abc import Collection, Sequence

from exportd.api.schemas.operations import CaptureAnswer, CaptureRemoval, capture_answer
from exportd.capture.installer import CaptureInstaller
from exportd.database.unit_of_work import Auditor
from exportd.model.bounds import MAX_SHOWN_LENGTH
from exportd.model.change_log import log_name
from exportd.model.entity import Entity, EntityCode
from exportd.model.errors import SettingsError
from exportd.settings.sentences import did_you_mean


async def capture_status(installer: CaptureInstaller, entities: Sequence[Entity]) -> list[CaptureAnswer]:
    """What is wrong with the capture of entities, and the SQL that would put it right. Changes nothing."""
    return [capture_answer(capture) for capture in await installer.status(entities)]


async def capture_install(
    installer: CaptureInstaller, auditor: Auditor, entities: Sequence[Entity], *, actor: str
) -> list[CaptureAnswer]:
    """Make the capture of entities whole; what was wrong, and the SQL that put it right.

    Of several, one that cannot be made whole is told, and does not keep the others from it. A single one raises
    PermanentError when its table is missing or the role may not, TransientError when the table stays locked.
    """
    await auditor.write("capture installed", actor=actor, entities=[entity.code for entity in entities])
    install = installer.install if len(entities) == 1 else installer.install_what_can_be
    return [capture_answer(capture, repaired=True) for capture in await install(entities)]


async def capture_uninstall(
    installer: CaptureInstaller,
    auditor: Auditor,
    names: Collection[EntityCode],
    *,
    known: Collection[EntityCode],
    dry_run: bool = False,
    actor: str,
) -> CaptureRemoval:
    """Remove the change logs of the named entities (none: all that there are) with their triggers and functions.

    An entity that has left the catalog may be named while its log is there. Raises SettingsError for other names.
    """
    removals = await installer.removals([log_name(name) for name in names] if names else None)
    for name in names:
        if name not in known and log_name(name) not in removals:
            hint = did_you_mean(name, known, what="entities of the catalog")
            raise SettingsError.of(f"there is no entity {name[:MAX_SHOWN_LENGTH]!r}; {hint}", where="entities")
    removed = [] if dry_run else list(removals)
    if removed:
        await auditor.write("capture uninstalled", actor=actor, logs=removed)
        await installer.uninstall(removed)
    return CaptureRemoval(
        removed=removed, statements=[statement for statements in removals.values() for statement in statements]
    )
