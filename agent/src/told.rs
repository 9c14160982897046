//! What this device's programs are told about a name, and why. Asks as they do: a short name with the zone appended.

use std::net::IpAddr;

use host::drive::lookup::{
    Condition, Looked, Lookup, Origin, Outside, Upstream, ZoneRule, kind_number, kind_text,
};
use model::api::SCHEMA_VERSION;
use model::api::local::{DnsTold, DnsToldRecord};
use model::{Code, Name, Refusal};

use crate::profile::{Profile, failed};
use crate::view;

/// What there is instead of a transfer.
const LISTS: &str = "what the zone holds: `warren device list` and `warren dns list`, for administrators";

/// Asks the profile's own server of names, within this process.
///
/// # Errors
/// The device takes no part in a mesh, or name or type are none.
pub async fn about(profile: &Profile, target: &str, kind: Option<&str>) -> Result<DnsTold, Refusal> {
    let kind = kind.map(parsed).transpose()?;
    let report = profile.report().await?;
    let tenant = view::active(&report).ok_or_else(|| view::inactive(&report))?;
    let addresses = tenant.addresses.ok_or_else(|| view::inactive(&report))?;
    let asked = Asked::parse(target, kind, &tenant.zone)?;
    let lookup = profile.handle()?.lookup().await.map_err(|gone| failed(&gone))?;
    let [asker, _] = addresses.both();
    let mut rules = Vec::new();
    let mut best: Option<(&Name, Looked)> = None;
    for name in &asked.candidates {
        let looked = ask(&lookup, name, asked.kind, asker).await?;
        rules.extend(steps(name, &looked));
        let found = !looked.shown.records.is_empty();
        // Without records, the first of them counts that anybody knows anything about.
        if found || best.as_ref().is_none_or(|(_, best)| best.shown.code == "REFUSED") {
            best = Some((name, looked));
        }
        if found {
            break;
        }
    }
    let (name, looked) = best.expect("there is a name to ask for");
    Ok(told(name, asked.kind, looked, rules))
}

async fn ask(lookup: &Lookup, name: &Name, kind: u16, asker: IpAddr) -> Result<Looked, Refusal> {
    let looked = lookup.ask(name, kind, asker).await;
    looked.ok_or_else(|| Refusal::new(Code::Internal, format!("{name} got no answer")))
}

/// A question, and the names to ask for until one has records.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    candidates: Vec<Name>,
    kind: u16,
}

impl Asked {
    fn parse(target: &str, kind: Option<u16>, zone: &Name) -> Result<Self, Refusal> {
        const A: u16 = 1;
        const PTR: u16 = 12;
        if let Ok(address) = target.parse::<IpAddr>() {
            return Ok(Self { candidates: vec![reverse(address)], kind: kind.unwrap_or(PTR) });
        }
        let bad =
            |error: &dyn std::fmt::Display| Refusal::new(Code::NameInvalid, format!("{target:?}: {error}"));
        let (whole, is_whole) = target.strip_suffix('.').map_or((target, false), |whole| (whole, true));
        let name: Name = whole.parse().map_err(|error: model::name::BadName| bad(&error))?;
        let mut candidates = vec![name.clone()];
        if !is_whole && !name.is_within(zone) {
            // resolv.conf(5), ndots: a name with a dot is tried as it is first, one without is searched for first.
            let searched = zone.below(&name).map_err(|error| bad(&error))?;
            let at = if name.labels().count() == 1 { 0 } else { 1 };
            candidates.insert(at, searched);
        }
        Ok(Self { candidates, kind: kind.unwrap_or(A) })
    }
}

fn parsed(kind: &str) -> Result<u16, Refusal> {
    kind_number(kind)
        .ok_or_else(|| Refusal::new(Code::TypeUnknown, format!("{kind:?} is no type of records")))
}

