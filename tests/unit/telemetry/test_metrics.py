"""The metrics are those of the documentation, and the alerts use no others.

What is counted of an attempt, however it ends; how late the event loop is, and the memory of the process.
"""

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import anyio
import anyio.lowlevel
import pytest
from prometheus_client import ProcessCollector
from prometheus_client.parser import text_string_to_metric_families

from exportd.model.clock import SystemClock
from exportd.model.entity import EntityCode, OrganizationId
from exportd.model.errors import Reason, TransientError
from exportd.model.job import Job, JobId, JobPhase, JobProgress, Lease
from exportd.model.schedule import ExportFormat
from exportd.telemetry.metrics import (
    AttemptMeter,
    BootTimeProcessCollector,
    LoopDelaySampler,
    MetricDescription,
    Metrics,
    resident_bytes,
)

ROOT = Path(__file__).parents[3]
DOCUMENT = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
DASHBOARD = json.loads((ROOT / "config" / "grafana-dashboard.json").read_text(encoding="utf-8"))
RULES = (ROOT / "config" / "prometheus-rules.yml").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Alert:
    """One alert of the rules file."""

    name: str
    expression: str
    severity: str
    summary: str


def alerts() -> list[Alert]:
    """What the rules file says, which keeps each value on one line; a rule written otherwise is not overlooked."""
    pattern = (
        r"- alert: (\w+)\n +expr: (.+)\n(?: +for: \w+\n)? +labels: \{severity: (\w+)\}\n +annotations:\n +summary: (.+)"
    )
    found = [Alert(*texts) for texts in re.findall(pattern, RULES)]
    assert len(found) == RULES.count("alert:")
    return found


_PROMETHEUS_OWN = {"up": {"job", "instance"}}

PROCESS = {
    *("process_virtual_memory_bytes", "process_resident_memory_bytes", "process_start_time_seconds"),
    *("process_cpu_seconds_total", "process_open_fds", "process_max_fds"),
}
"""The usual metrics of a process, as the library has them."""


def documented() -> list[MetricDescription]:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) ?\| (.*) \|$", DOCUMENT, re.MULTILINE)
    return [
        MetricDescription(name, kind, tuple(re.findall(r"`(\w+)`", labels)), text) for name, kind, labels, text in rows
    ]


def series() -> dict[str, set[str]]:
    """Every series that can be asked for, with its labels."""
    found = {**_PROMETHEUS_OWN, **{name: {"instance", "job"} for name in PROCESS}}
    for description in Metrics().descriptions:
        labels = {*description.labels, "instance", "job"}
        if description.kind == "histogram":
            found |= {
                f"{description.name}_bucket": labels | {"le"},
                f"{description.name}_sum": labels,
                f"{description.name}_count": labels,
            }
        else:
            found[description.name] = labels
    return found


def test_the_documentation_lists_the_metrics_and_no_others() -> None:
    assert documented() == Metrics().descriptions


def test_the_descriptions_are_what_the_registry_has() -> None:
    metrics = Metrics()
    described = {
        description.name.removesuffix("_total"): (description.kind, description.meaning)
        for description in metrics.descriptions
    }
    families = {family.name: (family.type, family.documentation) for family in metrics.registry.collect()}
    process = {name.removesuffix("_total") for name in PROCESS}
    assert {name: families[name] for name in families if name not in process} == described
    assert families.keys() >= process


def test_the_process_is_measured_where_proc_holds_processes_alone(tmp_path: Path) -> None:
    (tmp_path / "self").symlink_to("/proc/self")
    families = {family.name: family for family in BootTimeProcessCollector(proc=str(tmp_path), registry=None).collect()}
    assert families.keys() == {name.removesuffix("_total") for name in PROCESS}
    usual = {family.name: family for family in ProcessCollector(registry=None).collect()}
    started, expected = (found["process_start_time_seconds"].samples[0].value for found in (families, usual))
    assert started == pytest.approx(expected, abs=2)


def test_the_documentation_lists_the_metrics_of_the_process() -> None:
    assert set(re.findall(r"`(process_\w+)`", DOCUMENT)) == PROCESS


def dashboard_queries() -> list[str]:
    """The expressions of all panels and variables of the dashboard."""
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    queries = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    return [
        *queries,
        *(variable["query"] for variable in DASHBOARD["templating"]["list"] if variable["type"] == "query"),
    ]


def test_the_dashboard_shows_each_metric_that_an_alert_watches() -> None:
    shown = " ".join(dashboard_queries())
    watched = {name for alert in alerts() for name in re.findall(r"\bexportd_\w+", alert.expression)}
    assert {name for name in watched if name not in shown} == set()


@pytest.mark.parametrize("query", dashboard_queries())
def test_a_query_of_the_dashboard_names_what_there_is(query: str) -> None:
    names = re.findall(r"\b(?:exportd|process)_\w+", query)
    assert names
    for name in names:
        assert name in series()
    labels = set().union(*(series()[name] for name in names))
    assert {*re.findall(r"(\w+)=~?\"", query)} <= labels
    assert {label for group in re.findall(r"by ?\(([\w, ]+)\)", query) for label in re.split(", ?", group)} <= labels


def test_the_dashboard_has_no_data_source_of_ours() -> None:
    sources = {panel["datasource"]["uid"] for panel in DASHBOARD["panels"] if panel["type"] != "row"}
    assert sources == {"${datasource}"}


