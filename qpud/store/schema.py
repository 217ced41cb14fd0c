"""The schema and its migrations. Plain SQL that SQLite 3.34 (EL9) understands: no RETURNING, no STRICT.

CHECK constraints mirror the state machines of core; triggers keep the ledger append-only. A migration is one more
entry of MIGRATIONS; `PRAGMA user_version` counts those applied.
"""

from __future__ import annotations

import sqlite3

from qpud.core.errors import Unavailable

OLDEST_SQLITE = (3, 34, 0)

_V1 = """
CREATE TABLE sessions (
  id TEXT PRIMARY KEY,
  user_id INTEGER NOT NULL,
  user TEXT NOT NULL,
  account TEXT,
  slurm_job_id TEXT,
  queue TEXT NOT NULL,
  share INTEGER NOT NULL CHECK (share >= 1),
  hint TEXT NOT NULL,
  expected_qpu_seconds REAL,
  opened_at REAL NOT NULL,
  last_used_at REAL NOT NULL,
  expires_at REAL NOT NULL,
  closed_at REAL,
  close_reason TEXT,
  CHECK ((closed_at IS NULL) = (close_reason IS NULL))
) WITHOUT ROWID;
CREATE UNIQUE INDEX sessions_open ON sessions (user_id, slurm_job_id)
  WHERE closed_at IS NULL AND slurm_job_id IS NOT NULL;
CREATE INDEX sessions_user ON sessions (user_id, opened_at);
CREATE INDEX sessions_closed ON sessions (closed_at);

CREATE TABLE tokens (hash BLOB PRIMARY KEY, session_id TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE sequences (hash TEXT PRIMARY KEY, text TEXT NOT NULL);

CREATE TABLE jobs (
  id INTEGER PRIMARY KEY CHECK (id BETWEEN 1 AND 2147483647),
  uid TEXT NOT NULL,
  session_id TEXT NOT NULL,
  user_id INTEGER NOT NULL,
  queue TEXT NOT NULL,
  resource TEXT NOT NULL,
  sequence_hash TEXT NOT NULL,
  register_hash TEXT NOT NULL,
  shots INTEGER NOT NULL CHECK (shots > 0),
  shots_done INTEGER NOT NULL DEFAULT 0 CHECK (shots_done BETWEEN 0 AND shots),
  state TEXT NOT NULL CHECK (state IN ('PENDING', 'RUNNING', 'DONE', 'CANCELED', 'ERROR')),
  reason TEXT NOT NULL,
  submitted_at REAL NOT NULL,
  started_at REAL,
  ended_at REAL,
  batch_id TEXT,
  name TEXT,
  validated_spec TEXT,
  variables TEXT,
  tags TEXT,
  seed INTEGER NOT NULL,
  counts TEXT,
  message TEXT NOT NULL DEFAULT '',
  provenance TEXT,
  qpu_seconds REAL NOT NULL DEFAULT 0,
  CHECK (state != 'DONE' OR shots_done = shots),
  CHECK ((ended_at IS NULL) = (state IN ('PENDING', 'RUNNING')))
);
CREATE INDEX jobs_state ON jobs (state, id);
CREATE INDEX jobs_user ON jobs (user_id, id);
CREATE INDEX jobs_session ON jobs (session_id, id);

CREATE TABLE keys (
  user_id INTEGER NOT NULL,
  key TEXT NOT NULL,
  first_job INTEGER NOT NULL,
  jobs INTEGER NOT NULL,
  body_hash BLOB NOT NULL,
  PRIMARY KEY (user_id, key)
) WITHOUT ROWID;

CREATE TABLE slices (
  id INTEGER PRIMARY KEY,
  job_id INTEGER NOT NULL,
  number INTEGER NOT NULL,
  resource TEXT NOT NULL,
  tag TEXT NOT NULL,
  shots INTEGER NOT NULL CHECK (shots > 0),
  first_shot INTEGER NOT NULL,
  seed INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('INTENT', 'RUNNING', 'DONE', 'FAILED', 'CANCELED', 'UNKNOWN')),
  device_id TEXT,
  intended_at REAL NOT NULL,
  started_at REAL,
  ended_at REAL,
  shots_done INTEGER NOT NULL DEFAULT 0,
  qpu_seconds REAL NOT NULL DEFAULT 0,
  setup_seconds REAL NOT NULL DEFAULT 0,
  counts TEXT,
  message TEXT NOT NULL DEFAULT '',
  spec_hash TEXT,
  UNIQUE (job_id, number)
);
CREATE INDEX slices_in_flight ON slices (resource) WHERE state IN ('INTENT', 'RUNNING', 'UNKNOWN');

CREATE TABLE ledger (
  id INTEGER PRIMARY KEY,
  at REAL NOT NULL,
  slice_id INTEGER NOT NULL UNIQUE,
  job_id INTEGER NOT NULL,
  session_id TEXT NOT NULL,
  user_id INTEGER NOT NULL,
  queue TEXT NOT NULL,
  resource TEXT NOT NULL,
  shots INTEGER NOT NULL,
  qpu_seconds REAL NOT NULL,
  setup_seconds REAL NOT NULL
);
CREATE TRIGGER ledger_never_changes BEFORE UPDATE ON ledger
  BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER ledger_never_shrinks BEFORE DELETE ON ledger
  BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;

CREATE TABLE events (id INTEGER PRIMARY KEY, job_id INTEGER NOT NULL, at REAL NOT NULL, text TEXT NOT NULL);
CREATE INDEX events_job ON events (job_id, id);

CREATE TABLE drains (
  resource TEXT PRIMARY KEY,
  reason TEXT NOT NULL,
  user TEXT NOT NULL,
  at REAL NOT NULL
) WITHOUT ROWID;

CREATE TABLE audit (
  id INTEGER PRIMARY KEY,
  at REAL NOT NULL,
  user TEXT NOT NULL,
  action TEXT NOT NULL,
  object TEXT NOT NULL,
  detail TEXT NOT NULL
);
"""

