//! What is in a certificate, and what a signer refuses whoever asks.

use std::time::Duration;

use ca::profile::{self, Person};
use ca::{Caps, Holder, KeyGeneration, Order, Permit, Signer as _, Subject};
use model::{CaKind, Code};

use crate::keygen::{Keygen, addresses, basis, ca_line, certify, host, key, now, person, ring};

#[test]
fn a_person_gets_one_name_one_device_and_a_working_day() {
    let keygen = Keygen::new();
    let subject = keygen.subject("ada", &["-t", "ed25519"]).expect("ed25519 is allowed");
    let mut ring = ring(Caps::default());
    let certificate = certify(&mut ring, &person(5, "u:ada", &subject));
    let ca = ca_line(ring.public(key(CaKind::User)).expect("open"));
    assert_eq!(
        keygen.shown(&certificate)[1..],
        [
            "Type: ssh-ed25519-cert-v01@openssh.com user certificate",
            &format!("Public key: ED25519-CERT {}", subject.fingerprint()),
            &ca,
            "Key ID: \"u:ada@home\"",
            "Serial: 140737488355333",
            "Valid: from 2026-11-22T13:45:00 to 2026-11-22T22:00:00",
            "Principals:",
            "u:ada",
            "Critical Options:",
            &format!("source-address {}/32,{}/128", addresses().v4, addresses().v6),
            "Extensions:",
            "permit-pty",
        ]
    );
}

#[test]
fn a_host_gets_every_name_that_people_type_and_no_wildcard() {
    let keygen = Keygen::new();
    let subject = keygen.subject("host", &["-t", "ed25519"]).expect("ed25519 is allowed");
    let shown = keygen.shown(&certify(&mut ring(Caps::default()), &host(6, &subject)));
    let start = shown.iter().position(|line| line == "Principals:").expect("there are some");
    let (v4, v6) = (addresses().v4.to_string(), addresses().v6.to_string());
    assert_eq!(
        shown[start..],
        [
            "Principals:",
            "db",
            "db.home.internal",
            "sql.home.internal",
            &v4,
            &v6,
            "Critical Options: (none)",
            "Extensions: (none)"
        ]
    );
    let has = |line: &str| assert!(shown.iter().any(|l| l == line), "{line}: {shown:#?}");
    has("Type: ssh-ed25519-cert-v01@openssh.com host certificate");
    has("Key ID: \"h:03030303-0303-0303-0303-030303030303@home\"");
    has("Valid: from 2026-11-22T13:45:00 to 2026-11-29T14:00:00");
}

#[test]
fn keys_are_taken_or_refused_by_the_name_of_their_type() {
    let keygen = Keygen::new();
    let mut ring = ring(Caps { rsa: true, ..Caps::default() });
    for (name, arguments) in [
        ("p256", ["-t", "ecdsa", "-b", "256"]),
        ("p384", ["-t", "ecdsa", "-b", "384"]),
        ("p521", ["-t", "ecdsa", "-b", "521"]),
        ("rsa", ["-t", "rsa", "-b", "3072"]),
    ] {
        let subject = keygen.subject(name, &arguments).unwrap_or_else(|e| panic!("{name}: {e}"));
        let shown = keygen.shown(&certify(&mut ring, &person(1, "u:ada", &subject)));
        assert!(shown.iter().any(|line| line.contains(&subject.fingerprint())), "{shown:#?}");
        let by_default = Caps::default().check(&person(1, "u:ada", &subject), now().wall);
        assert_eq!(by_default.map_err(|r| r.code).err(), (name == "rsa").then_some(Code::KeyTypeRefused));
    }
    let short = keygen.subject("short", &["-t", "rsa", "-b", "2048"]).expect_err("too short");
    assert_eq!((short.code, short.detail.contains("2048")), (Code::KeyTypeRefused, true), "{short}");
    let code = |line: &str| line.parse::<Subject>().expect_err(line).code;
    assert_eq!(code("ssh-dss AAAAB3NzaC1kc3MAAACB"), Code::KeyTypeRefused);
    assert_eq!(code("ssh-ed25519-cert-v01@openssh.com AAAA"), Code::KeyTypeRefused);
    assert_eq!(code(""), Code::KeyTypeRefused);
    assert_eq!(code("ssh-ed25519"), Code::BadRequest);
    assert_eq!(code("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA=="), Code::BadRequest);
    assert_eq!(code(&format!("ssh-ed25519 {}", "A".repeat(5000))), Code::BadRequest);
    // The name before the key must be the key's.
    let ed25519 = keygen.subject("ed", &["-t", "ed25519"]).expect("allowed").to_string();
    assert_eq!(code(&ed25519.replace("ssh-ed25519 ", "ecdsa-sha2-nistp256 ")), Code::BadRequest);
    assert_eq!(code(&format!("{ed25519}\nssh-ed25519 AAAA")), Code::BadRequest);
}

