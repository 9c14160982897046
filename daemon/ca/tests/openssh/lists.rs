//! Revocation lists, as OpenSSH reads them.

use std::collections::BTreeSet;

use ca::krl::KRL_BYTES_MAX;
use ca::{Caps, OfAuthority, RevocationList, Subject};
use model::CaKind;

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

#[test]
fn a_hundred_thousand_serials_are_one_list() {
    let keygen = Keygen::new();
    let subject = keygen.subject("ada", &["-t", "ed25519"]).expect("allowed");
    let mut ring = ring(Caps::default());
    let odd = certify(&mut ring, &person(99_999, "u:ada", &subject));
    let even = certify(&mut ring, &person(100_000, "u:ada", &subject));
    let bytes = list(CaKind::User, serials((0..100_000).map(|n| 2 * n + 1))).to_bytes(now().wall);
    assert!(bytes.len() < KRL_BYTES_MAX, "{}", bytes.len());
    assert!(keygen.is_revoked(&bytes, &odd));
    assert!(!keygen.is_revoked(&bytes, &even));
}
