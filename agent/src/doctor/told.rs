//! Whether the machine's resolver was told of the mesh, and still knows.

use std::net::IpAddr;

use engine::Subject;
use host::drive::Report;
use host::resolver::conf::SERVERS_MAX;
use host::resolver::survey::Survey;
use host::resolver::{Owner, Trouble, programs};
use model::api::local::Finding;

use super::{LOG, Own, remedy};

/// Programs that are known to write `/etc/resolv.conf`, by their process's name.
const WRITERS: [&str; 14] = [
    "NetworkManager",
    "dhclient",
    "dhcpcd",
    "connmand",
    "openvpn",
    "openconnect",
    "vpnc",
    "tailscaled",
    "netbird",
    "mullvad-daemon",
    "nordvpnd",
    "expressvpnd",
    "pppd",
    "cloud-init",
];

/// What resolvconf and openresolv put before every record.
const PUT_FIRST: &str = "take name_servers= out of /etc/resolvconf.conf, and nameserver out of /etc/resolvconf/resolv.conf.d/head; then: resolvconf -u";

/// What the node cannot do about names, and what is wrong besides.
pub(super) fn failing(report: &Report, survey: &Survey) -> Vec<Finding> {
    let resolver = report.node.failing.iter().find(|failing| failing.change.subject() == Subject::Resolver);
    let mut findings = Vec::new();
    if let Some(failing) = resolver {
        findings.push(Finding::bad("told", &failing.reason, mends(report.host.resolver_trouble, survey)));
    }
    let told = resolver.map(|failing| format!("{}: {}", failing.change, failing.reason));
    let others = report.node.problems.iter().filter(|problem| Some(*problem) != told.as_ref());
    findings.extend(others.map(|problem| Finding::bad("device", problem, "warren status")));
    findings
}

fn mends(trouble: Option<Trouble>, survey: &Survey) -> String {
    let file = survey.file.path.display();
    match trouble {
        Some(Trouble::Contested) => {
            format!("{}; then: systemctl restart warren-agent", rival(survey))
        }
        Some(Trouble::Taken) => "install systemd-resolved, which has room for several meshes".into(),
        Some(Trouble::Port) => "start warren-agent with --dns-port 53".into(),
        Some(Trouble::Absent) => "systemctl start systemd-resolved".into(),
        Some(Trouble::Bus) => "systemctl status dbus systemd-resolved".into(),
        Some(Trouble::File) => format!("lsattr {file} shows an i if it may not be written: chattr -i {file}"),
        Some(Trouble::Tool) | None => LOG.into(),
    }
}

/// Who takes our lines away: whoever the file names, else whoever has it open or is known for it.
fn rival(survey: &Survey) -> String {
    if let Some(writer) = &survey.file.writer {
        return format!("{} wrote it: switch off that it sets name servers", writer.name);
    }
    let mut suspects = programs::with_open(&survey.file.path);
    suspects.extend(programs::running(&WRITERS));
    suspects.dedup();
    match suspects.as_slice() {
        [] => format!("find who writes it: inotifywait -m {} & fuser -v {0}", survey.file.path.display()),
        some => format!("it may be {}: switch off that it sets name servers", some.join(" or ")),
    }
}

/// Whether something else says already why the resolver knows nothing of the mesh: it could not be told, or nobody
/// answers at the addresses that it would be told.
pub(super) fn is_explained(own: &Own, report: &Report) -> bool {
    let own_servers = own.addresses.both();
    report.node.failing.iter().any(|failing| failing.change.subject() == Subject::Resolver)
        || !report.names.listening.iter().any(|server| own_servers.contains(&server.ip()))
}

/// What its owner knows. If it is `explained` why that is nothing, nobody else is blamed for it.
pub(super) fn told(own: &Own, survey: &Survey, owner: Owner, explained: bool) -> Vec<Finding> {
    match owner {
        Owner::Off => Vec::new(),
        Owner::Resolved => by_resolved(own, survey, explained),
        Owner::Resolvconf | Owner::File => by_file(own, survey, owner, explained),
    }
}

