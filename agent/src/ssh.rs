//! What this device's people need of SSH: whose hosts they may trust, and how this machine's own sshd is. Runs no ssh.

use engine::status::PeerStatus;
use model::api::local::{Answer, Finding, HeldCertificate};
use model::{CaKind, CertificateId, Code, Label, NodeId, Refusal, Revoked, SshTrust, Timestamp};

use crate::doctor::inactive;
use crate::profile::Profile;
use crate::{lookup, view};

/// Lines of `known_hosts` for a host that is a device of the mesh: every authority that is trusted, for exactly the name that
/// was asked for, and its plain key, which serves when its certificate does not. ssh asks before it looks into the file of
/// revoked hosts: that is brought up to date here.
pub async fn known_hosts(
    profile: &Profile,
    name: &Label,
    asked: &str,
    now: Timestamp,
) -> Result<Vec<String>, Refusal> {
    // As ssh writes a host at another port (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT).
    let host = asked.strip_prefix('[').and_then(|rest| rest.split_once(']')).map_or(asked, |(host, _)| host);
    let printable = asked.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b));
    if !printable {
        return Err(Refusal::new(Code::BadRequest, "no name of a host"));
    }
    let report = profile.report().await?;
    let Some(tenant) = view::active(&report) else { return Err(view::inactive(&report)) };
    let zone = profile.zone(tenant.held.version).await?;
    let address = lookup::find(&zone, host)?.address;
    let is_peer = |peer: &&PeerStatus| {
        matches!(peer.node, NodeId::Device(_)) && peer.allowed.iter().any(|net| net.contains(&address))
    };
    let peer = tenant.peers.iter().find(is_peer);
    let is_self = tenant.addresses.is_some_and(|own| own.both().contains(&address));
    if peer.is_none() && !is_self {
        return Err(Refusal::new(Code::DeviceNotFound, format!("{host} is no device of the mesh")));
    }
    profile.revoked_hosts(name, tenant.held.version, now).await?;
    let trusted = tenant.ssh_keys.iter().filter(|key| key.kind == CaKind::Host);
    let authorities = trusted.map(|key| format!("@cert-authority {asked} {}", key.key));
    let plain = peer.and_then(|peer| peer.host_key.as_ref()).map(|key| format!("{asked} {key}"));
    Ok(authorities.chain(plain).collect())
}

/// Whose certificates of people the mesh's hosts take, whether the one at hand is among those that are revoked, and the file of
/// hosts that are to be refused.
pub async fn trusted(
    profile: &Profile,
    name: &Label,
    held: Option<&HeldCertificate>,
    now: Timestamp,
) -> Result<Answer, Refusal> {
    let report = profile.report().await?;
    let Some(tenant) = view::active(&report) else { return Err(view::inactive(&report)) };
    let keys = tenant.ssh_keys.iter().filter(|key| key.kind == CaKind::User).map(|key| key.key).collect();
    let held_revoked = match held {
        Some(held) => takes_back(&profile.ssh_trust().await?, held),
        None => false,
    };
    Ok(Answer::Trusted {
        keys,
        revoked_hosts: Some(profile.revoked_hosts(name, tenant.held.version, now).await?),
        held_revoked,
        addresses: tenant.addresses.map(|own| own.both().to_vec()).unwrap_or_default(),
    })
}

/// Whether hosts refuse a person's certificate: what is listed is of one tenant alone.
fn takes_back(trust: &SshTrust, held: &HeldCertificate) -> bool {
    let means = |what: &Revoked| match what {
        Revoked::Serial(serial) => *serial == held.serial,
        Revoked::Id(CertificateId::Identity(identity, _)) => *identity == held.identity,
        Revoked::Id(CertificateId::Device(..)) => false,
    };
    trust.revoked.keys().any(|(kind, what)| *kind == CaKind::User && means(what))
}

/// How this machine's sshd is.
pub async fn doctor(profile: &Profile, name: &Label) -> Result<Vec<Finding>, Refusal> {
    let report = profile.report().await?;
    if view::active(&report).is_none() {
        return Ok(vec![inactive(&report, "SSH authorities")]);
    }
    let sshd = &report.sshd;
    let settings = profile.settings();
    let mut findings = Vec::new();
    if let Some(problem) = &sshd.problem {
        findings.push(Finding::bad(
            "sshd",
            problem,
            "mend what it says; it is tried again within five minutes, or at once when the agent starts",
        ));
    } else if sshd.kept {
        let keys = sshd.people.len();
        findings.push(Finding::good(
            "sshd",
            format!("sshd takes certificates of {keys} key(s) of the mesh's authority for people"),
        ));
    } else {
        let config = settings.sshd_config.display();
        let why = format!(
            "sshd is not told of the mesh: --ssh is off, or {config} includes no directory of drop-ins"
        );
        findings.push(Finding::good("sshd", &why));
    }
    match (sshd.kept, sshd.certificate_until) {
        (true, Some(until)) => {
            findings.push(Finding::good(
                "certificate",
                format!("this host's certificate is valid until {until}"),
            ));
        }
        (true, None) => findings.push(Finding::bad(
            "certificate",
            "this host has none yet: people who connect are asked for its key, or know it from the mesh",
            "warren status says whether the server is reached; on the server: warren ca status",
        )),
        (false, _) => {}
    }
    if report.node.tenants.first().is_some_and(|tenant| tenant.ssh_keys.is_empty()) {
        let what = format!("the server of profile {name} says nothing of SSH");
        findings.push(Finding::bad("server", &what, "upgrade the server"));
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_persons_certificate_is_taken_back_by_its_number_or_by_the_person() {
        let read = |text: &str| text.parse::<Revoked>().expect("reads");
        let mut trust = SshTrust::default();
        trust.revoked.insert((CaKind::User, read("serial:5")), ());
        trust.revoked.insert((CaKind::User, read("id:u:cyd@home")), ());
        trust.revoked.insert((CaKind::Host, read("serial:6")), ());
        for (serial, identity, expect) in
            [("5", "u:ada", true), ("7", "u:cyd", true), ("6", "u:ada", false), ("7", "s:cyd", false)]
        {
            let (serial, identity) =
                (serial.parse().expect("a serial"), identity.parse().expect("an identity"));
            let held = HeldCertificate { serial, identity };
            assert_eq!(takes_back(&trust, &held), expect, "{held:?}");
        }
    }
}
