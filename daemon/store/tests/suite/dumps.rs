//! A dump of either engine fills either engine, and what comes out is what went in, less what a restore forgets.

use std::collections::{BTreeMap, BTreeSet};

use control::Fact;
use model::{Epoch, Standing};
use sqlx::Connection as _;
use store::{After, DumpOf, OpenError, Page, RefillError, Store};

use crate::schema::NEWEST;
use crate::support::{
    Fresh, Raw, at, audit_count, device, entry, hub, make_tenant, on_both_engines, put, record, rows_of,
    token,
};

on_both_engines! {
    a_dump_has_every_table,
    what_comes_out_of_either_engine_is_what_went_in,
    rows_that_do_not_fit_leave_nothing,
    what_is_there_is_moved_aside_or_not_touched,
    a_dump_is_of_one_moment,
    programs_of_before_are_kept_from_what_a_dump_brings,
}

/// What no dump has.
const LEFT_OUT: [&str; 5] = ["changes", "keyed_requests", "migrations", "sessions", "setup"];

async fn names_of_tables(raw: &mut Raw) -> BTreeSet<String> {
    let (sqlite, postgres) = (
        "SELECT name FROM sqlite_schema WHERE type = 'table'",
        "SELECT table_name::text FROM information_schema.tables WHERE table_schema = current_schema()",
    );
    let names: Vec<String> = match raw {
        Raw::Sqlite(connection) => sqlx::query_scalar(sqlite).fetch_all(&mut **connection).await,
        Raw::Postgres(connection) => sqlx::query_scalar(postgres).fetch_all(&mut **connection).await,
    }
    .expect("names");
    names.into_iter().collect()
}

async fn pages(store: &Store, of: DumpOf) -> Vec<Page> {
    let mut dump = store.dump(of).await.expect("begins");
    let mut pages = Vec::new();
    while let Some(page) = dump.next().await.expect("a page") {
        pages.push(page);
    }
    pages
}

/// A database with something of everything that refers to something else, and more entries than a page has.
async fn peopled(fresh: &Fresh) -> Store {
    let store = fresh.open().await;
    let version = make_tenant(&store, 1).await;
    let facts = vec![
        Fact::Device(device(1)),
        Fact::Device(device(2)),
        Fact::Token(token(3, 4)),
        Fact::Record(record("www.tenant1.internal", "TXT", "ü \u{2713} \\ \" '")),
        Fact::Hub(hub()),
    ];
    put(&store, model::TenantId::from_bytes([1; 16]), version, facts).await.expect("put");
    for _ in 0..600 {
        store.append_audit(&entry("test", None)).await.expect("appended");
    }
    let mut raw = fresh.raw().await;
    for sql in [
        "INSERT INTO users (id, name, role, created_at) VALUES ('u1', 'ada', 'super-admin', 5)",
        "INSERT INTO recovery_codes (user_id, digest) VALUES ('u1', CAST('abc' AS /*bytes*/))",
        "INSERT INTO api_tokens (id, user_id, label, digest, role, created_at, expires_at) \
         VALUES ('t1', 'u1', 'ci', CAST('abc' AS /*bytes*/), 'viewer', 1, 9000000000000000000)",
    ] {
        let bytes = if fresh.directory.is_some() { "BLOB" } else { "BYTEA" };
        raw.run(&sql.replace("/*bytes*/", bytes)).await;
    }
    store
}

async fn refilled(pages: &[Page], into: &Fresh) -> Store {
    let opened = Store::reach(&into.url).await.expect("reached");
    let mut refill = opened.refill(NEWEST, None).await.expect("begins");
    for page in pages {
        assert_eq!(refill.page(&page.text).await.expect("fits"), page.rows);
    }
    let after = After { epoch_least: Epoch(7), serials_from: 1 << 40 };
    let epoch = refill.finish(&after, &entry("server.restored", None)).await.expect("true");
    assert_eq!(epoch, Epoch(7));
    opened.migrate().await.expect("of the newest schema")
}

/// The rows by table, but for what a restore changes.
fn kept(pages: Vec<Page>) -> BTreeMap<&'static str, Vec<String>> {
    let mut kept: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for page in pages {
        let lines = String::from_utf8(page.text).expect("text");
        kept.entry(page.table).or_default().extend(lines.lines().skip(1).map(ToOwned::to_owned));
    }
    for changed in ["server", "serials", "lease", "tokens", "api_tokens", "audit"] {
        kept.remove(changed);
    }
    kept
}

