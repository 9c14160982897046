//! Migrations, the snapshot before each, and what a database that cannot be used says.

use std::os::unix::fs::PermissionsExt as _;

use sqlx::{Connection as _, PgConnection};
use store::{Engine, Kind, OpenError, PoolFigures, RehearsalError, Store};

use crate::postgres::Cluster;
use crate::support::{Fresh, make_tenant, on_both_engines, rows_of};

on_both_engines! {
    an_empty_database_is_migrated_once,
    two_replicas_migrate_at_once,
    a_schema_that_is_too_new_is_refused,
    a_migration_that_fails_leaves_nothing,
    a_missing_migration_is_made_up_for,
    a_rehearsal_leaves_nothing,
    pools_count_their_connections,
}

/// All migrations, in order.
const NAMES: &[&str] = &[
    "directory",
    "people",
    "authorities",
    "abilities",
    "lease",
    "second-factors",
    "audit-chain",
    "hosts",
    "plain-peers",
    "device-life",
    "device-commands",
    "presence-facts",
    "requests",
    "revoked-by",
    "hub-ports",
    "audit-classes",
];
pub(crate) const NEWEST: u32 = NAMES.len() as u32;

/// Takes all migrations but the first back, as if the program that knew only that had left the database.
const BACK_TO_1: &str = "DROP TABLE audit_classes; DROP TABLE audit_forgotten; ALTER TABLE audit DROP COLUMN content; ALTER TABLE audit DROP COLUMN class; DROP TABLE keyed_requests; ALTER TABLE audit DROP COLUMN request; ALTER TABLE audit DROP COLUMN source; ALTER TABLE presence DROP COLUMN attached; ALTER TABLE presence DROP COLUMN facts; DROP TABLE device_commands; DROP TABLE lease; DROP TABLE ssh_installed; DROP TABLE ssh_host_keys; DROP TABLE ssh_administrators; DROP TABLE ssh_roles; DROP TABLE audit_sinks; DROP TABLE audit_head; DROP INDEX audit_unchained; DROP INDEX audit_sequence; \
                         ALTER TABLE audit DROP COLUMN hash; ALTER TABLE audit DROP COLUMN sequence; DROP TABLE recovery_codes; DROP TABLE second_factors; DROP TABLE authority_secrets; DROP TABLE authority_keys; DROP TABLE authorities; \
                         DROP TABLE revocations; DROP TABLE certificates; DROP TABLE serials; DROP TABLE settings; DROP TABLE setup; DROP TABLE api_tokens; DROP TABLE sessions; \
                         DROP TABLE users; ALTER TABLE devices DROP COLUMN kind; DROP INDEX tenants_hub_port; ALTER TABLE tenants DROP COLUMN hub_port; ALTER TABLE tenants DROP COLUMN quota; ALTER TABLE tenants DROP COLUMN closed_at; \
                         ALTER TABLE tenants DROP COLUMN erase_at; ALTER TABLE devices DROP COLUMN labels; ALTER TABLE devices DROP COLUMN expires_at; ALTER TABLE devices DROP COLUMN idle_seconds; \
                         ALTER TABLE devices DROP COLUMN lapse; ALTER TABLE tokens DROP COLUMN device_seconds; ALTER TABLE tokens DROP COLUMN idle_seconds; ALTER TABLE devices DROP COLUMN abilities; DELETE FROM migrations WHERE version >= 2";

pub(crate) async fn an_empty_database_is_migrated_once(fresh: Fresh) {
    let opened = Store::reach(&fresh.url).await.expect("it answers");
    assert_eq!(opened.pending().await.expect("reads"), *NAMES);
    let store = opened.migrate().await.expect("migrates");
    make_tenant(&store, 1).await;
    store.close().await;
    let opened = Store::reach(&fresh.url).await.expect("it answers");
    assert_eq!(opened.pending().await.expect("reads"), [""; 0]);
    let store = opened.migrate().await.expect("nothing to do");
    rows_of(&store, 1).await;
    let engine = if fresh.directory.is_some() { Engine::Sqlite } else { Engine::Postgres };
    assert_eq!(store.engine(), engine);
    assert_eq!(fresh.raw().await.count("SELECT COUNT(*) FROM migrations").await, i64::from(NEWEST));
}

