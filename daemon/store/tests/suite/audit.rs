//! The audit log.

use control::{Actor, AuditEntry, Trace};
use model::Code;
use store::{AuditCursor, AuditEnds, AuditPage, AuditSeal, Store};

use crate::support::{Fresh, at, entry, on_both_engines, tenant_id};

on_both_engines! {
    entries_come_back_newest_first,
    pages_hold_every_entry_once,
    old_entries_are_pruned,
    what_was_written_into_the_database_by_hand_is_found,
    two_replicas_chain_each_entry_once,
    a_sink_is_told_from_where_it_was,
}

/// Seals with one byte.
struct Key(u8);

impl AuditSeal for Key {
    fn seal(&self, ends: &AuditEnds) -> Result<Vec<u8>, String> {
        Ok([vec![self.0], ends.to_bytes()].concat())
    }

    fn fits(&self, ends: &AuditEnds, sealed: &[u8]) -> bool {
        self.seal(ends).as_deref() == Ok(sealed)
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

async fn old_entries_are_pruned(fresh: Fresh) {
    let store = fresh.open().await;
    append(&store, 0..5).await;
    assert_eq!(store.prune_audit(at(3), &Key(7)).await.expect("prunes"), 0, "nothing is chained yet");
    assert_eq!(chain(&store).await, 5);
    assert_eq!(store.prune_audit(at(3), &Key(7)).await.expect("prunes"), 3);
    let left: Vec<_> =
        entries(store.audit_list(None, None, 10).await.expect("a page")).iter().map(|e| e.at).collect();
    assert_eq!(left, [at(4), at(3)]);
    assert_eq!(broken(&store).await, None, "the rest hangs on what was forgotten");
    append(&store, 5..6).await;
    assert_eq!(chain(&store).await, 1);
    assert_eq!(store.prune_audit(at(99), &Key(7)).await.expect("prunes"), 3, "all of them");
    append(&store, 6..7).await;
    chain(&store).await;
    let verdict = store.verify_audit(&Key(7)).await.expect("reads");
    assert_eq!((verdict.ends.sequence, verdict.ends.pruned_sequence, verdict.broken), (7, 6, None));
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
        let zero = if fresh.directory.is_some() { "zeroblob(32)" } else { "decode(repeat('00', 32), 'hex')" };
        raw.run(tamper).await;
        assert_eq!(broken(&store).await, Some(expect), "{tamper}");
        raw.run(&undo.replace("ZERO", zero)).await;
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
    store.prune_audit(at(1), &Key(7)).await.expect("prunes");
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
