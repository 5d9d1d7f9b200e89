import json

from exportd.destinations import finding
from exportd.destinations.finding import CheckResult, CheckVerdict, PermissionFinding, PermissionState
from exportd.destinations.permission import Grant, Permission

GRANTS = (Grant("A policy", "{\n}"),)
ALL = {permission: PermissionFinding(PermissionState.THERE) for permission in Permission}


def test_all_is_well() -> None:
    result = CheckResult(ALL, bytes_per_s=12_340_000)
    said = list(finding.lines(result, GRANTS, kind="S3"))
    assert result.verdict is CheckVerdict.GOOD
    assert said[0] == "  ok         write an object (s3:PutObject), required"
    assert said[-1] == "  rate       12.3 MB/s, one piece after the other"
    assert not any("policy" in line for line in said)
    assert list(finding.summary(result, kind="S3")) == []


def test_a_recommended_permission_that_is_missing_is_no_failure() -> None:
    result = CheckResult(
        {**ALL, Permission.DELETE: PermissionFinding(PermissionState.MISSING, "no.")}, left_over=("the object x",)
    )
    said = "\n".join(finding.lines(result, GRANTS, kind="GCS"))
    assert result.verdict is CheckVerdict.GOOD
    assert "missing    remove an object (storage.objects.delete), recommended" in said
    assert "no." in said
    assert "Without it: What a job published" in said
    assert "left over  the object x; remove it by hand" in said
    assert said.endswith("A policy:\n{\n}")


def test_a_required_permission_that_is_missing_is_one() -> None:
    result = CheckResult(
        {**ALL, Permission.UPLOAD: PermissionFinding(PermissionState.MISSING, "no.")}, setting='checksum = "NONE"'
    )
    assert result.verdict is CheckVerdict.LACKING
    assert list(finding.summary(result, kind="S3")) == ["no.", 'set checksum = "NONE"']


def test_who_is_out_of_reach_may_be_asked_again() -> None:
    result = CheckResult({**ALL, Permission.LOOK: PermissionFinding(PermissionState.OUT_OF_REACH, "503.")})
    assert result.verdict is CheckVerdict.OUT_OF_REACH
    assert list(finding.summary(result, kind="DIRECTORY")) == ["look at an object: 503."]


def test_the_document_has_everything() -> None:
    result = CheckResult(
        {**ALL, Permission.LIST: PermissionFinding(PermissionState.MISSING, "no.")}, bytes_per_s=2e6, left_over=("x",)
    )
    document = json.loads(json.dumps(finding.document(result, GRANTS, kind="S3")))
    assert document["verdict"] == "GOOD"
    by_name = {permission["permission"]: permission for permission in document["permissions"]}
    assert set(by_name) == set(Permission)
    listing = by_name["LIST"]
    assert (listing["action"], listing["required"], listing["state"]) == ("s3:ListBucket", False, "MISSING")
    assert listing["lostWithout"]
    assert (document["megabytesPerSecond"], document["leftOver"], document["setting"]) == (2.0, ["x"], None)
    assert document["grants"] == [{"title": "A policy", "text": "{\n}"}]
