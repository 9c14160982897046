//! The audit log.

use control::{Actor, AuditEntry};
use model::Code;
use store::AuditCursor;

use crate::support::{Fresh, at, entry, on_both_engines, tenant_id};

on_both_engines! {
    entries_come_back_newest_first,
    pages_hold_every_entry_once,
    old_entries_are_pruned,
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
    };
    let mut hostile = entry("device.enrol", Some(tenant_id(1)));
    hostile.detail = "a\0b".into();
    store.append_audit(&hostile).await.expect("a NUL is no reason to lose it");
    store.append_audit(&refused).await.expect("appends");
    hostile.detail = "a\u{fffd}b".into();
    let page = store.audit_list(None, None, 10).await.expect("a page");
    assert_eq!((page.entries, page.next), (vec![refused, hostile.clone()], None));
    let page = store.audit_list(Some(tenant_id(1)), None, 10).await.expect("a page");
    assert_eq!(page.entries, vec![hostile]);
    assert_eq!(store.audit_list(Some(tenant_id(2)), None, 10).await.expect("a page").entries, vec![]);
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
        assert!(page.entries.len() <= 2);
        seen.extend(page.entries);
        pages += 1;
        let Some(next) = page.next else { break };
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

async fn old_entries_are_pruned(fresh: Fresh) {
    let store = fresh.open().await;
    for n in 0..5 {
        let mut entry = entry("test", None);
        entry.at = at(n);
        store.append_audit(&entry).await.expect("appends");
    }
    assert_eq!(store.prune_audit(at(3)).await.expect("prunes"), 3);
    let left: Vec<_> =
        store.audit_list(None, None, 10).await.expect("a page").entries.iter().map(|e| e.at).collect();
    assert_eq!(left, [at(4), at(3)]);
}
