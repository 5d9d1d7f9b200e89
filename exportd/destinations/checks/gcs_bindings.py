"""The commands that let exportd deliver to a bucket of Google Cloud Storage. Pure."""

import shlex

from exportd.destinations.checks.report import Grant

ACCOUNT_PLACEHOLDER = "EXPORTD_SERVICE_ACCOUNT"
"""Where a credentials file says who exportd is, which is not read here."""

_RECOMMENDED, _MINIMAL = "roles/storage.objectUser", "roles/storage.objectCreator"


def gcs_grants(
    *, bucket: str, project_number: str = "", pool_id: str = "", service_account: str = ""
) -> tuple[Grant, ...]:
    """What the owner of the bucket, and that of the service account, have to set up."""
    pool = f"principalSet://iam.googleapis.com/projects/{project_number}/locations/global/workloadIdentityPools/{pool_id}/*"
    if service_account:
        member = f"serviceAccount:{service_account}"
    elif pool_id:
        member = pool
    else:
        member = f"serviceAccount:{ACCOUNT_PLACEHOLDER}"
    unknown = "" if service_account or pool_id else f"; {ACCOUNT_PLACEHOLDER} is a placeholder: see credentials_file"
    binding = ("gcloud", "storage", "buckets", "add-iam-policy-binding", f"gs://{bucket}", f"--member={member}")
    grants = [
        Grant(f"Role on the bucket, recommended{unknown}", shlex.join([*binding, f"--role={_RECOMMENDED}"])),
        Grant(
            "Or the least that works: nothing can be looked at, replaced or removed",
            shlex.join([*binding, f"--role={_MINIMAL}"]),
        ),
    ]
    if service_account and pool_id:
        words = ("gcloud", "iam", "service-accounts", "add-iam-policy-binding", service_account, f"--member={pool}")
        grants.append(
            Grant(
                "So that the pool's principal may act as the service account",
                shlex.join([*words, "--role=roles/iam.workloadIdentityUser"]),
            )
        )
    return tuple(grants)


# MERGED: The commands that make a directory a destination. Pure.


def directory_grants(*, directory: str, user: str) -> tuple[Grant, ...]:
    """``user`` is whom exportd runs as. Files are readable for the directory's group, which new folders inherit."""
    path = shlex.quote(directory)
    return (
        Grant(
            f"Owner and mode, with the group of those who read in place of READERS ({user} is the user of this check: "
            "take the daemon's)",
            f"mkdir -p {path}\nchown {shlex.quote(user)}:READERS {path}\nchmod 2750 {path}",
        ),
    )
