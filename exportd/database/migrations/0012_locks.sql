-- Locks are rows of a table of our own: an advisory lock can be taken by any role that may connect, and held for ever.
CREATE TABLE exportd.lock (
    name  text PRIMARY KEY
);

-- The key that signs tokens is a file: what lies in the database can be read with the database's rights.
DROP TABLE exportd.signing_key;
