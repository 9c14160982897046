//! What a certificate of a person and of a host is: names, life, permissions. Decides nothing about who may have one.

use std::collections::BTreeSet;
use std::time::Duration;

use model::address::MeshAddresses;
use model::{Code, DeviceId, Label, Name, Refusal, SshIdentity, SshSerial, Timestamp};

use crate::limits::{BACKDATED, HOST_LIFE, USER_LIFE_DEFAULT, USER_LIFE_MAX, USER_LIFE_MIN};
use crate::order::{Holder, KeyName, Order, Permit};
use crate::subject::Subject;

/// What both profiles rest on.
#[derive(Debug, Clone)]
pub struct Basis {
    /// The key that signs now.
    pub key: KeyName,
    /// The tenant's name.
    pub tenant: Label,
    /// A fresh serial.
    pub serial: SshSerial,
    /// The key that is certified.
    pub subject: Subject,
}

/// What a person's certificate rests on. The person is who is logged in, the device the one that proved itself: neither is
/// a field of the request.
#[derive(Debug, Clone)]
pub struct Person {
    /// Who is logged in.
    pub identity: SshIdentity,
    /// The addresses of the device that proved itself.
    pub device: MeshAddresses,
    /// How long, if the person says so.
    pub life: Option<Duration>,
    /// How long the person's roles allow.
    pub life_max: Duration,
    /// What the person's roles permit besides a terminal.
    pub permits: BTreeSet<Permit>,
}

/// What a host's certificate rests on: the directory, never the certificate before.
#[derive(Debug, Clone)]
pub struct Host {
    /// Which.
    pub device: DeviceId,
    /// Its name, whole.
    pub fqdn: Name,
    /// Its name.
    pub name: Label,
    /// Other names that lead to it, whole.
    pub aliases: BTreeSet<Name>,
    /// Its mesh addresses.
    pub addresses: MeshAddresses,
}

/// A person's certificate.
///
/// # Errors
/// The life that was asked for is not between a minute and what the roles and the hard cap allow.
pub fn user(basis: Basis, person: Person, now: Timestamp) -> Result<Order, Refusal> {
    let life_max = person.life_max.min(USER_LIFE_MAX);
    let life = person.life.unwrap_or(USER_LIFE_DEFAULT.min(life_max));
    if !(USER_LIFE_MIN..=life_max).contains(&life) {
        let detail = format!("{} s is not between 60 s and {} s", life.as_secs(), life_max.as_secs());
        return Err(Refusal::new(Code::LifeInvalid, detail));
    }
    let permits = std::iter::once(Permit::Pty).chain(person.permits).collect();
    let holder = Holder::User { identity: person.identity, source: person.device, permits };
    Ok(order(basis, holder, life, now))
}

/// A host's certificate: its whole name, the short one, aliases and both addresses.
pub fn host(basis: Basis, host: Host, now: Timestamp) -> Order {
    let own = [host.fqdn, host.name.into()];
    let names = own.into_iter().chain(host.aliases).filter(|name| !name.is_wildcard()).collect();
    let holder = Holder::Host { device: host.device, names, addresses: host.addresses };
    order(basis, holder, HOST_LIFE, now)
}

fn order(basis: Basis, holder: Holder, life: Duration, now: Timestamp) -> Order {
    let Basis { key, tenant, serial, subject } = basis;
    Order { key, tenant, serial, subject, holder, valid_from: now - BACKDATED, valid_until: now + life }
}
