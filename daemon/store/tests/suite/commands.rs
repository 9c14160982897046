//! The queue of device commands: bounded, each answered once by its own device, and none without an end.

use std::time::Duration;

use control::Actor;
use model::id::CommandId;
use model::wire::Remark;
use model::{CommandKind, Timestamp};
use store::{COMMANDS_WAITING_MAX, CommandRow, CommandState, QueueError, Store, WaitingDevice};

use crate::support::{
    Fresh, at, audit_count, device, device_id, entry, make_tenant, on_both_engines, put, tenant_id,
};

on_both_engines! {
    commands_are_queued_sent_and_answered_once,
    commands_that_nobody_does_end,
    a_device_has_so_many_waiting_at_most,
}

fn command(n: u8, until: Timestamp) -> CommandRow {
    CommandRow {
        id: CommandId::from_bytes([n; 16]),
        tenant: tenant_id(1),
        device: device_id(1),
        kind: CommandKind::Report,
        state: CommandState::Queued,
        created_at: at(1),
        created_by: Actor::User(Remark::new("alice")),
        expires_at: until,
        sent_at: None,
        ended_at: None,
        detail: Remark::default(),
    }
}

async fn ground(fresh: &Fresh) -> Store {
    let store = fresh.open().await;
    let version = make_tenant(&store, 1).await;
    let facts = vec![control::Fact::Device(device(1)), control::Fact::Device(device(2))];
    put(&store, tenant_id(1), version, facts).await.expect("commits");
    store
}

async fn queue(store: &Store, row: &CommandRow) {
    store.queue_command(row, &entry("device.command", Some(row.tenant))).await.expect("queued");
}

async fn commands_are_queued_sent_and_answered_once(fresh: Fresh) {
    let store = ground(&fresh).await;
    let (first, second) = (command(1, at(500)), command(2, at(500)));
    queue(&store, &first).await;
    queue(&store, &second).await;
    let audits = audit_count(&store).await;
    assert_eq!(
        store.waiting_commands(device_id(1), at(2)).await.expect("reads"),
        [first.clone(), second.clone()]
    );
    assert_eq!(store.waiting_commands(device_id(2), at(2)).await.expect("reads"), [], "they are another's");
    let both = WaitingDevice { device: device_id(1), newest: second.id, count: 2 };
    assert_eq!(store.devices_with_commands(at(2)).await.expect("reads"), [both]);
    store.command_sent(first.id, at(3)).await.expect("noted");
    store.command_sent(first.id, at(4)).await.expect("once");
    let sent = CommandRow { state: CommandState::Sent, sent_at: Some(at(3)), ..first.clone() };
    assert_eq!(
        store.waiting_commands(device_id(1), at(4)).await.expect("reads"),
        [sent.clone(), second.clone()]
    );

    let said = entry("device.command-done", None);
    let done = async |device, id, failed: Option<&Remark>| {
        store.command_done(device, id, failed, &said).await.expect("the database answers")
    };
    assert!(!done(device_id(2), first.id, None).await, "it is another device's");
    assert!(done(device_id(1), first.id, None).await);
    assert_eq!(
        store.devices_with_commands(at(4)).await.expect("reads"),
        [WaitingDevice { count: 1, ..both }]
    );
    assert!(!done(device_id(1), first.id, Some(&Remark::new("no"))).await, "it is done");
    let why = Remark::new("unknown");
    assert!(done(device_id(1), second.id, Some(&why)).await);
    assert_eq!(audit_count(&store).await, audits + 2, "what changes nothing is no entry");
    let ended = Some(said.at);
    let all = store.device_commands(device_id(1)).await.expect("reads");
    let failed = CommandRow { state: CommandState::Failed, ended_at: ended, detail: why, ..second };
    assert_eq!(all, [failed, CommandRow { state: CommandState::Done, ended_at: ended, ..sent }]);
    assert_eq!(store.waiting_commands(device_id(1), at(4)).await.expect("reads"), []);
    assert_eq!(store.devices_with_commands(at(4)).await.expect("reads"), []);
    assert_eq!(store.prune_commands(said.at).await.expect("prunes"), 0);
    assert_eq!(store.prune_commands(said.at + Duration::from_secs(1)).await.expect("prunes"), 2);
}

async fn commands_that_nobody_does_end(fresh: Fresh) {
    let store = ground(&fresh).await;
    let (short, long) = (command(1, at(50)), command(2, at(500)));
    queue(&store, &short).await;
    queue(&store, &long).await;
    let audits = audit_count(&store).await;
    let note = |row: &CommandRow| {
        assert_eq!(row.id, short.id);
        entry("device.command-expired", Some(row.tenant))
    };
    assert_eq!(
        store.waiting_commands(device_id(1), at(50)).await.expect("reads"),
        [long],
        "nobody is told any more"
    );
    assert_eq!(store.expire_commands(at(49), note).await.expect("looks"), 0);
    assert_eq!(store.expire_commands(at(50), note).await.expect("looks"), 1);
    assert_eq!(store.expire_commands(at(51), note).await.expect("looks"), 0, "once");
    assert_eq!(audit_count(&store).await, audits + 1);
    let late = store.command_done(device_id(1), short.id, None, &entry("late", None)).await;
    assert!(!late.expect("the database answers"), "it is over");
    let all = store.device_commands(device_id(1)).await.expect("reads");
    assert_eq!((all[1].state, all[1].ended_at), (CommandState::Expired, Some(at(50))));
}

async fn a_device_has_so_many_waiting_at_most(fresh: Fresh) {
    let store = ground(&fresh).await;
    for n in 0..COMMANDS_WAITING_MAX {
        queue(&store, &command(u8::try_from(n).expect("few"), at(50))).await;
    }
    let more = command(200, at(50));
    let refused = store.queue_command(&more, &entry("device.command", None)).await;
    assert!(matches!(refused, Err(QueueError::Full)), "{refused:?}");
    let other = CommandRow { device: device_id(2), ..more.clone() };
    queue(&store, &other).await;
    store.expire_commands(at(50), |_| entry("device.command-expired", None)).await.expect("ends");
    queue(&store, &CommandRow { id: CommandId::from_bytes([201; 16]), ..more }).await;
}
