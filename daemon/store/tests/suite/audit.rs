//! The audit log.

use control::{Actor, AuditClass, AuditEntry, Trace};
use model::{Code, Digest, Timestamp};
use store::{AuditCursor, AuditEnds, AuditPage, AuditRetention, AuditSeal, Store};

use crate::support::{Fresh, at, entry, on_both_engines, tenant_id};

on_both_engines! {
    entries_come_back_newest_first,
    pages_hold_every_entry_once,
    old_entries_are_pruned,
    entries_are_forgotten_by_class,
    nobody_has_entries_forgotten_before_their_time,
    entries_from_before_there_were_classes_hold,
    what_somebody_else_made_the_end_is_never_sealed,
    what_was_written_into_the_database_by_hand_is_found,
    two_replicas_chain_each_entry_once,
    a_sink_is_told_from_where_it_was,
}

/// Seals with one byte.
struct Key(u8);

impl AuditSeal for Key {
    fn seal(&self, what: &[u8]) -> Result<Vec<u8>, String> {
        Ok([&[self.0], what].concat())
    }

    fn fits(&self, what: &[u8], sealed: &[u8]) -> bool {
        self.seal(what).as_deref() == Ok(sealed)
    }
}

fn entries(page: AuditPage) -> Vec<AuditEntry> {
    page.rows.into_iter().map(|row| row.entry).collect()
}

async fn entries_come_back_newest_first(fresh: Fresh) {
    let store = fresh.open().await;
    let refused = AuditEntry {
        at: at(200),
        tenant: None,
        actor: Actor::Network("2001:db8::1".parse().expect("an address")),
        action: "session.create".into(),
        target: "bob'; DROP TABLE audit; --".into(),
        refused: Some(Code::Unauthenticated),
        detail: "wrong password \u{1f407}".into(),
        trace: Trace { source: "2001:db8::1".parse().ok(), request: Some("0123456789abcdef".into()) },
    };
    let mut hostile = entry("device.enrol", Some(tenant_id(1)));
    hostile.detail = "a\0b".into();
    store.append_audit(&hostile).await.expect("a NUL is no reason to lose it");
    store.append_audit(&refused).await.expect("appends");
    hostile.detail = "a\u{fffd}b".into();
    let page = async |tenant| store.audit_list(tenant, None, 10).await.expect("a page");
    assert_eq!(page(None).await.next, None);
    assert_eq!(entries(page(None).await), [refused, hostile.clone()]);
    assert_eq!(entries(page(Some(tenant_id(1))).await), [hostile]);
    assert_eq!(entries(page(Some(tenant_id(2))).await), []);
}

async fn pages_hold_every_entry_once(fresh: Fresh) {
    let store = fresh.open().await;
    for n in 0..7 {
        // Several in one microsecond.
        let mut entry = entry("test", None);
        (entry.at, entry.target) = (at(n / 3), n.to_string());
        store.append_audit(&entry).await.expect("appends");
    }
    let (mut seen, mut cursor, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = store.audit_list(None, cursor, 2).await.expect("a page");
        assert!(page.rows.len() <= 2);
        pages += 1;
        let next = page.next;
        seen.extend(entries(page));
        let Some(next) = next else { break };
        cursor = Some(next.to_string().parse::<AuditCursor>().expect("a cursor reads back"));
    }
    assert_eq!(pages, 4);
    assert!(seen.is_sorted_by(|newer, older| newer.at >= older.at));
    let mut targets: Vec<_> = seen.into_iter().map(|entry| entry.target).collect();
    targets.sort();
    assert_eq!(targets, ["0", "1", "2", "3", "4", "5", "6"]);
    for bad in ["", "1", "1.", ".x", "x.0190a3c4-7b1d-7c2e-9f00-2d6f5b8e1a34"] {
        assert!(bad.parse::<AuditCursor>().is_err(), "{bad}");
    }
}

async fn append(store: &Store, seconds: std::ops::Range<i64>) {
    for n in seconds {
        let mut entry = entry("test", None);
        entry.at = at(n);
        // Every other one came by a request.
        let request = (n % 2 == 1).then(|| format!("{n:016x}"));
        entry.trace = Trace { source: request.as_ref().map(|_| [192, 0, 2, 1].into()), request };
        store.append_audit(&entry).await.expect("appends");
    }
}

async fn chain(store: &Store) -> u32 {
    store.chain_audit(&Key(7)).await.expect("chains")
}

/// Where the chain is broken, if it is.
async fn broken(store: &Store) -> Option<(u64, &'static str)> {
    store.verify_audit(&Key(7)).await.expect("reads").broken
}

async fn prune(store: &Store, older_than: Timestamp, classes: &[(AuditClass, Timestamp)]) -> u64 {
    let kept = AuditRetention { all: older_than, classes: classes.iter().copied().collect() };
    store.prune_audit(&kept, &Key(7)).await.expect("prunes")
}

