-- Who does the work that is done once for all control planes.
CREATE TABLE jobs (
    name            TEXT    PRIMARY KEY,
    -- A process, by the name that it gave to its own life.
    holder          TEXT    NOT NULL,
    -- Counts up with every run: who has lost a run without noticing cannot end it.
    fence           INTEGER NOT NULL,
    -- 0: nobody has it.
    held_until_ms   INTEGER NOT NULL,
    due_at_ms       INTEGER NOT NULL,
    last_success_ms INTEGER
) STRICT, WITHOUT ROWID;
