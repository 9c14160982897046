//! What SSH certificates name: the keys of authorities, serials, people, logins. Signs nothing and knows no sshd.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minicbor::{Decode, Encode};

use crate::id::DeviceId;
use crate::name::{BadName, Label};
use crate::text::{cbor_as_bytes, cbor_as_text, serde_as_text};
use crate::version::Epoch;

/// The algorithm of every authority (RFC 8709).
const ALGORITHM: &str = "ssh-ed25519";
/// Bits of a serial that count within an epoch: more certificates than a tenant ever sees.
const COUNTER_BITS: u32 = 47;
/// Bits of a serial that are the epoch: a database that is restored so often has other worries.
const EPOCH_BITS: u32 = 16;
/// What useradd(8) takes.
const LOGIN_BYTES_MAX: usize = 32;

/// Why a text is nothing of SSH's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSsh {
    /// No public key of an authority.
    #[error("an authority's key is `ssh-ed25519` and base64")]
    Key,
    /// No serial.
    #[error("a serial is a number between 1 and 2^63 - 1")]
    Serial,
    /// No login.
    #[error("a login has 1 to 32 of a-z, 0-9, - and _, and begins with a letter or _")]
    Login,
    /// No authority.
    #[error("an authority is `user` or `host`")]
    Kind,
    /// Neither a person nor a service.
    #[error("an identity is u:NAME or s:NAME")]
    Identity,
    /// Nothing that certificates are called.
    #[error("a certificate's id is u:NAME@TENANT, s:NAME@TENANT or h:DEVICE@TENANT")]
    CertificateId,
    /// Nothing that can be revoked.
    #[error("what is revoked is serial:NUMBER or id:ID")]
    Revoked,
}

/// Whose certificates an authority signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum CaKind {
    /// People's: checked by the hosts.
    #[n(0)]
    User,
    /// Hosts': checked by the clients.
    #[n(1)]
    Host,
}

impl CaKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::User, Self::Host];

    /// As people and the API see it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Host => "host",
        }
    }
}

impl fmt::Display for CaKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for CaKind {
    type Err = BadSsh;
    fn from_str(text: &str) -> Result<Self, BadSsh> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(BadSsh::Kind)
    }
}

serde_as_text!(CaKind);

/// The public key of an authority: Ed25519. Prints as a line of OpenSSH.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CaKey([u8; 32]);

impl CaKey {
    /// Takes the bytes as a key.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key as OpenSSH signs and compares it (RFC 8709, section 4).
    pub fn wire(&self) -> Vec<u8> {
        let string = |bytes: &[u8]| [&(bytes.len() as u32).to_be_bytes(), bytes].concat();
        [string(ALGORITHM.as_bytes()), string(&self.0)].concat()
    }
}

impl fmt::Display for CaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ALGORITHM} {}", STANDARD.encode(self.wire()))
    }
}

impl fmt::Debug for CaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for CaKey {
    type Err = BadSsh;
    fn from_str(text: &str) -> Result<Self, BadSsh> {
        let base64 = text.strip_prefix(ALGORITHM).and_then(|rest| rest.strip_prefix(' '));
        let wire = base64.and_then(|text| STANDARD.decode(text).ok()).ok_or(BadSsh::Key)?;
        let key = Self(*wire.last_chunk().ok_or(BadSsh::Key)?);
        if key.wire() == wire { Ok(key) } else { Err(BadSsh::Key) }
    }
}

cbor_as_bytes!(CaKey, 32);
serde_as_text!(CaKey);