/// The name whose PTR record says whose address it is (RFC 1035, section 3.5; RFC 3596, section 2.5).
pub fn reverse(address: IpAddr) -> Name {
    let text = match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(address) => {
            let nibbles =
                address.octets().into_iter().rev().map(|byte| format!("{:x}.{:x}.", byte & 15, byte >> 4));
            format!("{}ip6.arpa", nibbles.collect::<String>())
        }
    };
    text.parse().expect("digits and dots are a name")
}

fn told(name: &Name, kind: u16, looked: Looked, rules: Vec<String>) -> DnsTold {
    let (source, from, age_seconds) = source(&looked);
    let records = looked.shown.records.into_iter().map(|record| DnsToldRecord {
        name: record.name,
        ttl: record.ttl,
        kind: record.kind,
        value: record.value,
    });
    DnsTold {
        schema_version: SCHEMA_VERSION,
        name: name.to_string(),
        kind: kind_text(kind),
        code: looked.shown.code,
        extended_error: looked.shown.extended_error.map(|(code, _)| code),
        records: records.collect(),
        source: source.into(),
        from,
        age_seconds,
        micros: u64::try_from(looked.took.as_micros()).unwrap_or(u64::MAX),
        rules,
    }
}

fn source(looked: &Looked) -> (&'static str, Option<String>, Option<u32>) {
    let Some(outside) = &looked.outside else {
        return match looked.zones.tenant {
            Some(_) => ("zone", looked.zones.rules.first().and_then(origin), None),
            None => ("refused", None, None),
        };
    };
    let Outside::Forwarded { origin, .. } = outside else { return ("refused", None, None) };
    let text = |server: &Option<_>| server.as_ref().map(ToString::to_string);
    match origin {
        Origin::Refused => ("refused", None, None),
        Origin::Here => ("here", None, None),
        Origin::Server(server) => ("server", text(server), None),
        Origin::Kept { server, seconds: Some(seconds) } => ("kept", text(server), Some(*seconds)),
        Origin::Kept { server, seconds: None } => ("stale", text(server), None),
        Origin::Loop => ("loop", None, None),
        Origin::Nobody => ("nobody", None, None),
    }
}

/// The top of the zone that answers.
fn origin(rule: &ZoneRule) -> Option<String> {
    match rule {
        ZoneRule::Zone { origin, .. } => Some(origin.clone()),
        ZoneRule::Block { apex } => Some(apex.clone()),
        _ => None,
    }
}

/// The way of one name, step by step.
fn steps(name: &Name, looked: &Looked) -> Vec<String> {
    let mut steps = vec![format!("{name}:")];
    steps.extend(looked.zones.rules.iter().map(ToString::to_string));
    if looked.zones.rules.contains(&ZoneRule::Transfer) {
        steps.push(LISTS.into());
    }
    match &looked.outside {
        None => {}
        Some(Outside::Closed) => {
            steps.push("names outside the mesh are not looked up here (--dns-forward): refused".into());
        }
        Some(Outside::Forwarded { origin: Origin::Refused, .. }) => {
            steps.push("nothing of the mesh is asked of others: refused".into());
        }
        Some(Outside::Forwarded { origin: Origin::Here, .. }) => {
            steps.push("nobody is to be asked about it (RFC 6761, RFC 6303): answered here".into());
        }
        Some(Outside::Forwarded { servers, .. }) if servers.is_empty() => {
            steps.push("no server is known for it".into());
        }
        Some(Outside::Forwarded { servers, .. }) => steps.extend(servers.iter().map(asked)),
    }
    steps.push(match looked.shown.extended_error {
        Some((number, words)) => format!("{}, extended error {number}: {words}", looked.shown.code),
        None => looked.shown.code.clone(),
    });
    let mut indented = vec![steps.remove(0)];
    indented.extend(steps.into_iter().map(|step| format!("  {step}")));
    indented
}

fn asked(server: &Upstream) -> String {
    let about = server.suffix.as_ref().map_or_else(|| "the rest".into(), |suffix| format!("all of {suffix}"));
    format!("asked about {about}: {}", upstream(server))
}

