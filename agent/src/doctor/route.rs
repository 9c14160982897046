//! Who is asked for a name on this machine, and what comes of it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use host::resolver::Owner;
use host::resolver::conf::SERVERS_MAX;
use host::resolver::survey::Survey;
use model::Name;
use model::api::local::Finding;
use tokio::net::lookup_host;
use tokio::time::timeout;

use crate::query::{self, Said};
use crate::told::reverse;

use super::{Own, remedy};

/// The machine's resolver tries each of its servers twice for 5 s by default; somebody waits at a terminal.
const RESOLVE_PATIENCE: Duration = Duration::from_secs(8);
/// For one server.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);
/// Whom programs ask beyond what is looked at, at most.
const CANDIDATES_MAX: usize = 6;
const NO_NAME: &str = "nobody has such a name: `warren status` shows those of the mesh";
const NO_TARGET: &str =
    "let the alias lead to a name that there is: `warren dns list` shows those of the mesh";
const FAILING: &str = "see which server fails, and why: warren dns query NAME --explain";
/// SERVFAIL, NXDOMAIN and REFUSED (RFC 1035, section 4.1.1; RFC 2308).
const FAILS: u8 = 2;
const NO_SUCH_NAME: u8 = 3;
const REFUSES: u8 = 5;
const HOSTS: &str = "/etc/hosts";

/// The way of a name, or of the name of an address, step by step.
pub(super) async fn of(own: &Own, survey: &Survey, owner: Owner, name: &str) -> Vec<Finding> {
    if let Ok(address) = name.parse::<IpAddr>() {
        let (findings, _) = asked(survey, owner, &[reverse(address)], query::PTR).await;
        return findings;
    }
    let Ok(whole) = name.trim_end_matches('.').parse::<Name>() else {
        return vec![Finding::bad("name", format!("{name:?} is no name"), "letters, digits, hyphens, dots")];
    };
    let mut findings = Vec::new();
    let hosts = std::fs::read_to_string(HOSTS).unwrap_or_default();
    if let Some(address) = in_hosts(&hosts, whole.as_str()) {
        let what = format!("{HOSTS} says that {whole} is {address}: no server is asked");
        findings.push(match whole.is_within(&own.zone) {
            true => Finding::bad("hosts", &what, format!("take it out: sed -i '/{whole}/d' {HOSTS}")),
            false => Finding::good("hosts", &what),
        });
    }
    let search = searched(own, survey, owner);
    let candidates = candidates(&whole, name.ends_with('.'), &search);
    let (way, said) = asked(survey, owner, &candidates, query::A).await;
    findings.extend(way);
    let expected = if whole == own.name { own.addresses.both().to_vec() } else { Vec::new() };
    // Where every server that is asked answers, it is the name that there is none of.
    let is_answered = said.iter().any(|said| *said != Said::Nothing);
    let mends = if is_answered || findings.iter().all(|f| f.ok) { no_name(&said) } else { remedy(owner) };
    findings.push(found(&whole, &expected, mends).await);
    findings
}

/// What is asked where until somebody has records, and what was said.
async fn asked(survey: &Survey, owner: Owner, names: &[Name], kind: u16) -> (Vec<Finding>, Vec<Said>) {
    let (mut findings, mut all) = (Vec::new(), Vec::new());
    for name in names {
        let servers = servers(survey, owner, name.as_str());
        if servers.is_empty() {
            let what = format!("nobody is asked for {name}: this machine has no name server for it");
            findings.push(Finding::bad("route", &what, remedy(owner)));
            continue;
        }
        let by: Vec<String> = servers.iter().map(|(server, by)| format!("{server}{by}")).collect();
        let (first, _) = servers[0];
        let said = query::ask(first, name, kind, ANSWER_PATIENCE).await;
        let what = format!("{name} is asked at {}: {}", by.join(", then "), in_words(&said));
        findings.push(match &said {
            Ok(Said::Nothing) | Err(_) => Finding::bad("route", &what, remedy(owner)),
            Ok(Said::Code(FAILS) | Said::Alias(_, FAILS)) => Finding::bad("route", &what, FAILING),
            Ok(Said::Alias(_, NO_SUCH_NAME)) => Finding::bad("route", &what, NO_TARGET),
            Ok(Said::Code(_)) if kind == query::PTR => Finding::bad("route", &what, NO_NAME),
            Ok(Said::Found(_) | Said::Code(_) | Said::Alias(..)) => Finding::good("route", &what),
        });
        all.extend(said);
        if matches!(all.last(), Some(Said::Found(_))) {
            break;
        }
    }
    (findings, all)
}

/// What helps where everybody answers, and not with an address.
fn no_name(said: &[Said]) -> &'static str {
    let is_known = |said: &Said| matches!(said, Said::Found(_) | Said::Code(0) | Said::Alias(_, 0));
    let all_refuse = !said.is_empty() && said.iter().all(|said| *said == Said::Code(REFUSES));
    let is_wrong = |said: &Said| {
        matches!(said, Said::Nothing | Said::Code(FAILS) | Said::Alias(_, FAILS | NO_SUCH_NAME))
    };
    match () {
        () if said.iter().any(is_wrong) => "mend the above first",
        () if all_refuse => "the server does not look up names outside the mesh: see --dns-forward",
        () if said.iter().any(is_known) => "see what it has: warren dns query NAME --type AAAA",
        () => NO_NAME,
    }
}

