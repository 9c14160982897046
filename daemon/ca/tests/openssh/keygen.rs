//! `ssh-keygen` in a directory of its own, and a ring with one tenant's keys.

use std::path::Path;
use std::process::{Command, Output};

use ca::profile::{self, Basis, Host, Person};
use ca::{CaSecret, Caps, KeyGeneration, KeyName, KeyRing, LogLine, Order, Signer as _, SignerLog, Subject};
use model::{Block, CaKey, CaKind, DeviceId, Epoch, Mono, Now, Refusal, SshSerial, TenantId, Timestamp};
use tempfile::TempDir;

/// What the signer noted.
#[derive(Default)]
pub struct Notes(pub Vec<String>);

impl SignerLog for Notes {
    fn note(&mut self, line: &LogLine) -> Result<(), String> {
        self.0.push(line.to_string());
        Ok(())
    }
}

/// 2026-11-22, in the afternoon.
pub fn now() -> Now {
    Now { mono: Mono::from_micros(1), wall: Timestamp::from_unix_micros(1_795_356_000_000_000) }
}

pub fn tenant() -> TenantId {
    TenantId::from_bytes([1; 16])
}

pub fn key(kind: CaKind) -> KeyName {
    KeyName { tenant: tenant(), kind, generation: KeyGeneration(1) }
}

pub fn secret(kind: CaKind) -> CaSecret {
    CaSecret::from_seed([kind as u8 + 5; 32])
}

pub fn ring(caps: Caps) -> KeyRing<Notes> {
    let mut ring = KeyRing::new(caps, [9; 32], Notes::default());
    for kind in CaKind::ALL {
        ring.open(key(kind), &secret(kind)).expect("the key passes its own test");
    }
    ring
}

pub fn addresses() -> model::MeshAddresses {
    let block = Block::new("100.64.0.0/16".parse().expect("a net"), tenant()).expect("a block");
    block.host(7).expect("in the block")
}

pub fn basis(kind: CaKind, serial: u64, subject: &Subject) -> Basis {
    let serial = SshSerial::new(Epoch(1), serial).expect("fits");
    Basis { key: key(kind), tenant: "home".parse().expect("a label"), serial, subject: subject.clone() }
}

pub fn person(serial: u64, name: &str, subject: &Subject) -> Order {
    let person = Person {
        identity: name.parse().expect("an identity"),
        device: addresses(),
        life: None,
        life_max: ca::limits::ROLE_LIFE_DEFAULT,
        permits: [].into(),
    };
    profile::user(basis(CaKind::User, serial, subject), person, now().wall).expect("a good life")
}

pub fn host(serial: u64, subject: &Subject) -> Order {
    let host = Host {
        device: DeviceId::from_bytes([3; 16]),
        fqdn: "db.home.internal".parse().expect("a name"),
        name: "db".parse().expect("a label"),
        aliases: ["sql.home.internal", "*.db.home.internal"].map(|n| n.parse().expect("a name")).into(),
        addresses: addresses(),
    };
    profile::host(basis(CaKind::Host, serial, subject), host, now().wall)
}

/// A directory with what `ssh-keygen` makes and reads.
pub struct Keygen(TempDir);

impl Keygen {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("ssh-keygen");
        command.current_dir(self.path()).env("TZ", "UTC").args(arguments);
        command.output().expect("ssh-keygen is there: apt-get install openssh-client")
    }

    /// A new key of a type; its public half is what a person would send.
    pub fn subject(&self, name: &str, arguments: &[&str]) -> Result<Subject, Refusal> {
        let made = self.run(&[&["-q", "-N", "", "-C", "ada at home", "-f", name], arguments].concat());
        assert!(made.status.success(), "{made:?}");
        std::fs::read_to_string(self.path().join(format!("{name}.pub"))).expect("made").parse()
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path().join(name), bytes).expect("written");
    }

    /// What `ssh-keygen -L` shows of a certificate, each line trimmed.
    pub fn shown(&self, certificate: &str) -> Vec<String> {
        self.write("shown-cert.pub", certificate);
        let output = self.run(&["-L", "-f", "shown-cert.pub"]);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).lines().map(|line| line.trim().to_owned()).collect()
    }

    /// Whether a list revokes a certificate or key: `ssh-keygen -Q` ends with 1 then.
    pub fn is_revoked(&self, list: &[u8], key: &str) -> bool {
        self.write("list.krl", list);
        self.write("asked.pub", key);
        let output = self.run(&["-Q", "-f", "list.krl", "asked.pub"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        match output.status.code() {
            Some(0) if text.contains(": ok") => false,
            Some(1) if text.contains(": REVOKED") => true,
            _ => panic!("{output:?}"),
        }
    }
}

/// As OpenSSH shows a key's fingerprint.
pub fn ca_line(key: CaKey) -> String {
    let subject: Subject = key.to_string().parse().expect("an authority's key is a key");
    format!("Signing CA: ED25519 {} (using ssh-ed25519)", subject.fingerprint())
}

pub fn certify(ring: &mut KeyRing<Notes>, order: &Order) -> String {
    ring.sign(order, now()).expect("within the caps").openssh
}