/// The number of a certificate, unique within an authority for ever: the epoch, then a counter. Text in JSON, which has
/// no whole numbers beyond 2^53.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(transparent)]
pub struct SshSerial(#[n(0)] NonZeroU64);

impl SshSerial {
    /// The serial of one count of an epoch; `None` beyond what fits.
    pub const fn new(epoch: Epoch, counter: u64) -> Option<Self> {
        if epoch.0 >> EPOCH_BITS != 0 || counter >> COUNTER_BITS != 0 {
            return None;
        }
        match NonZeroU64::new((epoch.0 as u64) << COUNTER_BITS | counter) {
            Some(serial) => Some(Self(serial)),
            None => None,
        }
    }

    /// The number; `None` for 0, which is no serial, and beyond 63 bits.
    pub const fn from_number(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(serial) if number >> (EPOCH_BITS + COUNTER_BITS) == 0 => Some(Self(serial)),
            _ => None,
        }
    }

    /// The number.
    pub const fn number(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for SshSerial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for SshSerial {
    type Err = BadSsh;
    fn from_str(text: &str) -> Result<Self, BadSsh> {
        text.parse().ok().and_then(Self::from_number).ok_or(BadSsh::Serial)
    }
}

serde_as_text!(SshSerial);

/// A user of a host's own machine, as sshd lets people in. Names a file, so it is nothing but what useradd(8) takes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Login(Box<str>);

impl Login {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Login {
    type Err = BadSsh;
    fn from_str(text: &str) -> Result<Self, BadSsh> {
        let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
        let first = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_');
        if first && text.len() <= LOGIN_BYTES_MAX && text.bytes().all(good) {
            Ok(Self(text.into()))
        } else {
            Err(BadSsh::Login)
        }
    }
}

impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

cbor_as_text!(Login);
serde_as_text!(Login);

/// Who a user certificate is for: its one principal, and what hosts let in. Never empty, never a pattern.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum SshIdentity {
    /// A person.
    Person(Label),
    /// A program.
    Service(Label),
}

impl fmt::Display for SshIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Person(name) => write!(f, "u:{name}"),
            Self::Service(name) => write!(f, "s:{name}"),
        }
    }
}

impl fmt::Debug for SshIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SshIdentity {
    type Err = BadSsh;
    fn from_str(text: &str) -> Result<Self, BadSsh> {
        let bad = |_: BadName| BadSsh::Identity;
        match text.split_once(':') {
            Some(("u", name)) => Ok(Self::Person(name.parse().map_err(bad)?)),
            Some(("s", name)) => Ok(Self::Service(name.parse().map_err(bad)?)),
            _ => Err(BadSsh::Identity),
        }
    }
}

cbor_as_text!(SshIdentity);
serde_as_text!(SshIdentity);

/// What a person may do on a host besides running a command; nothing else is ever permitted (`EXTENSIONS` of PROTOCOL.certkeys).
/// Another one comes with an ability of its own: devices of before could not read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum Permit {
    /// A terminal.
    #[n(0)]
    Pty,
    /// `ssh -L` and `-R`.
    #[n(1)]
    PortForwarding,
    /// `ssh -A`.
    #[n(2)]
    AgentForwarding,
}

impl Permit {
    /// As OpenSSH names it in certificates.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pty => "permit-pty",
            Self::PortForwarding => "permit-port-forwarding",
            Self::AgentForwarding => "permit-agent-forwarding",
        }
    }
}

/// The text is no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a certificate permits permit-pty, permit-port-forwarding or permit-agent-forwarding")]
pub struct BadPermit;

impl FromStr for Permit {
    type Err = BadPermit;
    fn from_str(text: &str) -> Result<Self, BadPermit> {
        let all = [Self::Pty, Self::PortForwarding, Self::AgentForwarding];
        all.into_iter().find(|permit| permit.as_str() == text).ok_or(BadPermit)
    }
}

/// What a certificate is called: the same for every certificate of a person or a host, so that one line of a revocation
/// list takes all of them back.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum CertificateId {
    /// Of a person or a program of this tenant.
    Identity(SshIdentity, Label),
    /// Of a host of this tenant, by what it does not lose with a new name.
    Device(DeviceId, Label),
}

impl fmt::Display for CertificateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity(identity, tenant) => write!(f, "{identity}@{tenant}"),
            Self::Device(device, tenant) => write!(f, "h:{device}@{tenant}"),
        }
    }
}

impl fmt::Debug for CertificateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for CertificateId {
    type Err = BadSsh;
    fn from_str(text: &str) -> Result<Self, BadSsh> {
        let bad = BadSsh::CertificateId;
        let (holder, tenant) = text.split_once('@').ok_or_else(|| bad.clone())?;
        let tenant = tenant.parse().map_err(|_| bad.clone())?;
        match holder.strip_prefix("h:") {
            Some(device) => Ok(Self::Device(device.parse().map_err(|_| bad)?, tenant)),
            None => Ok(Self::Identity(holder.parse().map_err(|_| bad)?, tenant)),
        }
    }
}