/// A server, how it is, and why.
pub fn upstream(server: &Upstream) -> String {
    let condition = match server.condition {
        Condition::Good if server.round_trip.is_none() => "was not asked yet",
        Condition::Good => "answers",
        Condition::Doubtful => "did not answer the last time",
        Condition::Dead => "does not answer, and is only probed",
        Condition::Looping => "asks us, and is left out",
    };
    let is_silent = matches!(server.condition, Condition::Doubtful | Condition::Dead);
    let why = match (&server.trouble, server.round_trip) {
        (Some(trouble), _) if is_silent => format!(": {trouble}"),
        (_, Some(takes)) if server.condition == Condition::Good => format!(" ({} µs)", takes.as_micros()),
        _ => String::new(),
    };
    format!("{}, which {condition}{why}", server.target)
}

#[cfg(test)]
mod tests {
    use host::drive::lookup::{Explanation, Rcode, Shown};

    use super::*;

    fn names(target: &str) -> Result<Vec<String>, Code> {
        let zone = "home.internal".parse().expect("a name");
        let asked = Asked::parse(target, None, &zone).map_err(|refusal| refusal.code)?;
        Ok(asked.candidates.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn names_are_searched_as_resolvers_do() {
        let check = |target: &str, expect: &[&str]| {
            assert_eq!(names(target), Ok(expect.iter().map(ToString::to_string).collect()), "{target}");
        };
        check("beta", &["beta.home.internal", "beta"]);
        check("beta.", &["beta"]);
        check("www.beta", &["www.beta", "www.beta.home.internal"]);
        check("BETA.home.internal", &["beta.home.internal"]);
        check("100.64.0.3", &["3.0.64.100.in-addr.arpa"]);
        let six = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa";
        check("fd00::1", &[six]);
    }

    #[test]
    fn a_transfer_is_refused_here_and_told_what_there_is_instead() {
        let looked = Looked {
            shown: Shown { code: "REFUSED".into(), extended_error: None, records: Vec::new() },
            took: std::time::Duration::from_micros(9),
            zones: Explanation { code: Rcode::Refused, tenant: None, rules: vec![ZoneRule::Transfer] },
            outside: None,
        };
        let name = "home.internal".parse().expect("a name");
        let rules = steps(&name, &looked);
        let expect = [
            "home.internal:",
            "  transfers of whole zones are refused (RFC 5936)",
            "  what the zone holds: `warren device list` and `warren dns list`, for administrators",
            "  REFUSED",
        ];
        assert_eq!(rules, expect);
        assert_eq!(told(&name, 252, looked, rules).source, "refused");
    }

    #[test]
    fn servers_are_shown_with_their_trouble_and_without_a_time_that_nobody_measured() {
        let server = |condition, round_trip, trouble: Option<&str>| Upstream {
            suffix: None,
            target: "192.0.2.1".parse::<host::drive::Rule>().expect("a server").target,
            condition,
            round_trip,
            trouble: trouble.map(Into::into),
        };
        let check = |shown: Upstream, expect| assert_eq!(upstream(&shown), expect);
        let took = Some(std::time::Duration::from_micros(900));
        check(server(Condition::Good, None, None), "192.0.2.1, which was not asked yet");
        check(server(Condition::Good, took, None), "192.0.2.1, which answers (900 µs)");
        let dead = server(Condition::Dead, took, Some("connection: invalid peer certificate"));
        let said =
            "192.0.2.1, which does not answer, and is only probed: connection: invalid peer certificate";
        check(dead, said);
        check(server(Condition::Looping, took, None), "192.0.2.1, which asks us, and is left out");
    }

    #[test]
    fn what_is_no_name_or_no_type_has_a_code() {
        for bad in ["", ".", "a b", "-x", "a..b", &"a".repeat(64)] {
            assert_eq!(names(bad), Err(Code::NameInvalid), "{bad:?}");
        }
        assert_eq!(parsed("NOPE").map_err(|refusal| refusal.code), Err(Code::TypeUnknown));
        assert_eq!(parsed("aaaa"), Ok(28));
    }
}