#[test]
fn keys_in_hardware_are_certified() {
    // No security key is at hand: the form of PROTOCOL.u2f, with a point of the curve and the usual application.
    let ed25519 = "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAICFo/k5LU8863u66YC9eUO2170QduohPURkQnbLa/dczAAAABHNzaDo=";
    let subject: Subject = ed25519.parse().expect("a key in hardware");
    let shown = Keygen::new().shown(&certify(&mut ring(Caps::default()), &person(1, "u:ada", &subject)));
    let typed = "Type: sk-ssh-ed25519-cert-v01@openssh.com user certificate";
    assert!(shown.iter().any(|line| line == typed), "{shown:#?}");
}

#[test]
fn lives_are_what_roles_and_the_hard_cap_allow() {
    let keygen = Keygen::new();
    let subject = keygen.subject("ada", &["-t", "ed25519"]).expect("allowed");
    let hour = Duration::from_secs(3600);
    let life = |asked: Option<Duration>, life_max| {
        let identity = "u:ada".parse().expect("an identity");
        let permits = [Permit::PortForwarding].into();
        let person = Person { identity, device: addresses(), life: asked, life_max, permits };
        let order = profile::user(basis(CaKind::User, 1, &subject), person, now().wall);
        order.map(|o| o.valid_until.unix_micros() - now().wall.unix_micros()).map_err(|r| r.code)
    };
    let micros = |d: Duration| Ok(i64::try_from(d.as_micros()).expect("short"));
    assert_eq!(life(None, 12 * hour), micros(8 * hour));
    assert_eq!(life(None, 2 * hour), micros(2 * hour));
    assert_eq!(life(Some(12 * hour), 12 * hour), micros(12 * hour));
    assert_eq!(life(Some(13 * hour), 12 * hour), Err(Code::LifeInvalid));
    assert_eq!(life(Some(25 * hour), 1000 * hour), Err(Code::LifeInvalid));
    assert_eq!(life(Some(Duration::from_secs(59)), 12 * hour), Err(Code::LifeInvalid));
}

#[test]
fn a_signer_refuses_by_itself_and_notes_it() {
    let keygen = Keygen::new();
    let subject = keygen.subject("ada", &["-t", "ed25519"]).expect("allowed");
    let mut ring = ring(Caps { burst: 3, per_second: 1, ..Caps::default() });
    let mut check = |change: fn(&mut Order), expect: Code| {
        let mut order = person(1, "u:ada", &subject);
        change(&mut order);
        assert_eq!(ring.sign(&order, now()).map_err(|r| r.code).err(), Some(expect), "{order:?}");
    };
    check(|o| o.valid_until = o.valid_until + Duration::from_secs(17 * 3600), Code::LifeInvalid);
    check(|o| o.valid_until = o.valid_from, Code::LifeInvalid);
    check(|o| o.valid_from = o.valid_from - Duration::from_secs(3600), Code::LifeInvalid);
    check(|o| o.valid_until = now().wall, Code::LifeInvalid);
    check(|o| o.key.kind = CaKind::Host, Code::PrincipalInvalid);
    check(|o| o.key.generation = KeyGeneration(2), Code::SignerSealed);
    let nameless = |names: &[&str]| {
        let mut order = host(2, &subject);
        let Holder::Host { names: own, .. } = &mut order.holder else { panic!("a host's order") };
        *own = names.iter().map(|name| name.parse().expect("a name")).collect();
        order
    };
    for names in [&[][..], &["*.home.internal"]] {
        let refused = ring.sign(&nameless(names), now()).expect_err("no good name");
        assert_eq!(refused.code, Code::PrincipalInvalid, "{names:?}");
    }
    let order = person(1, "u:ada", &subject);
    let granted = (0..5).filter(|_| ring.sign(&order, now()).is_ok()).count();
    assert_eq!(granted, 3, "the pace is the signer's own");
    assert_eq!(ring.sign(&order, now()).expect_err("too fast").code, Code::RateLimited);
    let key = key(CaKind::User);
    ring.keep(|open| open != key);
    assert_eq!((ring.public(key), ring.sign(&order, now()).is_ok()), (None, false));
}

#[test]
fn what_cannot_be_noted_is_not_given_away() {
    struct Full;
    impl ca::SignerLog for Full {
        fn note(&mut self, line: &ca::LogLine) -> Result<(), String> {
            assert!(line.to_string().contains(" signed "), "{line}");
            Err("no space left on device".into())
        }
    }
    let subject = Keygen::new().subject("ada", &["-t", "ed25519"]).expect("allowed");
    let mut ring = ca::KeyRing::new(Caps::default(), [1; 32], Full);
    ring.open(key(CaKind::User), &crate::keygen::secret(CaKind::User)).expect("opens");
    let refused = ring.sign(&person(1, "u:ada", &subject), now()).expect_err("not noted");
    assert_eq!(refused.code, Code::Internal);
}