async fn a_dump_has_every_table(fresh: Fresh) {
    let store = peopled(&fresh).await;
    let there = names_of_tables(&mut fresh.raw().await).await;
    let mut raw = fresh.raw().await;
    let mut dumped: BTreeSet<String> = LEFT_OUT.map(ToOwned::to_owned).into();
    // One row in each table would need all of their rules; that each is asked for shows in what is refused without it.
    for table in &there {
        if !dumped.contains(table) {
            raw.run(&format!("ALTER TABLE {table} RENAME TO hidden")).await;
            let mut dump = store.dump(DumpOf::Everything).await;
            let failed = match &mut dump {
                Err(OpenError::Database(_)) => true,
                Err(error) => panic!("{table}: {error}"),
                Ok(dump) => loop {
                    match dump.next().await {
                        Ok(Some(_)) => {}
                        Ok(None) => break false,
                        Err(_) => break true,
                    }
                },
            };
            drop(dump);
            raw.run(&format!("ALTER TABLE hidden RENAME TO {table}")).await;
            assert!(failed, "table {table} is in no backup: add it to TABLES in portable.rs, or to LEFT_OUT");
            dumped.insert(table.clone());
        }
    }
    assert_eq!(dumped, there);
}

async fn what_comes_out_of_either_engine_is_what_went_in(fresh: Fresh) {
    let store = peopled(&fresh).await;
    let before = pages(&store, DumpOf::Everything).await;
    assert!(before.iter().filter(|page| page.table == "audit").count() > 1, "more than a page");
    for into in [Fresh::sqlite(), Fresh::postgres().await] {
        let again = refilled(&before, &into).await;
        assert_eq!(kept(pages(&again, DumpOf::Everything).await), kept(before.clone()));
        assert_eq!(rows_of(&again, 1).await.devices, rows_of(&store, 1).await.devices);
        assert_eq!(audit_count(&again).await, audit_count(&store).await + 1);
        let tokens = rows_of(&again, 1).await.tokens;
        assert!(tokens.iter().all(|token| token.revoked_at == Some(at(100))), "{tokens:?}");
        let mut raw = into.raw().await;
        assert_eq!(raw.count("SELECT COUNT(*) FROM api_tokens WHERE revoked_at IS NULL").await, 0);
        let (epoch, serials) = again.reserve_serials(1).await.expect("reserved");
        assert_eq!((epoch, serials.start > 1 << 40), (Epoch(7), true));
        assert_eq!(rows_of(&again, 1).await.version.epoch, Epoch(7));
    }
    let keys = pages(&store, DumpOf::SshCa).await;
    assert!(keys.iter().all(|page| !["users", "devices", "audit"].contains(&page.table)), "keys alone");
    assert!(keys.iter().any(|page| page.table == "directories"), "and anchors");
}

async fn programs_of_before_are_kept_from_what_a_dump_brings(fresh: Fresh) {
    let postgres = fresh.directory.is_none();
    let bytes = if postgres { "BYTEA" } else { "BLOB" };
    let factor = format!(
        "INSERT INTO second_factors (user_id, sealed, last_step, confirmed_at) VALUES ('u1', CAST('abc' AS {bytes}), 0, 5)"
    );
    let unconfirmed = factor.replace("0, 5)", "0, NULL)");
    let of_one_tenant = "UPDATE users SET tenant_id = (SELECT tenant_id FROM directories)".to_owned();
    let port = "UPDATE tenants SET hub_port = 51821".to_owned();
    for (sql, factors, ports) in
        [(unconfirmed, 4, 10), (factor, 6, 10), (of_one_tenant, 6, 10), (port, 4, 15)]
    {
        let another = async || if postgres { Fresh::postgres().await } else { Fresh::sqlite() };
        let source = another().await;
        let store = peopled(&source).await;
        // Past the store, which would note it: what a dump is filled into has its steps of its own.
        source.raw().await.run(&sql).await;
        let into = another().await;
        refilled(&pages(&store, DumpOf::Everything).await, &into).await;
        let mut raw = into.raw().await;
        assert_eq!(raw.count("SELECT needs FROM migrations WHERE version = 6").await, factors, "{sql}");
        assert_eq!(raw.count("SELECT needs FROM migrations WHERE version = 15").await, ports, "{sql}");
    }
}