async fn old_entries_are_pruned(fresh: Fresh) {
    let store = fresh.open().await;
    append(&store, 0..5).await;
    assert_eq!(prune(&store, at(3), &[]).await, 0, "nothing is chained yet");
    assert_eq!(chain(&store).await, 5);
    assert_eq!(prune(&store, at(3), &[]).await, 3);
    let left: Vec<_> =
        entries(store.audit_list(None, None, 10).await.expect("a page")).iter().map(|e| e.at).collect();
    assert_eq!(left, [at(4), at(3)]);
    assert_eq!(broken(&store).await, None, "the rest hangs on what was forgotten");
    append(&store, 5..6).await;
    assert_eq!(chain(&store).await, 1);
    assert_eq!(prune(&store, at(99), &[]).await, 3, "all of them");
    append(&store, 6..7).await;
    chain(&store).await;
    let verdict = store.verify_audit(&Key(7)).await.expect("reads");
    assert_eq!((verdict.ends.sequence, verdict.ends.pruned_sequence, verdict.broken), (7, 6, None));
}

/// One entry a second, of the actions in turn; those named `refused` are.
async fn append_all(store: &Store, actions: &[&str]) {
    for (n, action) in actions.iter().enumerate() {
        let mut entry = entry(action, None);
        entry.at = at(n as i64 + 1);
        entry.refused = (*action == "refused").then_some(Code::Unauthenticated);
        store.append_audit(&entry).await.expect("appends");
    }
}

/// Numbers of the entries that are there.
async fn left(store: &Store) -> Vec<u64> {
    let rows = store.audit_after(None, 0, 100).await.expect("reads");
    rows.iter().filter_map(|row| row.link).map(|(number, _)| number).collect()
}

/// Of seven entries the first and the fifth are forgotten by class, the first wholly.
async fn with_classes(fresh: &Fresh) -> Store {
    let store = fresh.open().await;
    let actions = [
        "user.login",
        "device.enrol",
        "refused",
        "certificate.issue",
        "user.login",
        "user.logout",
        "tenant.create",
    ];
    append_all(&store, &actions).await;
    assert_eq!(prune(&store, at(0), &[(AuditClass::Login, at(6))]).await, 0, "nothing is chained yet");
    chain(&store).await;
    let digest = async |number| store.audit_digest(number).await.expect("reads");
    let (first, fifth) = (digest(1).await, digest(5).await);
    prune(&store, at(0), &[(AuditClass::Login, at(6)), (AuditClass::Refusal, at(3))]).await;
    assert_eq!(left(&store).await, [2, 3, 4, 6, 7], "a logout of the day and a refusal of the day stay");
    assert_eq!((digest(1).await, digest(5).await), (first, fifth), "what a sink has can be compared");
    assert_eq!(digest(8).await, None);
    store
}

async fn entries_are_forgotten_by_class(fresh: Fresh) {
    let store = with_classes(&fresh).await;
    let verdict = store.verify_audit(&Key(7)).await.expect("reads");
    assert_eq!((verdict.broken, verdict.entries, verdict.forgotten), (None, 5, 1), "the first went wholly");
    // What is old enough goes wholly, with what was left of others.
    assert_eq!(prune(&store, at(7), &[(AuditClass::Login, at(6))]).await, 5);
    assert_eq!((left(&store).await, broken(&store).await), (vec![7], None));
    assert_eq!(fresh.raw().await.count("SELECT COUNT(*) FROM audit_forgotten").await, 0);
}

async fn nobody_has_entries_forgotten_before_their_time(fresh: Fresh) {
    let store = with_classes(&fresh).await;
    let mut raw = fresh.raw().await;
    let (early, changed) = ("an entry was forgotten before its time", "an entry is not as it was written");
    // Not by taking one out …
    raw.run("INSERT INTO audit_forgotten SELECT sequence, at, class, content, hash FROM audit WHERE sequence = 6; \
             DELETE FROM audit WHERE sequence = 6").await;
    assert_eq!(broken(&store).await, Some((6, early)));
    raw.run("UPDATE audit_classes SET forgotten_until = forgotten_until + 60000000 WHERE class = 'login'")
        .await;
    assert_eq!(broken(&store).await, Some((5, early)), "the time is sealed");
    raw.run("UPDATE audit_classes SET forgotten_until = forgotten_until - 60000000 WHERE class = 'login'")
        .await;
    raw.run("UPDATE audit_forgotten SET class = 'refusal' WHERE sequence = 6").await;
    assert_eq!(broken(&store).await, Some((6, early)));
    raw.run("UPDATE audit_forgotten SET class = 'login', at = at - 9000000 WHERE sequence = 6").await;
    assert_eq!(broken(&store).await, Some((6, changed)));
    raw.run("DELETE FROM audit_forgotten WHERE sequence = 5").await;
    assert_eq!(broken(&store).await, Some((5, "an entry is missing")));
    // … nor by saying that they are old: then the server does not do it either.
    raw.run("UPDATE audit SET at = 0 WHERE sequence <= 4").await;
    let kept = AuditRetention { all: at(1), classes: [].into() };
    let refused = store.prune_audit(&kept, &Key(7)).await.map_err(|error| error.to_string());
    assert!(refused.as_ref().is_err_and(|error| error.contains("number 2: an entry is not")), "{refused:?}");
    assert_eq!((left(&store).await, broken(&store).await), (vec![2, 3, 4, 7], Some((2, changed))));
}