fn by_resolved(own: &Own, survey: &Survey, explained: bool) -> Vec<Finding> {
    let Some(view) = &survey.resolved else { return Vec::new() };
    let own_servers = own.addresses.both();
    let ours = view.links.iter().find(|link| link.name == own.interface);
    let Some(ours) = ours.filter(|link| link.servers.iter().any(|server| own_servers.contains(&server.ip())))
    else {
        if explained {
            return Vec::new();
        }
        let what = format!("systemd-resolved knows no server of the mesh for {}", own.interface);
        return vec![Finding::bad("told", &what, remedy(Owner::Resolved))];
    };
    let mut findings = Vec::new();
    let asked = view.asked(own.name.as_str());
    if asked.iter().any(|asked| asked.link == ours) {
        let servers: Vec<String> = ours.servers.iter().map(ToString::to_string).collect();
        let what =
            format!("names in {} are asked at {} on {}", own.zone, servers.join(" and "), own.interface);
        findings.push(Finding::good("told", &what));
    }
    for other in asked.iter().filter(|asked| asked.link != ours) {
        let (link, domain) = (named(&other.link.name), other.domain.unwrap_or("."));
        let what = format!("{} is asked at {link}, too, which has the domain {domain}", own.name);
        let mends = match other.link.name.as_str() {
            "" => "take the domain out of Domains= in /etc/systemd/resolved.conf; systemctl restart systemd-resolved".into(),
            link => format!("take it away: resolvectl domain {link} ''"),
        };
        findings.push(Finding::bad("told", &what, &mends));
    }
    if ours.default_route {
        let what =
            format!("all questions of this machine go to {}, which knows the mesh only", own.interface);
        findings.push(Finding::bad("told", &what, format!("resolvectl default-route {} no", own.interface)));
    }
    if !ours.domains.iter().any(|(domain, only_routes)| domain == own.zone.as_str() && !only_routes) {
        findings.push(unsearched(own, Owner::Resolved));
    }
    findings
}

fn named(link: &str) -> &str {
    if link.is_empty() { "the servers of /etc/systemd/resolved.conf" } else { link }
}

fn by_file(own: &Own, survey: &Survey, owner: Owner, explained: bool) -> Vec<Finding> {
    let (file, said) = (survey.file.path.display(), &survey.file.said);
    let own_servers = own.addresses.both();
    let is_own = |server: &IpAddr| own_servers.contains(server);
    let mut findings = Vec::new();
    match said.servers.iter().position(is_own) {
        None if explained => return findings,
        None => {
            findings.push(Finding::bad("told", format!("{file} names no server of the mesh"), remedy(owner)));
        }
        Some(0) => {
            let after: Vec<String> = said.servers.iter().skip(1).map(ToString::to_string).collect();
            let after = if after.is_empty() { "nobody".to_owned() } else { after.join(" and ") };
            findings.push(Finding::good(
                "told",
                format!("{file}: {} is asked first, then {after}", said.servers[0]),
            ));
        }
        Some(_) => {
            let what =
                format!("{file}: {} is asked first, and says that there are no such names", said.servers[0]);
            let mends = if owner == Owner::Resolvconf { PUT_FIRST } else { remedy(owner) };
            findings.push(Finding::bad("told", &what, mends));
        }
    }
    if said.servers.len() > SERVERS_MAX {
        let left: Vec<String> = said.servers[SERVERS_MAX..].iter().map(ToString::to_string).collect();
        findings.push(Finding::good(
            "told",
            format!("programs read {SERVERS_MAX} servers of a file: {} is left out", left.join(", ")),
        ));
    }
    if said.rotates() && said.servers.len() > 1 {
        let what = format!("{file} says `options rotate`: only some questions come to the mesh's server");
        findings.push(Finding::bad("told", &what, format!("sed -i 's/\\brotate\\b//' {file}")));
    }
    if !said.search.iter().any(|domain| domain.eq_ignore_ascii_case(own.zone.as_str())) {
        findings.push(unsearched(own, owner));
    }
    findings
}

fn unsearched(own: &Own, owner: Owner) -> Finding {
    let what = format!("{} is not searched: short names are not found, only whole ones", own.zone);
    Finding::bad("search", &what, remedy(owner))
}

#[cfg(test)]
mod tests {
    use host::resolver::conf;
    use host::resolver::resolved::{LinkView, View};
    use host::resolver::survey::FileView;

    use super::*;
    use crate::doctor::tests::own;