pub(crate) async fn two_replicas_migrate_at_once(fresh: Fresh) {
    let (a, b, c) = tokio::join!(Store::open(&fresh.url), Store::open(&fresh.url), Store::open(&fresh.url));
    let (a, b, c) = (a.expect("a store"), b.expect("a store"), c.expect("a store"));
    make_tenant(&a, 1).await;
    rows_of(&b, 1).await;
    rows_of(&c, 1).await;
    if let Some(directory) = &fresh.directory {
        let snapshot = format!("sqlite:{}/warren.db.before-0002", directory.path().display());
        let snapshot = Store::reach(&snapshot).await.expect("it opens");
        assert_eq!(snapshot.pending().await.expect("reads"), NAMES[1..], "nobody wrote over it afterwards");
    }
}

async fn a_schema_that_is_too_new_is_refused(fresh: Fresh) {
    fresh.open().await.close().await;
    let mut raw = fresh.raw().await;
    // A later program added what this one need not know …
    raw.run("INSERT INTO migrations (version, name, needs, applied_at) VALUES (99, 'more', 4, 0)").await;
    make_tenant(&fresh.open().await, 1).await;
    // … and then took away what this one uses.
    raw.run("UPDATE migrations SET needs = 98 WHERE version = 99").await;
    let error = Store::open(&fresh.url).await.expect_err("too new");
    assert!(
        matches!(error, OpenError::Newer { found: 99, needs: 98, known } if known == NEWEST),
        "{error:?}"
    );
    assert!(error.to_string().contains("install the newer version"), "{error}");
}

async fn a_migration_that_fails_leaves_nothing(fresh: Fresh) {
    fresh.open().await.close().await;
    let mut raw = fresh.raw().await;
    raw.run(BACK_TO_1).await;
    raw.run("CREATE TABLE settings (mine TEXT)").await;
    let error = Store::open(&fresh.url).await.expect_err("the last table is in the way");
    assert!(
        matches!(&error, OpenError::Migration { version: 2, name: "people", source } if source.kind == Kind::Statement),
        "{error:?}"
    );
    assert_eq!(raw.count("SELECT COUNT(*) FROM migrations").await, 1);
    raw.run("CREATE TABLE users (free TEXT)").await;
}

pub(crate) async fn a_rehearsal_leaves_nothing(fresh: Fresh) {
    let store = fresh.open().await;
    make_tenant(&store, 1).await;
    store.close().await;
    let mut raw = fresh.raw().await;
    raw.run(BACK_TO_1).await;
    let opened = Store::reach(&fresh.url).await.expect("it answers");
    let (names, tenants) = opened.rehearse().await.expect("it would do");
    assert_eq!((&names[..], tenants), (&NAMES[1..], 1));
    assert_eq!(opened.pending().await.expect("reads"), NAMES[1..]);
    raw.run("CREATE TABLE settings (mine TEXT)").await;
    let error = opened.rehearse().await.expect_err("a table is in the way");
    assert!(matches!(error, RehearsalError::Migration(OpenError::Migration { version: 2, .. })), "{error:?}");
    raw.run("DROP TABLE settings").await;
    raw.run("UPDATE tenants SET block_v4 = 'nonsense'").await;
    let error = opened.rehearse().await.expect_err("no server could read that");
    assert!(matches!(error, RehearsalError::Read(_)), "{error:?}");
}

async fn a_missing_migration_is_made_up_for(fresh: Fresh) {
    let store = fresh.open().await;
    make_tenant(&store, 1).await;
    store.close().await;
    fresh.raw().await.run(BACK_TO_1).await;
    let store = fresh.open().await;
    rows_of(&store, 1).await;
    assert_eq!(store.users().await.expect("the table is back"), vec![]);
    let Some(directory) = &fresh.directory else { return };

    let snapshot = directory.path().join("warren.db.before-0002");
    let mode = |path: &std::path::Path| std::fs::metadata(path).expect("a file").permissions().mode() & 0o777;
    assert_eq!((mode(&snapshot), mode(&directory.path().join("warren.db"))), (0o600, 0o600));
    let mut names: Vec<_> = std::fs::read_dir(directory.path())
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .filter(|name| !name.ends_with("-wal") && !name.ends_with("-shm"))
        .collect();
    names.sort();
    let snapshots = (2..=NEWEST).map(|version| format!("warren.db.before-{version:04}"));
    let expected: Vec<_> = std::iter::once("warren.db".to_owned()).chain(snapshots).collect();
    assert_eq!(names, expected, "nothing half-made stays");
    // The snapshot is a whole database of the older schema.
    let kept = Store::reach(&format!("sqlite:{}", snapshot.display())).await.expect("it opens");
    assert_eq!(kept.pending().await.expect("reads"), NAMES[1..]);
    rows_of(&kept.migrate().await.expect("migrates"), 1).await;
}