async fn entries_from_before_there_were_classes_hold(fresh: Fresh) {
    let store = fresh.open().await;
    append_all(&store, &["user.login"]).await;
    chain(&store).await;
    // What a program of before made of it: no class, and one digest of all columns.
    let row = store.audit_after(None, 0, 1).await.expect("reads").remove(0);
    let AuditEntry { at: when, actor, action, target, detail, .. } = row.entry;
    let text = |text: &str| [&(text.len() as u64).to_be_bytes(), text.as_bytes()].concat();
    let none = u64::MAX.to_be_bytes().to_vec();
    let texts = [
        text(&row.id.to_string()),
        none.clone(),
        text(&actor.to_string()),
        text(&action),
        text(&target),
        none,
        text(&detail),
    ];
    let number = [[0; 32].to_vec(), 1_u64.to_be_bytes().to_vec(), when.unix_micros().to_be_bytes().to_vec()];
    let parts: Vec<&[u8]> = number.iter().chain(&texts).map(Vec::as_slice).collect();
    let hash = Digest::of("warren audit 1", &parts);
    let ends = AuditEnds { sequence: 1, hash, pruned_sequence: 0, pruned_hash: Digest::from_bytes([0; 32]) };
    let bytes = |bytes: &[u8]| {
        let hex = data_encoding::HEXLOWER.encode(bytes);
        if fresh.directory.is_some() { format!("X'{hex}'") } else { format!("'\\x{hex}'") }
    };
    let (hash, sealed) = (bytes(hash.as_bytes()), bytes(&Key(7).seal(&ends.to_bytes()).expect("seals")));
    let mut raw = fresh.raw().await;
    raw.run("UPDATE audit SET class = NULL, content = NULL").await;
    assert_eq!(
        broken(&store).await,
        Some((1, "an entry is not as it was written")),
        "the digest says of which kind it is"
    );
    raw.run(&format!(
        "UPDATE audit SET hash = {hash}; UPDATE audit_head SET hash = {hash}, sealed = {sealed}"
    ))
    .await;
    assert_eq!(broken(&store).await, None);
    append(&store, 2..4).await;
    chain(&store).await;
    assert_eq!(
        prune(&store, at(0), &[(AuditClass::Login, at(99))]).await,
        0,
        "it goes with all of its age only"
    );
    assert_eq!(broken(&store).await, None);
    assert_eq!(prune(&store, at(3), &[(AuditClass::Login, at(99))]).await, 2);
    assert_eq!(broken(&store).await, None);
}

async fn what_somebody_else_made_the_end_is_never_sealed(fresh: Fresh) {
    let store = fresh.open().await;
    append(&store, 0..3).await;
    chain(&store).await;
    let mut raw = fresh.raw().await;
    // The newest entry is cut off, as if it had never been …
    raw.run(
        "DELETE FROM audit WHERE sequence = 3; UPDATE audit_head SET sequence = 2, \
             hash = (SELECT hash FROM audit WHERE sequence = 2)",
    )
    .await;
    let forged = "the end is not what the server sealed";
    assert_eq!(broken(&store).await, Some((2, forged)));
    // … and whatever follows, the server does not take that end for its own.
    append(&store, 3..5).await;
    assert_eq!(chain(&store).await, 2, "entries are numbered all the same");
    assert_eq!(broken(&store).await, Some((4, forged)));
    assert_eq!(prune(&store, at(1), &[]).await, 1);
    assert_eq!(broken(&store).await, Some((4, forged)));
    let ends = store.audit_ends(&Key(7)).await.expect("reads");
    assert_eq!(ends.map(|(ends, sealed)| (ends.sequence, sealed)), Some((4, false)));
}

/// The digest before the first entry.
const fn zero(fresh: &Fresh) -> &'static str {
    if fresh.directory.is_some() { "zeroblob(32)" } else { "decode(repeat('00', 32), 'hex')" }
}

