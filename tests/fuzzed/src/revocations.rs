//! Revocation lists of OpenSSH: read from disk before one is replaced, and written for sshd and ssh.

use std::collections::{BTreeMap, BTreeSet};

use ca::{OfAuthority, RevocationList};
use model::Timestamp;

/// What was read is written and read again; what is made of any numbers and texts, too; and two lists together revoke what
/// either does.
pub(crate) fn check(bytes: &[u8]) {
    let made = made(bytes);
    assert_reads_back(&made);
    if let Ok(read) = RevocationList::from_bytes(bytes) {
        assert_reads_back(&read);
        let both = made.clone().and(read.clone());
        assert_eq!(both.version, made.version);
        for list in [&made, &read] {
            for (key, of) in &list.authorities {
                assert!(both.authorities[key].serials.is_superset(&of.serials));
                assert!(both.authorities[key].key_ids.is_superset(&of.key_ids));
            }
            assert!(both.keys.is_superset(&list.keys));
        }
    }
}

fn assert_reads_back(list: &RevocationList) {
    // A reader takes no more than so many: its memory is no stranger's.
    let serials: usize = list.authorities.values().map(|of| of.serials.len()).sum();
    if serials > 1 << 19 {
        return;
    }
    let again = RevocationList::from_bytes(&list.to_bytes(Timestamp::default()));
    let mut kept = list.clone();
    kept.authorities.retain(|_, of| !of.is_empty());
    assert_eq!(again.as_ref(), Ok(&kept), "written and read again");
    assert_eq!(again.map(|list| list.is_empty()), Ok(list.is_empty()));
}

/// A list of whatever the bytes say: serials close together and far apart, ids, keys.
fn made(bytes: &[u8]) -> RevocationList {
    let mut authorities: BTreeMap<Vec<u8>, OfAuthority> = BTreeMap::new();
    let mut keys = BTreeSet::new();
    let mut serial = 0u64;
    let mut version = 0;
    for chunk in bytes.chunks(6) {
        let (kind, rest) = chunk.split_first().expect("chunks are not empty");
        let number = rest.iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
        let of = authorities.entry(vec![kind >> 6]).or_default();
        match kind % 6 {
            0 => serial = serial.wrapping_add(number),
            1 => serial = u64::MAX - number,
            2 => of.serials.extend((0..number % 512).map(|n| serial.wrapping_add(n))),
            3 => of.serials.extend((0..number % 64).map(|n| serial.wrapping_add(n * (number >> 8)))),
            4 => drop(of.key_ids.insert(String::from_utf8_lossy(rest).into_owned())),
            _ => {
                version = number;
                keys.insert(rest.to_vec());
            }
        }
    }
    RevocationList { version, authorities, keys }
}
