//! Everything that SQLite and PostgreSQL say differently. One statement text serves both elsewhere.

use crate::sql::{Engine, Sql};

/// A beginning of PostgreSQL, with what the transaction is cut off after: our statements take milliseconds, migrations lift
/// it, and a replica stopped in the middle of one must not block the others for long. With each transaction, because a
/// session may be lent for no longer than that (pgbouncer).
macro_rules! within_limits {
    ($begin:literal, $idle:literal) => {
        concat!(
            $begin,
            "; SET LOCAL statement_timeout = '10s'; SET LOCAL lock_timeout = '5s'; \
             SET LOCAL idle_in_transaction_session_timeout = '",
            $idle,
            "'"
        )
    };
}

/// How a write begins. SQLite takes its one writer's place at once, so that no read inside it grows stale.
pub(crate) const BEGIN_WRITE: Sql =
    Sql { sqlite: "BEGIN IMMEDIATE", postgres: within_limits!("BEGIN", "15s") };

/// How what concerns the lease begins: a replica that is stopped in the middle of it must not keep it from the others, who may
/// have it six seconds later.
pub(crate) const BEGIN_ASIDE: Sql =
    Sql { sqlite: BEGIN_WRITE.sqlite, postgres: within_limits!("BEGIN", "2s") };

/// How a read begins: all its statements see one moment. In WAL mode SQLite's plain transactions do.
pub(crate) const BEGIN_READ: Sql = Sql {
    sqlite: "BEGIN",
    postgres: within_limits!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "15s"),
};

/// Lets one replica at a time migrate. In SQLite `BEGIN IMMEDIATE` did. The number is Warren's own.
/// Answers a row, and a migration may take as long as it needs.
pub(crate) const MIGRATION_LOCK: Sql = Sql {
    sqlite: "SELECT 1",
    postgres: "SELECT set_config('statement_timeout', '0', true), set_config('lock_timeout', '0', true), \
               pg_advisory_xact_lock(8246137205117)",
};

/// Whether the migrations table is there: one row or none.
pub(crate) const MIGRATIONS_TABLE: Sql = Sql {
    sqlite: "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'migrations'",
    postgres: "SELECT 1 FROM information_schema.tables \
               WHERE table_schema = current_schema() AND table_name = 'migrations'",
};

/// The columns of a table, in order: `name` and `type`. No row: there is no such table.
pub(crate) const COLUMNS: Sql = Sql {
    sqlite: "SELECT name, type FROM pragma_table_info($1) ORDER BY cid",
    postgres: "SELECT column_name::text AS name, data_type::text AS type FROM information_schema.columns \
               WHERE table_schema = current_schema() AND table_name = $1 ORDER BY ordinal_position",
};

/// Every table.
pub(crate) const TABLES: Sql = Sql {
    sqlite: "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name",
    postgres: "SELECT table_name::text AS name FROM information_schema.tables \
               WHERE table_schema = current_schema() AND table_type = 'BASE TABLE' ORDER BY table_name",
};

/// How many other programs of ours have the database open: each says its name when it connects.
pub(crate) const OTHERS: Sql = Sql {
    sqlite: "SELECT 0 AS count",
    postgres: "SELECT count(*) AS count FROM pg_stat_activity WHERE application_name = 'warren' \
               AND datname = current_database() AND state IS NOT NULL \
               AND backend_type = 'client backend' AND pid <> pg_backend_pid()",
};

/// One tenant is created at a time, so that two new blocks cannot overlap. SQLite has one writer anyway.
pub(crate) const LOCK_SERVER: Sql = Sql {
    sqlite: "SELECT epoch FROM server WHERE id = 1",
    postgres: "SELECT epoch FROM server WHERE id = 1 FOR UPDATE",
};

/// Holds a device as it is until the transaction ends: whoever revokes it comes before or after. SQLite has one writer.
pub(crate) const HOLD_DEVICE: Sql = Sql {
    sqlite: "SELECT 1 FROM devices WHERE id = $1 AND tenant_id = $2 AND standing = 'active'",
    postgres: "SELECT 1 FROM devices WHERE id = $1 AND tenant_id = $2 AND standing = 'active' FOR SHARE",
};