async fn rows_that_do_not_fit_leave_nothing(fresh: Fresh) {
    let source = Fresh::sqlite();
    let page = pages(&peopled(&source).await, DumpOf::Everything).await.remove(0);
    let opened = Store::reach(&fresh.url).await.expect("reached");
    let newer = opened.refill(99, None).await.err();
    assert!(matches!(newer, Some(RefillError::Newer { found: 99, .. })), "{newer:?}");
    for bad in [
        &b""[..],
        b"{}",
        b"{\"table\":\"nothing\",\"columns\":[\"id\"]}\n[1]",
        b"{\"table\":\"server\",\"columns\":[\"id; DROP TABLE server\"]}\n[1]",
        b"{\"table\":\"server\",\"columns\":[\"id\",\"epoch\",\"probes\"]}\n[1,2]",
        b"{\"table\":\"server\",\"columns\":[\"id\",\"epoch\",\"probes\"]}\n[1,\"two\",3]",
    ] {
        let mut refill = opened.refill(NEWEST, None).await.expect("begins");
        let refused = refill.page(bad).await.expect_err("does not fit");
        assert!(matches!(refused, RefillError::Page(_)), "{refused}");
    }
    let mut refill = opened.refill(NEWEST, None).await.expect("begins");
    refill.page(&page.text).await.expect("fits");
    let twice = refill.page(&page.text).await.expect_err("twice");
    assert!(matches!(twice, RefillError::Read(_)), "{twice}");
    drop(refill);
    assert!(opened.is_empty().await.expect("looked"), "nothing stayed");
}

async fn what_is_there_is_moved_aside_or_not_touched(fresh: Fresh) {
    let source = Fresh::sqlite();
    let pages = pages(&peopled(&source).await, DumpOf::Everything).await;
    make_tenant(&fresh.open().await, 2).await;
    let opened = Store::reach(&fresh.url).await.expect("reached");
    assert_eq!(opened.epoch().await.expect("read"), Some(Epoch(1)));
    let refused = opened.refill(NEWEST, None).await.err();
    assert!(matches!(refused, Some(RefillError::NotEmpty)), "{refused:?}");
    if fresh.directory.is_some() {
        return;
    }
    let mut refill = opened.refill(NEWEST, Some("before_1")).await.expect("begins");
    for page in &pages {
        refill.page(&page.text).await.expect("fits");
    }
    refill.finish(&After::default(), &entry("server.restored", None)).await.expect("true");
    let mut raw = fresh.raw().await;
    assert_eq!(raw.count("SELECT COUNT(*) FROM tenants WHERE name = 'tenant1'").await, 1);
    assert_eq!(raw.count("SELECT COUNT(*) FROM before_1.tenants WHERE name = 'tenant2'").await, 1);
}

pub(crate) async fn a_dump_is_of_one_moment(fresh: Fresh) {
    let store = peopled(&fresh).await;
    let mut dump = store.dump(DumpOf::Everything).await.expect("begins");
    let first = dump.next().await.expect("read").expect("a page");
    assert_eq!(first.table, "server");
    let version = rows_of(&store, 1).await.version;
    let gone = control::Device { standing: Standing::Revoked, revoked_at: Some(at(50)), ..device(1) };
    let tenant = model::TenantId::from_bytes([1; 16]);
    put(&store, tenant, version, vec![Fact::Device(gone)]).await.expect("put");
    let mut devices = String::new();
    while let Some(page) = dump.next().await.expect("read") {
        if page.table == "devices" {
            devices = String::from_utf8(page.text).expect("text");
        }
    }
    assert!(devices.contains("active") && !devices.contains("revoked\""), "{devices}");
}

/// A database of its own can be reached while another program of ours has it open; it says so.
#[tokio::test]
async fn who_has_a_database_open_is_counted() {
    let fresh = Fresh::postgres().await;
    let serving = fresh.open().await;
    let opened = Store::reach_with(&fresh.url, 1).await.expect("reached");
    assert!(opened.others().await.expect("counted") > 0);
    serving.close().await;
    let Raw::Postgres(connection) = fresh.raw().await else { panic!("of PostgreSQL") };
    connection.close().await.expect("closed");
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while opened.others().await.expect("counted") > 0 {
        assert!(std::time::Instant::now() < end, "a closed connection is still counted");
        tokio::task::yield_now().await;
    }
}
