//! Patches and whole zones give the same answers, on both paths, and both the right ones.

use std::net::IpAddr;

use dns::{Names, Transport};
use hickory_proto::rr::Name as WireName;
use model::patch::ZonePatch;
use model::{Generation, Zone};
use proptest::prelude::*;

use crate::ask::{ask, both, bytes, query, text};
use crate::home::{SEED, TENANT};
use crate::reference;
use crate::zones::{HOSTS, plans, questions, steps, zone};

fn check_all(names: &Names, zone: &Zone, serial: u32) -> Result<(), TestCaseError> {
    let source = zone.block.hub().v4.into();
    for question in questions(zone) {
        let asked = query(&question);
        let answer = text(&ask(names, &asked, source, Transport::Tcp));
        let (name, kind) = question.split_once(' ').expect("a name and a type");
        prop_assert_eq!(answer, reference::expect(zone, serial, name, kind), "{}", question);
        both(names, &bytes(&asked), source).map_err(TestCaseError::fail)?;
    }
    for address in (1..=HOSTS + 1).flat_map(|n| zone.block.host(n).expect("in the block").both()) {
        let owner = WireName::from(address);
        let labels = match address {
            IpAddr::V4(_) => usize::from(zone.block.v4().prefix_len() / 8) + 2,
            IpAddr::V6(_) => 14,
        };
        let asked = query(&format!("{owner} PTR"));
        let answer = text(&ask(names, &asked, source, Transport::Tcp));
        let apex = owner.trim_to(labels).to_string();
        prop_assert_eq!(answer, reference::expect_ptr(zone, serial, address, &owner.to_string(), &apex));
        both(names, &bytes(&asked), source).map_err(TestCaseError::fail)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn patches_equal_whole_zones(history in prop::collection::vec(plans(), 1..6)) {
        let zones: Vec<Zone> = history.iter().map(zone).collect();
        let names = Names::new(SEED);
        names.whole(TENANT, Generation(0), &zones[0]).expect("alone");
        check_all(&names, &zones[0], 0)?;
        for (serial, pair) in (1..).zip(zones.windows(2)) {
            let patch = ZonePatch::diff(&pair[0], &pair[1]);
            names.patch(TENANT, Generation(serial.into()), &patch).expect("alone");
            check_all(&names, &pair[1], serial)?;
        }
    }

    #[test]
    fn the_order_of_changes_does_not_matter(
        before in plans(), after in plans(), shuffle in any::<u64>(), seed in any::<[u8; 32]>()
    ) {
        let (before, after) = (zone(&before), zone(&after));
        let names = Names::new(seed);
        names.whole(TENANT, Generation(0), &before).expect("alone");
        for patch in steps(&before, &after, shuffle) {
            names.patch(TENANT, Generation(7), &patch).expect("alone");
        }
        check_all(&names, &after, 7)?;
    }
}