def test_two_daemons_in_one_process_share_nothing() -> None:
    one, other = Metrics(), Metrics()
    one.retries.inc()
    assert other.registry.get_sample_value("exportd_job_retries_total") == 0


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)
def test_an_alert_names_what_there_is(alert: Alert) -> None:
    expression = re.sub(r'"[^"]*"|\[\w+\]', "", alert.expression)
    selectors = re.findall(r"\b([a-z]\w+)(?:\{([\w=,]*)\})?(?!\w*\()", expression)
    assert selectors
    for name, matchers in selectors:
        assert name in series()
        shown = re.findall(r"\$labels\.(\w+)", alert.summary)
        assert {*re.findall(r"(\w+)=", matchers), *shown} <= series()[name]
    assert alert.severity in {"warning", "critical"}


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)
def test_the_runbook_says_what_to_do_about_an_alert(alert: Alert) -> None:
    assert re.search(rf"^\| `{alert.name}` \|", RUNBOOK, re.MULTILINE)


def test_the_runbook_knows_no_alert_that_is_gone() -> None:
    assert set(re.findall(r"^\| `(Exportd\w+)` \|", RUNBOOK, re.MULTILINE)) == {alert.name for alert in alerts()}


def test_what_is_not_known_any_more_is_not_exposed() -> None:
    metrics = Metrics()
    metrics.database_up.set(1)
    metrics.freshness.labels("acme", "hourly", "lake").set(5)
    metrics.oldest_transaction.set(7)
    metrics.forget_database()
    lines = metrics.text().decode()
    assert "exportd_database_up 0.0" in lines
    assert "exportd_oldest_transaction_seconds NaN" in lines
    assert "acme" not in lines
    assert {family.name for family in text_string_to_metric_families(lines)} >= {"exportd_database_up", "exportd_jobs"}


BILLS = EntityCode("BILLS")
JOB = Job(
    JobId(UUID(int=1)),
    OrganizationId("acme"),
    None,
    None,
    datetime(2026, 1, 1, tzinfo=UTC),
    (BILLS,),
    ExportFormat.CSV,
    (),
)


def lease(attempt: int = 1) -> Lease:
    return Lease(JOB, fence=attempt, attempt=attempt, phase=JobPhase.EXTRACTING)


def ended(metrics: Metrics, outcome: str, reason: str = "") -> float | None:
    return metrics.registry.get_sample_value("exportd_job_attempts_total", {"outcome": outcome, "reason": reason})


async def test_rows_and_bytes_count_when_a_job_succeeds() -> None:
    async def work(_lease: Lease, progress: JobProgress) -> None:
        progress.of(BILLS).rows, progress.of(BILLS).size_bytes = 7, 900

    metrics = Metrics()
    await AttemptMeter(work, metrics, SystemClock()).run(lease(), JobProgress())
    await AttemptMeter(work, metrics, SystemClock()).run(lease(attempt=2), JobProgress())
    value = metrics.registry.get_sample_value
    assert ended(metrics, "succeeded") == 2
    assert value("exportd_exported_rows_total", {"entity": BILLS}) == 14
    assert value("exportd_exported_bytes_total", {"entity": BILLS}) == 1800
    assert value("exportd_job_retries_total") == 1
    assert value("exportd_job_attempt_seconds_count") == 2


@pytest.mark.parametrize(
    ("error", "reason"),
    [(TransientError("full", reason=Reason.SPOOL_FULL), "SPOOL_FULL"), (KeyError("x"), "BUG")],
)
async def test_a_failure_counts_with_its_reason_and_without_rows(error: Exception, reason: str) -> None:
    async def work(_lease: Lease, progress: JobProgress) -> None:
        progress.of(BILLS).rows = 7
        raise error

    metrics = Metrics()
    with pytest.raises(type(error)):
        await AttemptMeter(work, metrics, SystemClock()).run(lease(), JobProgress())
    assert ended(metrics, "failed", reason) == 1
    assert metrics.registry.get_sample_value("exportd_exported_rows_total", {"entity": BILLS}) is None


async def test_a_stop_from_outside_is_no_failure() -> None:
    async def work(_lease: Lease, _progress: JobProgress) -> None:
        await anyio.sleep_forever()

    metrics = Metrics()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await AttemptMeter(work, metrics, SystemClock()).run(lease(), JobProgress())
    assert ended(metrics, "stopped") == 1


async def test_a_late_event_loop_shows() -> None:
    metrics = Metrics()
    async with anyio.create_task_group() as services:
        services.start_soon(LoopDelaySampler(metrics.loop_delay).run)
        await anyio.wait_all_tasks_blocked()
        until = anyio.current_time() + 0.5
        while anyio.current_time() < until:
            pass
        while not metrics.registry.get_sample_value("exportd_event_loop_delay_seconds_count"):
            await anyio.lowlevel.checkpoint()
        services.cancel_scope.cancel()
    sample = metrics.registry.get_sample_value
    in_time = sample("exportd_event_loop_delay_seconds_bucket", {"le": "0.05"})
    late = (sample("exportd_event_loop_delay_seconds_count") or 0) - (in_time or 0)
    assert late >= 4, "every sleeper that was due in that half second was late"
    assert 0.4 < (sample("exportd_event_loop_delay_seconds_sum") or 0) < 50


def test_the_process_has_some_memory() -> None:
    assert 10_000_000 < resident_bytes() < 10_000_000_000
