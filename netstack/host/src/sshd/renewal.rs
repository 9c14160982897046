//! When a host certificate is to be asked for: what it must be is known, so is what it is.

use std::time::Duration;

use ca::HostCertificate;
use engine::SshState;
use model::{CaKind, HostKey, Revoked, SshSerial, Timestamp};

/// A certificate is renewed after half of its life, and up to this part of the half later: machines that were started
/// together do not come together.
const SPREAD: f64 = 0.2;

/// From when a new certificate is wanted. `None`: nobody signs certificates of hosts.
pub(super) fn wanted_at(
    certificate: Option<&HostCertificate>,
    key: &HostKey,
    state: &SshState,
    jitter: f64,
) -> Option<Timestamp> {
    let signer = state.trust.trusted(CaKind::Host).find(|key| key.signs)?.key;
    let at_once = Timestamp::default();
    let Some(certificate) = certificate else { return Some(at_once) };
    let names = certificate.names.is_superset(&names(state).into_iter().collect());
    let serial = SshSerial::from_number(certificate.serial).map(Revoked::Serial);
    let revoked = serial.is_some_and(|serial| state.trust.revoked.get(&(CaKind::Host, serial)).is_some());
    if certificate.signer != signer || certificate.key != *key || !names || revoked {
        return Some(at_once);
    }
    let life = certificate.valid_until.unix_micros() - certificate.valid_from.unix_micros();
    let half = Duration::from_micros(u64::try_from(life).unwrap_or_default()) / 2;
    Some(certificate.valid_from + half + half.mul_f64(SPREAD * jitter.clamp(0.0, 1.0)))
}

/// What people call this host.
fn names(state: &SshState) -> Vec<String> {
    let fqdn = state.zone.child(&state.name).map(|name| name.to_string());
    let addresses = state.addresses.both().map(|address| address.to_string());
    let aliases = state.aliases.iter().map(ToString::to_string);
    fqdn.into_iter().chain([state.name.to_string()]).chain(aliases).chain(addresses).collect()
}

#[cfg(test)]
mod tests {
    use model::{Block, CaKey, OwnSsh, SshTrust, TenantId, TrustedKey, Version};

    use super::*;

    fn state() -> SshState {
        let block = Block::new("100.64.0.0/16".parse().unwrap(), TenantId::from_bytes([1; 16])).unwrap();
        let trusted = |n, signs| TrustedKey { kind: CaKind::Host, key: CaKey::from_bytes([n; 32]), signs };
        SshState {
            version: Version::default(),
            name: "beta".parse().unwrap(),
            zone: "home.internal".parse().unwrap(),
            aliases: ["www.home.internal".parse().unwrap()].into(),
            addresses: block.host(2).unwrap(),
            block,
            own: OwnSsh::default(),
            trust: SshTrust { keys: vec![trusted(1, true), trusted(2, false)], ..SshTrust::default() },
        }
    }

    fn key(n: u8) -> HostKey {
        CaKey::from_bytes([n; 32]).to_string().parse().unwrap()
    }

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_unix_micros(hours * 3_600_000_000)
    }

    #[test]
    fn it_is_renewed_after_half_of_its_life_and_at_once_when_it_is_another() {
        let good = HostCertificate {
            serial: 5,
            signer: CaKey::from_bytes([1; 32]),
            key: key(9),
            names: names(&state()).into_iter().collect(),
            valid_from: at(100),
            valid_until: at(268),
        };
        let check = |certificate: &HostCertificate, expect| {
            assert_eq!(wanted_at(Some(certificate), &key(9), &state(), 0.0), Some(expect));
        };
        check(&good, at(184));
        assert!(wanted_at(Some(&good), &key(9), &state(), 1.0).unwrap() < at(202));
        check(&HostCertificate { signer: CaKey::from_bytes([2; 32]), ..good.clone() }, Timestamp::default());
        check(&HostCertificate { key: key(8), ..good.clone() }, Timestamp::default());
        let fewer = good.names.iter().skip(1).cloned().collect();
        check(&HostCertificate { names: fewer, ..good.clone() }, Timestamp::default());
        let mut revoked = state();
        for (kind, number) in [(CaKind::User, 5), (CaKind::Host, 6)] {
            let serial = Revoked::Serial(SshSerial::from_number(number).unwrap());
            revoked.trust.revoked.insert((kind, serial), ());
        }
        assert_eq!(wanted_at(Some(&good), &key(9), &revoked, 0.0), Some(at(184)));
        let sixth = HostCertificate { serial: 6, ..good };
        assert_eq!(wanted_at(Some(&sixth), &key(9), &revoked, 0.0), Some(Timestamp::default()));
        assert_eq!(wanted_at(None, &key(9), &state(), 0.5), Some(Timestamp::default()));
        let unsigned = SshState { trust: SshTrust::default(), ..state() };
        assert_eq!(wanted_at(None, &key(9), &unsigned, 0.5), None);
    }
}
