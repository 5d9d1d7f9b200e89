-- Quotas: how much an organization may have, counted by the one transaction that holds its row here.

-- A row to lock, of our own: an advisory lock could be taken by any role that may connect.
CREATE TABLE exportd.organization (
    organization  text PRIMARY KEY
);

-- How many changes an organization has made of late.
CREATE INDEX audit_of_organization ON exportd.audit (organization, at) WHERE organization IS NOT NULL;
