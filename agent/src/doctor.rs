//! `warren doctor dns [NAME]`: why a name resolves on this machine, or does not. Mends nothing; says what would.

mod clock;
mod interface;
mod machine;
mod outside;
mod route;
mod servers;
mod told;

use host::resolver::survey::survey;
use host::resolver::{Owner, ResolverConfig};
use model::api::local::Finding;
use model::{Code, Name, Refusal};

use crate::profile::Profile;
use crate::view;

/// What this device is in its mesh, as far as names go.
struct Own {
    name: Name,
    zone: Name,
    addresses: model::MeshAddresses,
    block: model::Block,
    interface: String,
    port: u16,
}

/// What was looked at, in the order in which a question travels; with a name, who is asked for it.
///
/// # Errors
/// The node has stopped.
pub async fn dns(profile: &Profile, name: Option<&str>) -> Result<Vec<Finding>, Refusal> {
    let report = profile.report().await?;
    let Some(tenant) = view::active(&report) else { return Ok(vec![inactive(&report, "names")]) };
    let (Ok(own), Some(addresses)) = (tenant.zone.child(&tenant.name), tenant.addresses) else {
        return Ok(vec![inactive(&report, "names")]);
    };
    if profile.stack().is_some() {
        return Ok(vec![rootless(profile)]);
    }
    let own = Own {
        name: own,
        zone: tenant.zone.clone(),
        addresses,
        block: profile.zone(tenant.held.version).await?.block,
        interface: profile.interface().to_string(),
        port: profile.settings().names.dns_port,
    };
    let survey = survey(&ResolverConfig { port: own.port, ..ResolverConfig::off() }).await;
    if let Some(groundless) = interface::missing(&report.node.failing, profile.settings().mode) {
        let mut findings = vec![machine::owner(profile, report.host.resolver, &survey)];
        findings.extend(machine::sources(&survey));
        findings.extend(groundless);
        return Ok(findings);
    }
    if let Some(name) = name {
        let mut findings = route::of(&own, &survey, report.host.resolver, name).await;
        // Only whom the answer depends on.
        if let Some(foreign) = name.parse::<Name>().ok().filter(|name| is_foreign(&own, name)) {
            findings.extend(outside::servers(profile, Some(&foreign)).await);
        }
        return Ok(findings);
    }
    let mut findings = vec![machine::owner(profile, report.host.resolver, &survey)];
    findings.extend(machine::sources(&survey));
    findings.extend(machine::advice(&own, &survey, report.host.resolver));
    findings.extend(told::failing(&report, &survey));
    let explained = told::is_explained(&own, &report);
    findings.extend(told::told(&own, &survey, report.host.resolver, explained));
    findings.extend(servers::port(&own, &report));
    if !report.names.listening.is_empty() {
        findings.extend(servers::agent(&own, &report).await);
    }
    findings.push(servers::hub(&own).await);
    findings.extend(outside::servers(profile, None).await);
    findings.extend(clock::behind(profile.ledger()));
    // What is wrong before explains why nothing is found.
    let remedy =
        if findings.iter().all(|f| f.ok) { remedy(report.host.resolver) } else { "mend the above first" };
    findings.push(route::found(&own.name, &own.addresses.both(), remedy).await);
    Ok(findings)
}

/// Whether a name is asked of others as it is.
fn is_foreign(own: &Own, name: &Name) -> bool {
    let is_address = name.as_str().parse::<std::net::IpAddr>().is_ok();
    !is_address && !name.is_within(&own.zone) && name.labels().count() > 1
}

pub(crate) fn inactive(report: &host::drive::Report, without: &str) -> Finding {
    let state = view::state(report);
    let remedy = match state {
        "pending" => Code::DevicePending.hint(),
        "revoked" => Code::DeviceRevoked.hint(),
        "joining" => "warren wait --for settled",
        _ => "warren up",
    };
    Finding::bad("device", format!("this device is {state}: it has no {without}"), remedy)
}

/// Without an interface this machine's resolver is told nothing.
fn rootless(profile: &Profile) -> Finding {
    match profile.settings().proxy() {
        Ok(Some(proxy)) => Finding::good(
            "owner",
            format!(
                "in mode netstack names are known to the proxies at {proxy} and to `warren nc`, not to this machine's resolver"
            ),
        ),
        _ => Finding::bad(
            "owner",
            "in mode netstack without a proxy, only `warren nc` knows names",
            "start warren-agent with --proxy",
        ),
    }
}

/// Where to look when the owner of the machine's resolver does not do what it was told.
fn remedy(owner: Owner) -> &'static str {
    match owner {
        Owner::Resolved => "resolvectl status; then restart the agent: systemctl restart warren-agent",
        Owner::Resolvconf => "resolvconf -l; then restart the agent: systemctl restart warren-agent",
        Owner::File => {
            "look for a program that rewrites /etc/resolv.conf; then `warren down` and `warren up`"
        }
        Owner::Off => "ask the agent by hand: dig @ADDRESS NAME",
    }
}

const LOG: &str = "see why: journalctl -u warren-agent";

#[cfg(test)]
mod tests {
    use model::{Block, TenantId};

    use super::*;

    /// The device alpha of the mesh home, for the tests of the parts.
    pub(super) fn own() -> Own {
        let block = Block::new("100.64.0.0/16".parse().expect("a net"), TenantId::from_bytes([7; 16]));
        let block = block.expect("a block");
        Own {
            name: "alpha.home.internal".parse().expect("a name"),
            zone: "home.internal".parse().expect("a name"),
            addresses: block.host(2).expect("a host"),
            block,
            interface: "wg0".into(),
            port: 53,
        }
    }

    #[test]
    fn others_are_asked_only_about_whole_names_of_other_zones() {
        let foreign = |name: &str| is_foreign(&own(), &name.parse().expect("a name"));
        assert!(foreign("www.example.org") && foreign("beta.work.internal"));
        for near in ["beta", "beta.home.internal", "home.internal", "192.0.2.1"] {
            assert!(!foreign(near), "{near}");
        }
    }
}