_V2 = """
ALTER TABLE sessions ADD COLUMN nodes INTEGER NOT NULL DEFAULT 1 CHECK (nodes >= 1);
ALTER TABLE sessions ADD COLUMN expected_classical_seconds REAL;
ALTER TABLE ledger ADD COLUMN account TEXT;
ALTER TABLE ledger ADD COLUMN slurm_job_id TEXT;
ALTER TABLE ledger ADD COLUMN wasted_shots INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledger ADD COLUMN wasted_seconds REAL NOT NULL DEFAULT 0;
CREATE INDEX ledger_at ON ledger (at);
ALTER TABLE drains ADD COLUMN is_down INTEGER NOT NULL DEFAULT 0 CHECK (is_down IN (0, 1));
CREATE TABLE reservations (
  name TEXT PRIMARY KEY,
  resource TEXT NOT NULL,
  starts_at REAL NOT NULL,
  ends_at REAL NOT NULL CHECK (ends_at > starts_at),
  accounts TEXT NOT NULL,
  users TEXT NOT NULL,
  duty TEXT NOT NULL,
  created_by TEXT NOT NULL,
  created_at REAL NOT NULL
) WITHOUT ROWID;
"""

_V3 = """
ALTER TABLE sessions ADD COLUMN slurm_started_at REAL;
"""

_V4 = """
-- malleable: held Slurm jobs, and the jobs after whose ends they are released
CREATE TABLE releases (
  slurm_job INTEGER NOT NULL,
  job_id INTEGER NOT NULL,
  user_id INTEGER NOT NULL,
  settled_at REAL,
  outcome TEXT,
  PRIMARY KEY (slurm_job, job_id),
  CHECK ((settled_at IS NULL) = (outcome IS NULL))
) WITHOUT ROWID;
CREATE INDEX releases_unsettled ON releases (slurm_job) WHERE settled_at IS NULL;
-- what qpud shows in Slurm
CREATE TABLE slurm_marks (
  kind TEXT NOT NULL CHECK (kind IN ('reservation', 'partition')),
  name TEXT NOT NULL,
  at REAL NOT NULL,
  PRIMARY KEY (kind, name)
) WITHOUT ROWID;
CREATE TABLE degradations (
  resource TEXT PRIMARY KEY,
  units INTEGER NOT NULL CHECK (units BETWEEN 1 AND 9),
  reason TEXT NOT NULL,
  user TEXT NOT NULL,
  at REAL NOT NULL
) WITHOUT ROWID;
-- sessions on Slurm's terms
ALTER TABLE sessions ADD COLUMN qos TEXT;
ALTER TABLE sessions ADD COLUMN slurm_priority INTEGER NOT NULL DEFAULT 0;
"""

MIGRATIONS = (_V1, _V2, _V3, _V4)


def schema_of(connection: sqlite3.Connection) -> int:
    """How many migrations a database has had; 0 if it is empty."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def require_old_enough(connection: sqlite3.Connection, way_back: str = "") -> None:
    """Refuse what this program cannot serve.

    Args:
        connection: The database.
        way_back: Follows the sentence about a database of a newer qpud.

    Raises:
        Unavailable: The SQLite library is too old, or a newer qpud wrote the database.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise Unavailable(f"SQLite {sqlite3.sqlite_version} is too old: qpud needs 3.34 or later")
    if (version := schema_of(connection)) > len(MIGRATIONS):
        raise Unavailable(
            f"the database has schema {version}, this qpud knows {len(MIGRATIONS)}: use a newer qpud{way_back}"
        )


def migrate(connection: sqlite3.Connection) -> None:
    """Bring a database to this version's schema, one transaction for each step.

    Raises:
        Unavailable: See `require_old_enough`.
    """
    require_old_enough(connection)
    for number in range(schema_of(connection), len(MIGRATIONS)):
        connection.executescript(f"BEGIN IMMEDIATE;{MIGRATIONS[number]}PRAGMA user_version = {number + 1};COMMIT;")