cbor_as_text!(CertificateId);
serde_as_text!(CertificateId);

/// Which certificates of an authority are revoked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Revoked {
    /// One.
    Serial(SshSerial),
    /// All of a person or a host.
    Id(CertificateId),
}

impl fmt::Display for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serial(serial) => write!(f, "serial:{serial}"),
            Self::Id(id) => write!(f, "id:{id}"),
        }
    }
}

impl FromStr for Revoked {
    type Err = BadSsh;
    fn from_str(text: &str) -> Result<Self, BadSsh> {
        match text.split_once(':') {
            Some(("serial", serial)) => Ok(Self::Serial(serial.parse()?)),
            Some(("id", id)) => Ok(Self::Id(id.parse()?)),
            _ => Err(BadSsh::Revoked),
        }
    }
}

cbor_as_text!(Revoked);
serde_as_text!(Revoked);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_lines_of_openssh() {
        let key = CaKey::from_bytes([7; 32]);
        let line = key.to_string();
        assert!(line.starts_with("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI"), "{line}");
        assert_eq!(line.parse(), Ok(key));
        for bad in ["", "ssh-ed25519", "ssh-ed25519 ", "ssh-rsa AAAA", &line[..line.len() - 4]] {
            assert_eq!(bad.parse::<CaKey>(), Err(BadSsh::Key), "{bad}");
        }
        let other = line.replace("ssh-ed25519 AAAAC3", "ssh-ed25519 AAAAC4");
        assert_eq!(other.parse::<CaKey>(), Err(BadSsh::Key));
    }

    #[test]
    fn serials_count_within_an_epoch_and_are_never_zero() {
        let serial = |epoch, counter| SshSerial::new(Epoch(epoch), counter).map(SshSerial::number);
        assert_eq!(serial(1, 5), Some((1 << 47) + 5));
        assert_eq!(serial(0, 0), None);
        assert_eq!(serial(1 << 16, 1), None);
        assert_eq!(serial(1, 1 << 47), None);
        assert!(serial(u32::from(u16::MAX), (1 << 47) - 1).is_some_and(|n| i64::try_from(n).is_ok()));
        assert_eq!("0".parse::<SshSerial>(), Err(BadSsh::Serial));
        assert_eq!("9223372036854775808".parse::<SshSerial>(), Err(BadSsh::Serial));
        let serial = SshSerial::new(Epoch(3), 9).expect("fits");
        assert_eq!(serial.to_string().parse(), Ok(serial));
        assert_eq!(serde_json::to_string(&serial).expect("encodes"), format!("\"{serial}\""));
    }

    #[test]
    fn logins_are_safe_names_of_files() {
        for good in ["root", "_apt", "ada", "a-b_9", &"a".repeat(32)] {
            assert!(good.parse::<Login>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "-a", "9a", "Ada", "a b", "a\n", "a%u", "é", &"a".repeat(33)] {
            assert_eq!(bad.parse::<Login>(), Err(BadSsh::Login), "{bad:?}");
        }
    }

    #[test]
    fn identities_read_back_and_nothing_else_does() {
        for text in ["u:ada", "s:backup-2"] {
            assert_eq!(text.parse::<SshIdentity>().map(|i| i.to_string()), Ok(text.into()));
        }
        for bad in ["", "ada", "u:", "x:ada", "u:*", "u:a,b", "u:a b", "u:a\n", "u:a:b"] {
            assert!(bad.parse::<SshIdentity>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_revoked_reads_back() {
        for text in [
            "serial:140737488355333",
            "id:u:ada@home",
            "id:s:backup@home",
            "id:h:03030303-0303-0303-0303-030303030303@home",
        ] {
            assert_eq!(text.parse::<Revoked>().map(|r| r.to_string()), Ok(text.into()));
        }
        for bad in
            ["", "serial:0", "id:", "id:ada@home", "id:u:ada", "id:u:ada@", "id:h:1@home", "id:u:*@home"]
        {
            assert!(bad.parse::<Revoked>().is_err(), "{bad}");
        }
    }
}
