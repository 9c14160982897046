//! Saved presence.

use control::{Fact, PresenceRow};
use model::wire::{Facts, Remark};
use model::{Digest, Epoch, Generation, Held, Version};

use crate::support::{Fresh, at, device, device_id, make_tenant, on_both_engines, put, tenant_id};

on_both_engines! {
    presence_survives,
    many_devices_are_saved_at_once,
}

fn row(n: u8) -> PresenceRow {
    let version = Version { epoch: Epoch(3), generation: Generation(1 << 40) };
    PresenceRow {
        tenant: tenant_id(1),
        device: device_id(n),
        last_seen: at(10),
        held: Some(Held { version, digest: Digest::of("test", &[&[n]]) }),
        settled: true,
        software: Remark::new("warren-agent \"0.1\" 'x'"),
        address: Some("192.0.2.1".parse().expect("an address")),
        attached: true,
        facts: Some(Facts {
            os: Remark::new("Debian \"12\""),
            kernel: Remark::new("6.1.0-13-amd64"),
            uptime_seconds: u64::MAX,
            load_hundredths: 142,
            memory_bytes: 1 << 33,
            memory_available_bytes: 1 << 32,
        }),
    }
}

async fn presence_survives(fresh: Fresh) {
    let store = fresh.open().await;
    let version = make_tenant(&store, 1).await;
    let facts = (1..=3).map(|n| Fact::Device(device(n))).collect();
    put(&store, tenant_id(1), version, facts).await.expect("commits");
    let silent = PresenceRow { held: None, settled: false, address: None, facts: None, ..row(2) };
    let stranger = PresenceRow { device: device_id(99), ..row(1) };
    let foreign = PresenceRow { tenant: tenant_id(2), ..row(3) };
    store.save_presence(&[row(1), stranger, silent.clone(), foreign]).await.expect("saves the ones it knows");
    assert_eq!(store.presence().await.expect("loads"), vec![row(1), silent.clone()]);

    let newer = PresenceRow { last_seen: at(20), held: None, address: None, attached: false, ..row(1) };
    let older = PresenceRow { last_seen: at(5), settled: true, ..row(2) };
    store.save_presence(&[newer.clone(), older]).await.expect("saves");
    assert_eq!(fresh.open().await.load().await.expect("loads").presence, vec![newer.clone(), silent]);
    assert_eq!(store.presence_after(at(9)).await.expect("reads").len(), 2);
    assert_eq!(store.presence_after(at(10)).await.expect("reads"), std::slice::from_ref(&newer));
    store.save_presence(&[]).await.expect("nothing to save");
}

pub(crate) async fn many_devices_are_saved_at_once(fresh: Fresh) {
    let store = fresh.open().await;
    let version = make_tenant(&store, 1).await;
    let mut facts = Vec::new();
    let mut rows = Vec::new();
    for n in 0..2_500_u16 {
        let bytes = |first: u8| {
            let mut bytes = [first; 32];
            bytes[..2].copy_from_slice(&n.to_be_bytes());
            bytes
        };
        let mut one = device(1);
        one.id = model::DeviceId::from_bytes(bytes(0)[..16].try_into().expect("16 bytes"));
        one.name = format!("d{n}").parse().expect("a label");
        let token = model::TokenId::from_bytes([9; 16]);
        one.kind = control::Kind::Agent { identity: model::IdentityKey::from_bytes(bytes(1)), token };
        one.wireguard = model::PublicKey::from_bytes(bytes(2));
        one.number = u32::from(n) + 2;
        rows.push(PresenceRow { device: one.id, ..row(1) });
        facts.push(Fact::Device(one));
    }
    put(&store, tenant_id(1), version, facts).await.expect("commits");
    store.save_presence(&rows).await.expect("saves");
    assert_eq!(store.presence().await.expect("loads"), rows);
}
