"""The metrics are those of the documentation, and the alerts use no others."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from exportd.telemetry.metrics import MetricDescription, Metrics

ROOT = Path(__file__).parents[3]
DOCUMENT = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
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


def documented() -> list[MetricDescription]:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) ?\| (.*) \|$", DOCUMENT, re.MULTILINE)
    return [
        MetricDescription(name, kind, tuple(re.findall(r"`(\w+)`", labels)), text) for name, kind, labels, text in rows
    ]


def series() -> dict[str, set[str]]:
    """Every series that can be asked for, with its labels."""
    found = dict(_PROMETHEUS_OWN)
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
    assert {family.name: (family.type, family.documentation) for family in metrics.registry.collect()} == described


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
