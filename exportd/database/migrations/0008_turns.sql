-- Turns: whose job was claimed last. Claims go round the organizations, whatever the age of a backlog.

-- A number of a sequence and no time: turns are compared, and a clock may be set back.
CREATE SEQUENCE exportd.turn_number;

CREATE TABLE exportd.turn (
    organization  text PRIMARY KEY,
    number        bigint NOT NULL
);