    fn survey(text: &str, resolved: Option<View>) -> Survey {
        Survey {
            owner: Owner::File,
            file: FileView {
                path: "/etc/resolv.conf".into(),
                link: None,
                writer: None,
                said: conf::said(text.as_bytes()),
                original: conf::said(b""),
                holder: None,
            },
            sources: vec!["dns".into()],
            resolved,
            network_manager: None,
            unread: Vec::new(),
        }
    }

    fn problems(findings: &[Finding]) -> Vec<&str> {
        findings.iter().filter(|f| !f.ok).map(|f| f.what.as_str()).collect()
    }

    #[test]
    fn a_file_names_the_meshs_server_first_and_searches_its_zone() {
        let check = |text: &str, expect: &[&str]| {
            let findings = told(&own(), &survey(text, None), Owner::File, false);
            let found = problems(&findings);
            assert_eq!(found.len(), expect.len(), "{text:?}: {found:?}");
            for (what, part) in found.iter().zip(expect) {
                assert!(what.contains(part), "{text:?}: {what}");
            }
        };
        check("nameserver 100.64.0.2\nnameserver 192.0.2.1\nsearch home.internal lan\n", &[]);
        check("nameserver 192.0.2.1\nsearch home.internal\n", &["names no server of the mesh"]);
        check(
            "nameserver 192.0.2.1\nnameserver 100.64.0.2\nsearch home.internal\n",
            &["192.0.2.1 is asked first"],
        );
        check("nameserver 100.64.0.2\nsearch lan\n", &["is not searched"]);
        let by_resolvconf =
            survey("nameserver 192.0.2.1\nnameserver 100.64.0.2\nsearch home.internal\n", None);
        let findings = told(&own(), &by_resolvconf, Owner::Resolvconf, false);
        assert!(findings[0].remedy.contains("name_servers="), "{findings:?}");
        check(
            "nameserver 100.64.0.2\nnameserver 192.0.2.1\nsearch home.internal\noptions rotate\n",
            &["options rotate"],
        );
        check("", &["names no server", "is not searched"]);
    }

    #[test]
    fn nobody_is_blamed_for_what_is_explained() {
        let check = |text: &str, owner: Owner, expect: usize| {
            let view = View { mode: "stub".into(), stub: "yes".into(), global: none(), links: Vec::new() };
            let findings = told(&own(), &survey(text, Some(view)), owner, true);
            assert_eq!(problems(&findings).len(), expect, "{text:?}: {findings:?}");
        };
        for owner in [Owner::File, Owner::Resolvconf, Owner::Resolved] {
            check("nameserver 192.0.2.1\nsearch lan\n", owner, 0);
        }
        check("nameserver 100.64.0.2\nsearch lan\n", Owner::File, 1);
    }

    fn none() -> LinkView {
        LinkView { name: String::new(), servers: Vec::new(), domains: Vec::new(), default_route: true }
    }

    #[test]
    fn resolved_asks_the_meshs_interface_and_no_other() {
        let own = own();
        let ours = LinkView {
            name: "wg0".into(),
            servers: vec!["100.64.0.2:53".parse().expect("an address")],
            domains: vec![("home.internal".into(), false)],
            default_route: false,
        };
        let other = LinkView {
            name: "tun0".into(),
            servers: vec!["192.0.2.9:53".parse().expect("an address")],
            domains: vec![("home.internal".into(), true)],
            default_route: false,
        };
        let check = |links: Vec<LinkView>, expect: &[&str]| {
            let view = View { mode: "stub".into(), stub: "yes".into(), global: none(), links };
            let findings = told(&own, &survey("", Some(view)), Owner::Resolved, false);
            let found = problems(&findings);
            assert_eq!(found.len(), expect.len(), "{found:?}");
            for (what, part) in found.iter().zip(expect) {
                assert!(what.contains(part), "{what}");
            }
        };
        check(vec![ours.clone()], &[]);
        check(vec![other.clone()], &["knows no server of the mesh"]);
        check(vec![ours.clone(), other], &["at tun0, too"]);
        check(vec![LinkView { default_route: true, ..ours.clone() }], &["all questions"]);
        let routed = vec![("home.internal".into(), true)];
        check(vec![LinkView { domains: routed, ..ours }], &["is not searched"]);
    }
}
