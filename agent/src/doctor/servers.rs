//! Whether the servers of the mesh's names answer: this device's own, and the hub's.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use dns::serve::{Held, Holder};
use host::drive::Report;
use host::resolver::programs;
use model::api::local::Finding;

use crate::query::{self, Said};

use super::{LOG, Own};

/// Our own server is on this machine.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);
/// Port of DNS on the hub.
const HUB_PORT: u16 = 53;
/// Servers of names that people run, by their process's name: whose sockets they are is hidden from an agent that has
/// given up most capabilities.
const KNOWN: [&str; 12] = [
    "dnsmasq",
    "named",
    "unbound",
    "coredns",
    "pihole-FTL",
    "AdGuardHome",
    "kresd",
    "knotd",
    "nsd",
    "pdns_recursor",
    "dnscrypt-proxy",
    "connmand",
];

/// Who has the port where our own server is to answer.
pub(super) fn port(own: &Own, report: &Report) -> Vec<Finding> {
    let served: Vec<IpAddr> = report.names.listening.iter().map(SocketAddr::ip).collect();
    let unserved: Vec<IpAddr> = own.addresses.both().into_iter().filter(|a| !served.contains(a)).collect();
    if unserved.is_empty() {
        return report.names.problems.iter().map(|problem| Finding::bad("server", problem, LOG)).collect();
    }
    let all = dns::serve::holders(own.port);
    unserved.iter().map(|address| taken(own, *address, &all)).collect()
}

fn taken(own: &Own, address: IpAddr, all: &[Held]) -> Finding {
    let Some(held) = all.iter().find(|held| held.excludes(address)) else {
        return Finding::bad(
            "port",
            format!("the agent does not answer at {address}, and nobody else has the port"),
            LOG,
        );
    };
    let known = match &held.holder {
        Holder::Process { name, .. } => vec![name.clone()],
        Holder::User { .. } | Holder::Unknown => programs::running(&KNOWN),
    };
    let by = known.first().map_or("another program", String::as_str);
    let what =
        format!("port {} of {address} is taken by {by} ({} at {})", own.port, held.transport, held.address);
    Finding::bad("port", &what, leaves_port(by, own))
}

/// What has a server of names leave one interface alone.
fn leaves_port(program: &str, own: &Own) -> String {
    let interface = &own.interface;
    match program {
        "dnsmasq" => format!(
            "printf 'bind-dynamic\\nexcept-interface={interface}\\n' > /etc/dnsmasq.d/warren-port.conf; systemctl restart dnsmasq"
        ),
        "named" => "name the addresses it is to listen on: listen-on { 127.0.0.1; }; in named.conf; rndc reconfig".into(),
        "unbound" => "name the addresses it is to listen on: interface: 127.0.0.1 in unbound.conf; systemctl restart unbound".into(),
        _ => format!("have it listen elsewhere than on all addresses; who it is: ss -lntup 'sport = {}'", own.port),
    }
}

/// Whether our own server knows our own name, where it listens. Where it should and does not, [`port`] says so.
pub(super) async fn agent(own: &Own, report: &Report) -> Vec<Finding> {
    let mut findings = Vec::new();
    for server in &report.names.listening {
        let said = query::ask(*server, &own.name, query::A, ANSWER_PATIENCE).await;
        let name = &own.name;
        findings.push(match said {
            Ok(Said::Found(_)) => {
                Finding::good("server", format!("the agent answers for {name} at {server}"))
            }
            Ok(Said::Code(code) | Said::Alias(_, code)) => Finding::bad(
                "server",
                format!("the agent at {server} does not know {name} (code {code})"),
                LOG,
            ),
            Ok(Said::Nothing) => Finding::bad(
                "server",
                format!("the agent does not answer at {server}"),
                "look for a firewall: nft list ruleset",
            ),
            Err(error) => {
                Finding::bad("server", format!("the agent cannot be asked at {server}: {error}"), LOG)
            }
        });
    }
    findings
}

/// Whether the hub answers, for devices without an agent and for ours while it starts.
pub(super) async fn hub(own: &Own) -> Finding {
    let server = SocketAddr::new(own.block.hub().v4.into(), HUB_PORT);
    let remedy = "warren ping hub; on the server: warren server status";
    match query::ask(server, &own.name, query::A, ANSWER_PATIENCE).await {
        Ok(Said::Found(_)) => Finding::good("hub", format!("the hub answers for {} at {server}", own.name)),
        Ok(Said::Code(code) | Said::Alias(_, code)) => Finding::bad(
            "hub",
            format!("the hub at {server} does not know {} (code {code})", own.name),
            remedy,
        ),
        Ok(Said::Nothing) => Finding::bad(
            "hub",
            format!("the hub does not answer at {server}; the agent does without"),
            remedy,
        ),
        Err(error) => Finding::bad("hub", format!("the hub cannot be asked at {server}: {error}"), remedy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::tests::own;

    #[test]
    fn who_has_the_port_is_named_with_what_makes_it_leave() {
        let own = own();
        let held = |address: &str, program: &str| Held {
            transport: "udp",
            address: address.parse().expect("an address"),
            holder: Holder::Process { name: program.into(), pid: 2 },
        };
        let check = |all: &[Held], parts: &[&str]| {
            let finding = taken(&own, own.addresses.v4.into(), all);
            let said = format!("{} {}", finding.what, finding.remedy);
            assert!(!finding.ok && parts.iter().all(|part| said.contains(part)), "{said}");
        };
        check(&[held("0.0.0.0", "dnsmasq")], &["taken by dnsmasq", "except-interface=wg0"]);
        check(&[held("::", "named")], &["taken by named", "listen-on"]);
        check(&[held("100.64.0.2", "acme")], &["taken by acme", "sport = 53"]);
        check(&[held("127.0.0.53", "systemd-resolve")], &["nobody else has the port"]);
    }
}