/// The same for a person.
pub(crate) const HOLD_USER: Sql = Sql {
    sqlite: "SELECT 1 FROM users WHERE id = $1 AND disabled_at IS NULL",
    postgres: "SELECT 1 FROM users WHERE id = $1 AND disabled_at IS NULL FOR SHARE",
};

/// Takes or prolongs the lease: one row with the term, or none while it is another's. Microseconds by the clock of the
/// database, read anew after waiting for the row.
pub(crate) const HOLD_LEASE: Sql = Sql {
    sqlite: "UPDATE lease SET \
                 term = CASE WHEN holder = $1 AND term = $3 THEN term ELSE term + 1 END, \
                 holder = $1, expires_at = CAST(unixepoch('subsec') * 1000000 AS INTEGER) + $2 \
             WHERE id = 1 AND (holder = $1 OR expires_at <= unixepoch('subsec') * 1000000) RETURNING holder, term",
    postgres: "UPDATE lease SET \
                   term = CASE WHEN holder = $1 AND term = $3 THEN term ELSE term + 1 END, \
                   holder = $1, expires_at = (extract(epoch FROM clock_timestamp()) * 1000000)::bigint + $2 \
               WHERE id = 1 AND (holder = $1 OR expires_at <= extract(epoch FROM clock_timestamp()) * 1000000) \
               RETURNING holder, term",
};

/// Presence as one JSON array, so that a batch is one round trip. A device that is not there is passed over; a later
/// word of another replica stays.
pub(crate) const SAVE_PRESENCE: Sql = Sql {
    sqlite: "INSERT INTO presence (device_id, last_seen, held_epoch, held_generation, held_digest, settled, software, address, attached, facts) \
             SELECT d.id, j.value ->> 'last_seen', j.value ->> 'held_epoch', j.value ->> 'held_generation', \
                    j.value ->> 'held_digest', j.value ->> 'settled', j.value ->> 'software', j.value ->> 'address', \
                    j.value ->> 'attached', j.value ->> 'facts' \
             FROM json_each($1) AS j \
             JOIN devices AS d ON d.id = j.value ->> 'device_id' AND d.tenant_id = j.value ->> 'tenant_id' \
             WHERE TRUE \
             ON CONFLICT (device_id) DO UPDATE SET \
                 last_seen = excluded.last_seen, held_epoch = excluded.held_epoch, \
                 held_generation = excluded.held_generation, held_digest = excluded.held_digest, \
                 settled = excluded.settled, software = excluded.software, address = excluded.address, \
                 attached = excluded.attached, facts = excluded.facts \
             WHERE excluded.last_seen >= presence.last_seen",
    postgres: "INSERT INTO presence (device_id, last_seen, held_epoch, held_generation, held_digest, settled, software, address, attached, facts) \
               SELECT d.id, j.last_seen, j.held_epoch, j.held_generation, j.held_digest, j.settled, j.software, j.address, j.attached, j.facts \
               FROM jsonb_to_recordset($1::jsonb) AS j (tenant_id TEXT, device_id TEXT, last_seen BIGINT, \
                   held_epoch BIGINT, held_generation BIGINT, held_digest TEXT, settled BOOLEAN, software TEXT, address TEXT, attached BOOLEAN, facts TEXT) \
               JOIN devices AS d ON d.id = j.device_id AND d.tenant_id = j.tenant_id \
               ON CONFLICT (device_id) DO UPDATE SET \
                   last_seen = excluded.last_seen, held_epoch = excluded.held_epoch, \
                   held_generation = excluded.held_generation, held_digest = excluded.held_digest, \
                   settled = excluded.settled, software = excluded.software, address = excluded.address, \
                 attached = excluded.attached, facts = excluded.facts \
               WHERE excluded.last_seen >= presence.last_seen",
};

/// A migration's text for an engine. SQLite's STRICT tables know five types (https://www.sqlite.org/stricttables.html).
pub(crate) fn schema(text: &str, engine: Engine) -> String {
    match engine {
        Engine::Postgres => text.to_owned(),
        Engine::Sqlite => text
            .replace("BIGINT", "INTEGER")
            .replace("BOOLEAN", "INTEGER")
            .replace("BYTEA", "BLOB")
            .replace("/* STRICT */", "STRICT"),
    }
}
