"""A row of the database names files of its job, and of nothing else."""

from uuid import UUID

import pytest

from exportd.jobs.job_record import file_names
from exportd.model.entity import EntityCode
from exportd.model.errors import PermanentError, Reason
from exportd.model.job import JobId, Part
from exportd.model.schedule import ExportFormat
from exportd.stores.layout import file_name

JOB = JobId(UUID(int=7))
OTHER = JobId(UUID(int=8))


def part(name: str, number: int = 1) -> Part:
    return Part(EntityCode("ACCOUNTS"), number, name, 1, 1, 1, "0" * 64)


@pytest.mark.parametrize("file_format", list(ExportFormat))
@pytest.mark.parametrize("number", [1, 2, 9999, 12345])
def test_what_exportd_writes_is_taken(file_format: ExportFormat, number: int) -> None:
    name = file_name(JOB, "account", number, file_format)
    assert file_names(JOB, [part(name, number)]) == (name,)


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../../etc/passwd",
        f"../{OTHER}/{OTHER}_account.csv.gz",
        f"{OTHER}_account.csv.gz",
        f"{JOB}_account.csv.gz/../../../etc/passwd",
        f"{JOB}_../x.csv.gz",
        f"{JOB}_account.0002.csv.gz",
        f"{JOB}_account.csv",
        f"{JOB}_account.csv.gz\n",
        f"{JOB}_account.exe.gz",
        "manifest.json",
        "",
    ],
)
def test_any_other_name_is_refused(name: str) -> None:
    with pytest.raises(PermanentError) as raised:
        file_names(JOB, [part(name)])
    assert raised.value.reason is Reason.SPOOL_DAMAGED