/// The way of every program: getaddrinfo(3).
pub(super) async fn found(name: &Name, addresses: &[IpAddr], remedy: &str) -> Finding {
    let answer = timeout(RESOLVE_PATIENCE, lookup_host((name.as_str(), 0))).await;
    match answer {
        Err(_) => Finding::bad(
            "found",
            format!("the machine's resolver does not answer for {name} in time"),
            remedy,
        ),
        Ok(Err(error)) => {
            Finding::bad("found", format!("the machine's resolver does not find {name}: {error}"), remedy)
        }
        Ok(Ok(found)) => {
            let mut found: Vec<IpAddr> = found.map(|address| address.ip()).collect();
            found.dedup();
            let text: Vec<String> = found.iter().map(ToString::to_string).collect();
            let text = text.join(" and ");
            if addresses.is_empty() || found.iter().any(|address| addresses.contains(address)) {
                Finding::good("found", format!("the machine's resolver finds {name}: {text}"))
            } else {
                let what = format!("the machine's resolver finds something else for {name}: {text}");
                Finding::bad("found", &what, "look into /etc/hosts")
            }
        }
    }
}

fn in_words(said: &std::io::Result<Said>) -> String {
    let code = |code: &u8| match *code {
        0 => "there is such a name, without records of this type".into(),
        FAILS => "it cannot find out (SERVFAIL)".into(),
        NO_SUCH_NAME => "there is no such name (NXDOMAIN)".into(),
        REFUSES => "refused, so the next one is asked".into(),
        code => format!("it fails (code {code})"),
    };
    match said {
        Ok(Said::Found(values)) => values.join(" and "),
        Ok(Said::Alias(target, number)) => format!("it is an alias of {target}, of which {}", code(number)),
        Ok(Said::Code(number)) => code(number),
        Ok(Said::Nothing) => "no answer".into(),
        Err(error) => format!("no answer: {error}"),
    }
}

/// What is appended to short names.
fn searched(own: &Own, survey: &Survey, owner: Owner) -> Vec<String> {
    match (&survey.resolved, owner) {
        (Some(view), Owner::Resolved) => {
            let links = view.links.iter().filter(|link| link.default_route || link.name == own.interface);
            let domains = std::iter::once(&view.global).chain(links).flat_map(|link| &link.domains);
            domains.filter(|(_, only_routes)| !only_routes).map(|(domain, _)| domain.clone()).collect()
        }
        _ => survey.file.said.search.clone(),
    }
}

/// The names that are asked for in turn: a name without a dot is a short one, and one with a dot at its end is whole.
fn candidates(name: &Name, whole: bool, search: &[String]) -> Vec<Name> {
    let short = name.labels().count() == 1;
    let appended = search.iter().filter_map(|domain| domain.parse::<Name>().ok()?.below(name).ok());
    let mut all: Vec<Name> = if whole { Vec::new() } else { appended.collect() };
    all.truncate(CANDIDATES_MAX);
    if !short || whole {
        all.insert(0, name.clone());
    }
    all
}

/// Who is asked for a whole name, in this order, with the reason.
fn servers(survey: &Survey, owner: Owner, name: &str) -> Vec<(SocketAddr, String)> {
    if let (Some(view), Owner::Resolved) = (&survey.resolved, owner) {
        let asked = view.asked(name);
        return asked
            .iter()
            .filter_map(|asked| {
                let on = if asked.link.name.is_empty() {
                    String::new()
                } else {
                    format!(" on {}", asked.link.name)
                };
                let by = asked
                    .domain
                    .map_or_else(|| ", by the default route".into(), |d| format!(", by its domain {d}"));
                Some((*asked.link.servers.first()?, format!("{on}{by}")))
            })
            .collect();
    }
    let servers = survey.file.said.servers.iter().take(SERVERS_MAX);
    servers.map(|server| (SocketAddr::new(*server, 53), String::new())).collect()
}

/// What `hosts(5)` says of a name.
fn in_hosts(text: &str, name: &str) -> Option<IpAddr> {
    text.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_searched_and_whole_ones_asked_first() {
        let check = |name: &str, whole, expect: &[&str]| {
            let search = ["home.internal".to_owned(), "lan".to_owned(), "not a name".to_owned()];
            let found = candidates(&name.parse().expect("a name"), whole, &search);
            let found: Vec<&str> = found.iter().map(Name::as_str).collect();
            assert_eq!(found, expect, "{name}");
        };
        check("beta", false, &["beta.home.internal", "beta.lan"]);
        check("beta", true, &["beta"]);
        check("a.b", false, &["a.b", "a.b.home.internal", "a.b.lan"]);
    }

    #[test]
    fn no_such_name_no_answer_and_no_target_are_told_apart() {
        let check = |said: &[Said], expect: &str| {
            let helps = no_name(said);
            assert!(helps.contains(expect), "{said:?}: {helps}");
        };
        check(&[Said::Code(3)], "nobody has such a name");
        check(&[Said::Code(3), Said::Code(0)], "warren dns query");
        check(&[Said::Code(REFUSES)], "--dns-forward");
        check(&[], "nobody has such a name");
        check(&[Said::Code(3), Said::Code(FAILS)], "above");
        let words = |said| in_words(&Ok(said));
        assert!(words(Said::Code(FAILS)).contains("SERVFAIL"));
        let alias = words(Said::Alias("gone.home.internal".into(), 3));
        assert_eq!(alias, "it is an alias of gone.home.internal, of which there is no such name (NXDOMAIN)");
    }

    #[test]
    fn hosts_are_read_without_remarks() {
        let text =
            "127.0.0.1 localhost\n# 192.0.2.9 beta.home.internal\n192.0.2.1\tx Beta.home.internal # why\n";
        assert_eq!(in_hosts(text, "beta.home.internal"), Some("192.0.2.1".parse().expect("an address")));
        assert_eq!(in_hosts(text, "gamma"), None);
    }
}