pub(crate) async fn pools_count_their_connections(fresh: Fresh) {
    let store = fresh.open().await;
    let figures = store.figures();
    assert!(figures.open <= figures.max && figures.max <= 15, "{figures:?}");
    assert!((1..=15).contains(&figures.open) && figures.in_use <= figures.open, "{figures:?}");
    let busy: Vec<_> = (0..40)
        .map(|_| {
            tokio::spawn({
                let store = store.clone();
                async move { store.probe().await }
            })
        })
        .collect();
    for probe in busy {
        probe.await.expect("no panic").expect("the pool serves everybody in turn");
    }
    assert!(store.figures().open <= 15, "{:?}", store.figures());
    store.close().await;
    assert_eq!(store.figures(), PoolFigures { max: figures.max, ..PoolFigures::default() });
    assert!(store.probe().await.is_err_and(|e| e.kind == Kind::Unreachable));
}

#[tokio::test]
async fn sqlite_is_as_careful_as_promised() {
    let fresh = Fresh::sqlite();
    fresh.open().await;
    let mut raw = fresh.raw().await;
    let tables = "SELECT COUNT(*) FROM pragma_table_list WHERE schema = 'main' AND type = 'table' \
                  AND name NOT LIKE 'sqlite_%'";
    let strict = "SELECT COUNT(*) FROM pragma_table_list WHERE schema = 'main' AND strict = 1";
    assert!(raw.count(tables).await > 10);
    assert_eq!(raw.count(tables).await, raw.count(strict).await, "every table is STRICT");
    assert_eq!(raw.count("SELECT journal_mode = 'wal' FROM pragma_journal_mode").await, 1);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_named() {
    let fresh = Fresh::sqlite();
    let path = fresh.url.strip_prefix("sqlite:").expect("SQLite").to_owned();
    std::fs::write(&path, "this is a letter to my aunt, not a database of any kind. ".repeat(100))
        .expect("writes");
    let error = Store::open(&fresh.url).await.expect_err("no database");
    assert!(matches!(&error, OpenError::Database(e) if e.kind == Kind::Damaged), "{error:?}");
    let error = Store::open("sqlite:/nowhere/at/all/warren.db").await.expect_err("no directory");
    assert!(matches!(&error, OpenError::File { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_that_is_away_is_named() {
    let url = "postgres://warren@127.0.0.1:1/warren";
    let error = Store::open(url).await.expect_err("nobody listens there");
    assert!(matches!(&error, OpenError::Database(e) if e.kind == Kind::Unreachable), "{error:?}");
}

#[tokio::test]
async fn postgres_is_asked_for_tls_as_the_url_says() {
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
    let cluster = Cluster::start(&["--tls", &port.to_string()]);
    let (_, directory) = cluster.url.split_once("?host=").expect("the socket's place");
    let url = |host: &str, options: &str| format!("postgres://warren@{host}:{port}/postgres?{options}");
    let own = format!("sslrootcert={directory}/tls.crt");

    let store = Store::open(&url("localhost", &format!("sslmode=verify-full&{own}")))
        .await
        .expect("its own authority");
    let mut raw = PgConnection::connect(&cluster.url).await.expect("the unix socket");
    let encrypted = "SELECT COUNT(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                     WHERE ssl AND application_name = 'warren'";
    assert!(sqlx::query_scalar::<_, i64>(encrypted).fetch_one(&mut raw).await.expect("a count") >= 1);
    store.close().await;

    let public =
        Store::open(&url("localhost", "sslmode=verify-full")).await.expect_err("no public authority");
    assert!(matches!(&public, OpenError::Database(e) if e.kind == Kind::Unreachable), "{public:?}");
    let other = Store::open(&url("127.0.0.1", &format!("sslmode=verify-full&{own}"))).await;
    let other = other.expect_err("the certificate names localhost");
    assert!(matches!(&other, OpenError::Database(e) if e.kind == Kind::Unreachable), "{other:?}");
    Store::open(&url("127.0.0.1", &format!("sslmode=verify-ca&{own}"))).await.expect("any name will do");
    Store::open(&url("localhost", "sslmode=require")).await.expect("encrypted, to whomever");
}
