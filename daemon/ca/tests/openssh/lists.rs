//! Revocation lists, as OpenSSH reads them.

use std::collections::BTreeSet;

use ca::{Caps, OfAuthority, RevocationList, Subject};
use model::CaKind;
use proptest::prelude::*;

use crate::keygen::{Keygen, certify, host, now, person, ring, secret};

fn list(kind: CaKind, of: OfAuthority) -> RevocationList {
    let authorities = [(secret(kind).public().wire(), of)].into();
    RevocationList { version: 3, authorities, ..RevocationList::default() }
}

fn serials(serials: impl IntoIterator<Item = u64>) -> OfAuthority {
    OfAuthority { serials: serials.into_iter().map(|n| (1 << 47) + n).collect(), ..OfAuthority::default() }
}

fn ids(ids: &[&str]) -> OfAuthority {
    OfAuthority { key_ids: ids.iter().map(ToString::to_string).collect(), ..OfAuthority::default() }
}

#[test]
fn openssh_finds_revoked_what_is_revoked_and_nothing_else() {
    let keygen = Keygen::new();
    let subject = keygen.subject("ada", &["-t", "ed25519"]).expect("allowed");
    let mut ring = ring(Caps::default());
    let certificate = certify(&mut ring, &person(50, "u:ada", &subject));
    let of_host = certify(&mut ring, &host(50, &subject));
    let check = |list: &RevocationList, user: bool, host: bool| {
        let bytes = list.to_bytes(now().wall);
        assert_eq!(keygen.is_revoked(&bytes, &certificate), user, "{list:?}");
        assert_eq!(keygen.is_revoked(&bytes, &of_host), host, "{list:?}");
    };
    check(&RevocationList::default(), false, false);
    check(&list(CaKind::User, serials([50])), true, false);
    check(&list(CaKind::Host, serials([50])), false, true);
    check(&list(CaKind::User, serials([1, 7, 49, 51, 90])), false, false);
    check(&list(CaKind::User, serials(40..60)), true, false);
    check(&list(CaKind::User, serials((1..50).chain(51..100))), false, false);
    check(&list(CaKind::User, serials((1..200).filter(|n| n % 5 == 0))), true, false);
    check(&list(CaKind::User, ids(&["u:ada@home"])), true, false);
    check(&list(CaKind::User, ids(&["u:ad@home", "u:ada@homer", "u:bob@home"])), false, false);
    check(&list(CaKind::Host, ids(&["h:03030303-0303-0303-0303-030303030303@home"])), false, true);
    // A whole authority.
    let keys: BTreeSet<Vec<u8>> = [secret(CaKind::User).public().wire()].into();
    check(&RevocationList { keys, ..RevocationList::default() }, true, false);
    // A person's key, whatever certificate it comes with.
    let keys: BTreeSet<Vec<u8>> = [subject.wire()].into();
    check(&RevocationList { keys, ..RevocationList::default() }, true, true);
    let other: Subject = keygen.subject("bob", &["-t", "ed25519"]).expect("allowed");
    let keys: BTreeSet<Vec<u8>> = [other.wire()].into();
    let bytes = RevocationList { keys, ..RevocationList::default() }.to_bytes(now().wall);
    assert!(
        keygen.is_revoked(&bytes, &other.to_string()) && !keygen.is_revoked(&bytes, &subject.to_string())
    );
}

#[test]
fn a_list_says_its_version_and_what_it_has() {
    let keygen = Keygen::new();
    let mut of = serials([1, 2, 3, 4, 9]);
    of.key_ids = ids(&["u:ada@home"]).key_ids;
    keygen.write("list.krl", list(CaKind::User, of).to_bytes(now().wall));
    let output = keygen.run(&["-Q", "-l", "-f", "list.krl"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    let base = 1u64 << 47;
    for line in [
        "# KRL version 3",
        "# Generated at 20261122T140000",
        &format!("serial: {}-{}", base + 1, base + 4),
        &format!("serial: {}", base + 9),
        "id: u:ada@home",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

/// As ssh-keygen shows a list: each serial, or the first and the last of some in a row.
fn shown(keygen: &Keygen, list: &[u8]) -> BTreeSet<u64> {
    keygen.write("list.krl", list);
    let output = keygen.run(&["-Q", "-l", "-f", "list.krl"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    let number = |text: &str| text.trim().parse::<u64>().expect("a number");
    let serials = text.lines().filter_map(|line| line.strip_prefix("serial:"));
    let ranges = serials.map(|serials| match serials.split_once('-') {
        Some((first, last)) => number(first)..=number(last),
        None => number(serials)..=number(serials),
    });
    ranges.flatten().collect()
}

/// Made by ssh-keygen itself; `None` where it makes one that it does not read: of a bitmap that is too long.
fn made(keygen: &Keygen, serials: &BTreeSet<u64>) -> Option<Vec<u8>> {
    let lines: String = serials.iter().map(|serial| format!("serial: {serial}\n")).collect();
    keygen.write("serials", lines);
    keygen.write("ca.pub", secret(CaKind::User).public().to_string());
    let output = keygen.run(&["-k", "-f", "made.krl", "-s", "ca.pub", "serials"]);
    assert!(output.status.success(), "{output:?}");
    let output = keygen.run(&["-Q", "-l", "-f", "made.krl"]);
    let too_long = String::from_utf8_lossy(&output.stderr).contains("bignum is too large");
    assert!(too_long || output.status.success(), "{output:?}");
    (!too_long).then(|| std::fs::read(keygen.path().join("made.krl")).expect("made"))
}

fn scattered() -> impl Strategy<Value = BTreeSet<u64>> {
    let cluster = (1u64..40_000, prop_oneof![Just(1u64), 1u64..9, 40u64..200], 1u64..300);
    prop::collection::vec(cluster, 1..8).prop_map(|clusters| {
        let mut last = 1u64 << 47;
        let mut serials = BTreeSet::new();
        for (gap, step, count) in clusters {
            let first = last + gap;
            last = first + count * step;
            serials.extend((0..count).map(|n| first + n * step));
        }
        serials
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn openssh_reads_exactly_the_serials_that_were_written(serials in scattered()) {
        let keygen = Keygen::new();
        let of = OfAuthority { serials: serials.clone(), ..OfAuthority::default() };
        let bytes = list(CaKind::User, of).to_bytes(now().wall);
        prop_assert_eq!(&shown(&keygen, &bytes), &serials);
        // Its own has no comment, and its first single serial costs a header that is counted for none of ours: a bitmap of two
        // may be shorter. Ours counts a whole byte for the sign of each bitmap.
        let (comment, header, signs) = ("warren".len(), 5, 8);
        if let Some(made) = made(&keygen, &serials) {
            prop_assert!(bytes.len() <= made.len() + comment + header + signs, "{} {}", bytes.len(), made.len());
        }
    }
}

#[test]
fn a_hundred_thousand_serials_are_one_list() {
    let keygen = Keygen::new();
    let subject = keygen.subject("ada", &["-t", "ed25519"]).expect("allowed");
    let mut ring = ring(Caps::default());
    let odd = certify(&mut ring, &person(99_999, "u:ada", &subject));
    let even = certify(&mut ring, &person(100_000, "u:ada", &subject));
    let of = serials((0..100_000).map(|n| 2 * n + 1));
    let bytes = list(CaKind::User, of.clone()).to_bytes(now().wall);
    assert!(bytes.len() < 26_000, "{}", bytes.len());
    assert_eq!(shown(&keygen, &bytes), of.serials);
    assert!(keygen.is_revoked(&bytes, &odd));
    assert!(!keygen.is_revoked(&bytes, &even));
}