async fn what_was_written_into_the_database_by_hand_is_found(fresh: Fresh) {
    let store = fresh.open().await;
    assert_eq!(broken(&store).await, None, "an empty log holds");
    append(&store, 0..6).await;
    assert_eq!((chain(&store).await, chain(&store).await), (6, 0));
    assert_eq!(broken(&store).await, None);
    let verdict = store.verify_audit(&Key(8)).await.expect("reads");
    assert_eq!(verdict.broken, Some((6, "the end is not what the server sealed")), "another key");
    let mut raw = fresh.raw().await;
    for (tamper, undo, expect) in [
        (
            "UPDATE audit SET actor = 'user:bob' WHERE sequence = 3",
            "UPDATE audit SET actor = 'user:alice' WHERE sequence = 3",
            (3, "an entry is not as it was written"),
        ),
        (
            "UPDATE audit SET tenant_id = '' WHERE sequence = 3",
            "UPDATE audit SET tenant_id = NULL WHERE sequence = 3",
            (3, "an entry is not as it was written"),
        ),
        (
            "UPDATE audit SET source = '192.0.2.2' WHERE sequence = 4",
            "UPDATE audit SET source = '192.0.2.1' WHERE sequence = 4",
            (4, "an entry is not as it was written"),
        ),
        (
            // One that came by no request gets one by hand.
            "UPDATE audit SET source = '192.0.2.1' WHERE sequence = 3",
            "UPDATE audit SET source = NULL WHERE sequence = 3",
            (3, "an entry is not as it was written"),
        ),
        (
            "UPDATE audit SET source = NULL, request = NULL WHERE sequence = 4",
            "UPDATE audit SET source = '192.0.2.1', request = '0000000000000003' WHERE sequence = 4",
            (4, "an entry is not as it was written"),
        ),
        (
            "UPDATE audit SET class = 'refusal' WHERE sequence = 4",
            "UPDATE audit SET class = 'change' WHERE sequence = 4",
            (4, "an entry is not as it was written"),
        ),
        (
            "UPDATE audit SET sequence = 99 WHERE sequence = 4",
            "UPDATE audit SET sequence = 4 WHERE sequence = 99",
            (4, "an entry is missing"),
        ),
        (
            "UPDATE audit_head SET pruned_sequence = 1, \
             pruned_hash = (SELECT hash FROM audit WHERE sequence = 1)",
            "UPDATE audit_head SET pruned_sequence = 0, pruned_hash = ZERO",
            (6, "the end is not what the server sealed"),
        ),
        (
            "UPDATE audit SET sequence = NULL WHERE sequence = 6",
            "UPDATE audit SET sequence = 6 WHERE sequence IS NULL",
            (6, "the newest entries are missing"),
        ),
        (
            "UPDATE audit SET sequence = NULL WHERE sequence = 6; UPDATE audit_head SET sequence = 5, \
             hash = (SELECT hash FROM audit WHERE sequence = 5)",
            "",
            (5, "the end is not what the server sealed"),
        ),
    ] {
        raw.run(tamper).await;
        assert_eq!(broken(&store).await, Some(expect), "{tamper}");
        raw.run(&undo.replace("ZERO", zero(&fresh))).await;
        assert!(undo.is_empty() || broken(&store).await.is_none(), "{undo}");
    }
}

pub(crate) async fn two_replicas_chain_each_entry_once(fresh: Fresh) {
    let (a, b) = (fresh.open().await, fresh.open().await);
    append(&a, 0..40).await;
    let (one, two) = tokio::join!(chain(&a), chain(&b));
    assert_eq!(one + two, 40, "{one} {two}");
    assert_eq!(broken(&a).await, None);
    let told = a.audit_after(None, 0, 100).await.expect("reads");
    let numbers: Vec<u64> = told.iter().filter_map(|row| row.link.map(|(sequence, _)| sequence)).collect();
    assert_eq!(numbers, (1..=40).collect::<Vec<_>>());
    assert!(told.is_sorted_by(|x, y| x.entry.at <= y.entry.at));
}

async fn a_sink_is_told_from_where_it_was(fresh: Fresh) {
    let store = fresh.open().await;
    append(&store, 0..4).await;
    chain(&store).await;
    prune(&store, at(1), &[]).await;
    assert_eq!(store.audit_sink("file").await.expect("reads"), 1, "what is forgotten is not to be had");
    store.audit_told("file", 1, 3).await.expect("writes");
    store.audit_told("file", 1, 2).await.expect("another replica was faster");
    assert_eq!(store.audit_sink("file").await.expect("reads"), 3);
    assert_eq!(store.audit_sink("webhook").await.expect("reads"), 1);
    store.rename_audit_sink("file", "file 2").await.expect("renames");
    assert_eq!(store.audit_sink("file 2").await.expect("reads"), 3, "it goes on from where it was");
    store.rename_audit_sink("webhook", "file 2").await.expect("nothing happens");
    assert_eq!(store.audit_sink("file 2").await.expect("reads"), 3, "one that is known is not another");
}
