//! The signer alone, on one core, and lists of what is revoked; OpenSSH's own program does the same beside it, in turn.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use ca::profile::{self, Basis, Person};
use ca::{
    CaSecret, Caps, KeyGeneration, KeyName, KeyRing, LogLine, OfAuthority, RevocationList, Signer as _,
    SignerLog,
};
use model::{Block, CaKind, Epoch, Mono, Now, SshSerial, TenantId, Timestamp};

use crate::series::{Bound, Series, Unit};

/// Certificates of one round.
const AT_ONCE: u64 = 1_000;
/// Two thousand a second.
const AT_ONCE_MAX: Bound = Bound::AllBelow(500.0);
/// Certificates of one round of OpenSSH: a process makes as many as it is given keys.
const OF_OPENSSH: u64 = 100;
const SERIALS: u64 = 100_000;
const LIST_BYTES_MAX: Bound = Bound::AllBelow(1_000_000.0);
const LIST_TIME_MAX: Bound = Bound::AllBelow(1_000.0);

/// Counts what is noted: a log on disk is the disk's speed.
struct Counted(usize);

impl SignerLog for Counted {
    fn note(&mut self, line: &LogLine) -> Result<(), String> {
        self.0 += line.to_string().len();
        Ok(())
    }
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1_000.0
}

/// Times of many signatures.
pub fn signatures(rounds: u32) -> Vec<Series> {
    let mut ours = Series::new(format!("{AT_ONCE} user certificates, one core"), Unit::Milliseconds);
    ours.bound = Some(AT_ONCE_MAX);
    let mut theirs = Series::new(format!("ssh-keygen -s, {OF_OPENSSH} certificates"), Unit::Milliseconds);
    let place = tempfile::tempdir().expect("a temporary folder can be made");
    let keys = keys(place.path());
    let mut signer = OneKey::new();
    for _ in 0..rounds {
        let began = Instant::now();
        signer.sign(AT_ONCE);
        ours.push(milliseconds(began));
        let began = Instant::now();
        let options = ["-q", "-s", "ca", "-I", "u:ada@home", "-n", "u:ada", "-V", "+8h", "-O", "clear"];
        keygen(place.path(), &[&options[..], &["-O", "permit-pty"]].concat(), &keys);
        theirs.push(milliseconds(began));
    }
    vec![ours, theirs]
}

fn keys(place: &Path) -> Vec<String> {
    let make = |name: &str| keygen(place, &["-q", "-t", "ed25519", "-N", "", "-f", name], &[]);
    make("ca");
    make("key");
    let public = place.join("key.pub");
    let names = (0..OF_OPENSSH).map(|n| format!("key{n}.pub"));
    let names: Vec<String> = names.collect();
    for name in &names {
        fs::copy(&public, place.join(name)).expect("copied");
    }
    names
}

fn keygen(place: &Path, options: &[&str], files: &[String]) {
    let done = Command::new("ssh-keygen").args(options).args(files).current_dir(place).output();
    let done = done.expect("apt-get install openssh-client");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

struct OneKey {
    ring: KeyRing<Counted>,
    key: KeyName,
    subject: ca::Subject,
    signed: u64,
}

impl OneKey {
    fn new() -> Self {
        let tenant = TenantId::from_bytes([1; 16]);
        let key = KeyName { tenant, kind: CaKind::User, generation: KeyGeneration(1) };
        let caps = Caps { burst: u32::MAX, per_second: u32::MAX, ..Caps::default() };
        let mut ring = KeyRing::new(caps, [7; 32], Counted(0));
        ring.open(key, &CaSecret::from_seed([9; 32])).expect("a good key");
        let subject = CaSecret::from_seed([5; 32]).public().to_string().parse().expect("a public key");
        Self { ring, key, subject, signed: 0 }
    }

    fn sign(&mut self, count: u64) {
        let block = Block::new("100.64.0.0/16".parse().expect("a net"), self.key.tenant).expect("a block");
        let wall = Timestamp::from_unix_micros(1_700_000_000_000_000);
        for _ in 0..count {
            self.signed += 1;
            let basis = Basis {
                key: self.key,
                tenant: "home".parse().expect("a label"),
                serial: SshSerial::new(Epoch(1), self.signed).expect("it fits"),
                subject: self.subject.clone(),
            };
            let person = Person {
                identity: "u:ada".parse().expect("an identity"),
                device: block.host(2).expect("a host"),
                life: None,
                life_max: ca::limits::ROLE_LIFE_DEFAULT,
                permits: BTreeSet::new(),
            };
            let order = profile::user(basis, person, wall).expect("a good order");
            let now = Now { mono: Mono::from_micros(self.signed), wall };
            self.ring.sign(&order, now).expect("signed");
        }
    }
}

/// Lists of which no two serials follow each other.
pub fn lists(rounds: u32) -> Vec<Series> {
    let mut size = Series::new(format!("list of {SERIALS} serials"), Unit::Bytes).must(LIST_BYTES_MAX);
    let mut time =
        Series::new("made, checked by ssh-keygen, in place", Unit::Milliseconds).must(LIST_TIME_MAX);
    let mut their_size = Series::new("list of ssh-keygen -k", Unit::Bytes);
    let mut their_time = Series::new("made by ssh-keygen -k", Unit::Milliseconds);
    let place = tempfile::tempdir().expect("a temporary folder can be made");
    keys(place.path());
    let serial = |n: u64| (1 << 47) + 1 + n * 2;
    let lines: String = (0..SERIALS).map(|n| format!("serial: {}\n", serial(n))).collect();
    fs::write(place.path().join("revoked"), lines).expect("written");
    let bytes_of = |name: &str| {
        f64::from(u32::try_from(fs::read(place.path().join(name)).expect("made").len()).expect("small"))
    };
    for _ in 0..rounds {
        let of = OfAuthority { serials: (0..SERIALS).map(serial).collect(), ..OfAuthority::default() };
        let authorities = [(CaSecret::from_seed([9; 32]).public().wire(), of)].into();
        let list = RevocationList { version: 1, authorities, ..RevocationList::default() };
        let began = Instant::now();
        fs::write(place.path().join("half"), list.to_bytes(Timestamp::default())).expect("written");
        keygen(place.path(), &["-Q", "-l", "-f", "half"], &[]);
        fs::rename(place.path().join("half"), place.path().join("ours")).expect("in place");
        time.push(milliseconds(began));
        size.push(bytes_of("ours"));
        let began = Instant::now();
        keygen(place.path(), &["-q", "-k", "-f", "theirs", "-s", "ca.pub", "revoked"], &[]);
        their_time.push(milliseconds(began));
        their_size.push(bytes_of("theirs"));
    }
    vec![size, their_size, time, their_time]
}
