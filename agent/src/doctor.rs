//! `warren doctor dns`: why a name of the mesh resolves on this machine, or does not. Mends nothing.

use std::net::IpAddr;
use std::time::Duration;

use host::drive::Report;
use host::resolver::Owner;
use model::api::local::Finding;
use model::{Code, Name, Refusal};
use tokio::net::lookup_host;
use tokio::time::timeout;

use crate::profile::Profile;
use crate::query::{self, Said};
use crate::view;

/// Our own server is on this machine.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);
/// The machine's resolver tries each of its servers twice for 5 s by default; somebody waits at a terminal.
const RESOLVE_PATIENCE: Duration = Duration::from_secs(8);

/// What was looked at, in the order in which a question travels.
pub async fn dns(profile: &Profile) -> Result<Vec<Finding>, Refusal> {
    let report = profile.report().await?;
    let Some((own, addresses)) =
        view::active(&report).and_then(|t| Some((t.zone.child(&t.name).ok()?, t.addresses?)))
    else {
        return Ok(vec![inactive(&report)]);
    };
    if profile.stack().is_some() {
        return Ok(vec![rootless(profile)]);
    }
    let mut findings = vec![owner(profile, report.host.resolver)];
    findings.extend(
        report
            .node
            .problems
            .iter()
            .chain(&report.names.problems)
            .map(|problem| bad(problem, "warren status")),
    );
    findings.extend(servers(&report, &own).await);
    findings.push(machine(report.host.resolver, &own, &addresses.both()).await);
    Ok(findings)
}

fn inactive(report: &Report) -> Finding {
    let state = view::state(report);
    let remedy = match state {
        "pending" => Code::DevicePending.hint(),
        "revoked" => Code::DeviceRevoked.hint(),
        "joining" => "warren wait --for settled",
        _ => "warren up",
    };
    bad(&format!("this device is {state}: it has no names"), remedy)
}

/// Without an interface this machine's resolver is told nothing.
fn rootless(profile: &Profile) -> Finding {
    match profile.settings().proxy() {
        Ok(Some(proxy)) => good(&format!(
            "in mode netstack names are known to the proxies at {proxy} and to `warren nc`, not to this machine's resolver"
        )),
        _ => bad(
            "in mode netstack without a proxy, only `warren nc` knows names",
            "start warren-agent with --proxy",
        ),
    }
}

fn owner(profile: &Profile, owner: Owner) -> Finding {
    match owner {
        Owner::Off if profile.leaves_resolver() => bad(
            "the machine's resolver is left alone, as --resolver none says",
            "start warren-agent with --resolver auto, or ask its server by hand: dig @ADDRESS NAME",
        ),
        Owner::Off => bad(
            "/etc/resolv.conf has room for one mesh, and another profile has it",
            "install systemd-resolved, which has room for several",
        ),
        owner => good(&format!("this machine resolves names by {owner}")),
    }
}

async fn servers(report: &Report, own: &Name) -> Vec<Finding> {
    let mut findings = Vec::new();
    for server in &report.names.listening {
        let said = query::ask(*server, own, ANSWER_PATIENCE).await;
        findings.push(match said {
            Ok(Said::Found) => good(&format!("the agent answers for {own} at {server}")),
            Ok(Said::Code(code)) => {
                bad(&format!("the agent at {server} does not know {own} (code {code})"), LOG)
            }
            Ok(Said::Nothing) => bad(
                &format!("the agent does not answer at {server}"),
                "look for a firewall: nft list ruleset",
            ),
            Err(error) => bad(&format!("the agent cannot be asked at {server}: {error}"), LOG),
        });
    }
    if findings.is_empty() {
        findings.push(bad("the agent answers at no address", LOG));
    }
    findings
}

const LOG: &str = "see why: journalctl -u warren-agent";

/// The way of every program: getaddrinfo(3).
async fn machine(owner: Owner, own: &Name, addresses: &[IpAddr]) -> Finding {
    let remedy = match owner {
        Owner::Resolved => "resolvectl status; then restart the agent: systemctl restart warren-agent",
        Owner::Resolvconf => "resolvconf -l; then restart the agent: systemctl restart warren-agent",
        Owner::File => {
            "look for a program that rewrites /etc/resolv.conf; then `warren down` and `warren up`"
        }
        Owner::Off => "ask the agent by hand: dig @ADDRESS NAME",
    };
    match timeout(RESOLVE_PATIENCE, lookup_host((own.as_str(), 0))).await {
        Err(_) => bad(&format!("the machine's resolver does not answer for {own} in time"), remedy),
        Ok(Err(error)) => bad(&format!("the machine's resolver does not find {own}: {error}"), remedy),
        Ok(Ok(found)) => {
            let found: Vec<IpAddr> = found.map(|address| address.ip()).collect();
            if found.iter().any(|address| addresses.contains(address)) {
                good(&format!("the machine's resolver finds {own}"))
            } else {
                bad(
                    &format!("the machine's resolver finds something else for {own}: {found:?}"),
                    "look into /etc/hosts",
                )
            }
        }
    }
}

fn good(what: &str) -> Finding {
    Finding { ok: true, what: what.into(), remedy: String::new() }
}

fn bad(what: &str, remedy: &str) -> Finding {
    Finding { ok: false, what: what.into(), remedy: remedy.into() }
}
