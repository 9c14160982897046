//! What is kept edit by edit is what one would make of the snapshots afresh, and what the disk gives back.

use engine::{Ledger, NamesUpdate};
use model::{NodeId, TenantId, Zone};
use proptest::prelude::*;

use crate::host::Host;
use crate::server::{Server, Tenant};
use crate::world::{World, hub_config};

#[derive(Debug, Clone)]
enum Edit {
    Add(u32),
    Remove(u32),
    Mtu(u16),
    Port(Option<u16>),
    Nothing,
}

fn edits() -> impl Strategy<Value = Vec<(usize, Edit)>> {
    let edit = prop_oneof![
        4 => (0u32..12).prop_map(Edit::Add),
        2 => (0u32..12).prop_map(Edit::Remove),
        1 => (1300u16..1420).prop_map(Edit::Mtu),
        1 => prop::sample::select(vec![None, Some(51_821), Some(51_822)]).prop_map(Edit::Port),
        1 => Just(Edit::Nothing),
    ];
    prop::collection::vec((0usize..2, edit), 0..30)
}

fn apply(tenant: &mut Tenant, edit: &Edit) {
    match edit {
        Edit::Add(n) => tenant.add_device(*n),
        Edit::Remove(n) => tenant.remove_device(*n),
        Edit::Mtu(mtu) => tenant.snapshot.own.mtu = *mtu,
        Edit::Port(port) => tenant.snapshot.own.hub_port = *port,
        Edit::Nothing => {}
    }
}

/// What Magic DNS serves after these updates.
fn zone_of(updates: &[NamesUpdate], id: TenantId) -> Option<Zone> {
    let mut served = None;
    for update in updates {
        match update {
            NamesUpdate::Whole { tenant, zone, .. } if *tenant == id => served = Some(zone.clone()),
            NamesUpdate::Patch { tenant, patch, .. } if *tenant == id => {
                patch.clone().apply(served.as_mut().expect("a whole came before"));
            }
            NamesUpdate::Gone { tenant } if *tenant == id => served = None,
            _ => {}
        }
    }
    served
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn edit_by_edit_is_as_afresh(edits in edits()) {
        let tenants = (1..=2).map(|n| Tenant::new(n, NodeId::Hub)).collect();
        let mut world = World::new(hub_config(), Server::new(tenants));
        world.seconds(1);
        for (tenant, edit) in &edits {
            let frame = world.server.tenants[*tenant]
                .edit_with(|t| apply(t, edit), |stamp| stamp.confirms_removals = true);
            world.push([frame]);
        }
        world.seconds(1);
        prop_assert!(world.node.status().settled);
        prop_assert_eq!(world.count("snapshot rejected"), 0);

        for tenant in &world.server.tenants {
            prop_assert_eq!(zone_of(&world.names, tenant.id), Some(tenant.snapshot.zone.clone()));
        }
        let ledger = Ledger::load(&world.disk).expect("sound");
        for tenant in &mut world.server.tenants {
            prop_assert_eq!(ledger.snapshot(tenant.id), Some(&tenant.snapshot));
            prop_assert_eq!(ledger.held(tenant.id), Some(tenant.held()));
        }
        let there = |world: &World| {
            let mut all = world.beside.clone();
            all.retain(|_, host| host.state.interface.is_some() || host.state.firewall.is_some());
            all.into_iter().map(|(port, host)| (port, host.state)).collect::<Vec<_>>()
        };
        // It is never switched off: others may need it.
        world.host.state.forwarding = world.server.tenants.iter().any(|t| t.snapshot.own.hub_port.is_none());
        let kept = (world.host.state.clone(), there(&world));
        world.host = Host::new(world.host.key);
        world.beside.clear();
        world.restart();
        world.seconds(1);
        prop_assert_eq!((world.host.state.clone(), there(&world)), kept);
    }
}

#[test]
fn hundreds_of_patches_are_folded_and_survive_the_disk() {
    let mut world = crate::hub::hub(1);
    let mut largest = 0;
    for n in 0..700u32 {
        let frame = world.server.tenants[0].edit_with(
            |t| if n % 2 == 0 { t.add_device(50) } else { t.remove_device(50) },
            |stamp| stamp.confirms_removals = true,
        );
        world.push([frame]);
        largest = largest.max(world.disk.len());
    }
    assert!(largest < 128 * 1024, "{largest} bytes");
    let ledger = Ledger::load(&world.disk).expect("sound");
    assert_eq!(ledger.snapshot(world.server.tenants[0].id), Some(&world.server.tenants[0].snapshot));
}

#[test]
fn a_damaged_ledger_is_reported_and_never_believed() {
    let world = crate::session::device();
    let sound = world.disk.clone();
    assert!(Ledger::load(&sound).is_ok());
    let (mut damaged, mut rest_is_kept) = (0, 0);
    for at in 0..sound.len() {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x10;
        match Ledger::load(&bytes) {
            Ok(ledger) => {
                // Only bytes that mean nothing, or the same, may pass.
                assert!(ledger.holdings().all(|(_, held, _)| held == world.node.status().tenants[0].held));
            }
            Err(engine::LedgerError::Snapshot { rest, .. }) => {
                assert_eq!(rest.device(), world.node.status().device);
                rest_is_kept += 1;
            }
            Err(_) => damaged += 1,
        }
    }
    for length in 0..sound.len() {
        assert!(Ledger::load(&sound[..length]).is_err(), "cut at {length}");
    }
    assert!(damaged > 50 && rest_is_kept > 500, "{damaged} {rest_is_kept}");
    let mut newer = sound;
    newer["warren ledger".len() + 2] = 2;
    assert!(matches!(Ledger::load(&newer), Err(engine::LedgerError::Newer(2))));
}
