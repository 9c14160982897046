//! `warren dns query`: what this device's programs are told about a name, and why.

use std::path::Path;
use std::time::Duration;

use model::Label;
use model::api::local::{Answer, DnsTold, Request};

use crate::agent::ask_once;
use crate::failure::{Exit, Failure};
use crate::output::Output;

/// Several names may be asked for in turn, and each may be forwarded to servers that are silent.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is wanted.
pub(super) struct Asked<'a> {
    pub(super) name: &'a str,
    pub(super) kind: Option<&'a str>,
    pub(super) explain: bool,
}

pub(super) async fn run(
    socket: &Path,
    profile: &Label,
    asked: &Asked<'_>,
    output: &Output,
) -> Result<Exit, Failure> {
    let kind = asked.kind.map(str::to_owned);
    let request = Request::DnsQuery { profile: profile.clone(), name: asked.name.into(), kind };
    let told = match ask_once(socket, &request, PATIENCE).await? {
        Answer::Told(told) => told,
        other => return Err(Failure::bug(format!("the agent answered {other:?}"))),
    };
    if output.json() {
        output.json_line(&told);
    } else if output.quiet() {
        told.records.iter().for_each(|record| output.line(&record.value));
    } else {
        show(&told, asked.explain).iter().for_each(|line| output.line(line));
    }
    Ok(exit(&told))
}

fn exit(told: &DnsTold) -> Exit {
    match told.code.as_str() {
        "NOERROR" if has_wanted(told) => Exit::Done,
        "NOERROR" | "NXDOMAIN" => Exit::NotFound,
        "SERVFAIL" => Exit::Unreachable,
        _ => Exit::Refused,
    }
}

/// Whether there is more than aliases on the way to it.
fn has_wanted(told: &DnsTold) -> bool {
    let is_wanted = |kind: &str| kind == told.kind || told.kind == "ANY";
    told.records.iter().any(|record| is_wanted(&record.kind))
}

fn show(told: &DnsTold, explain: bool) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for record in &told.records {
        lines.push(format!("{} {} {} {}", record.name, record.ttl, record.kind, record.value));
    }
    if told.code != "NOERROR" || !has_wanted(told) {
        let what = if told.code == "NOERROR" { "NOERROR, without records of this type" } else { &told.code };
        lines.push(format!("{} {}: {what}", told.name, told.kind));
    }
    let error = told.extended_error.map(|code| format!(", extended error {code}")).unwrap_or_default();
    lines.push(format!("{}{error}, in {} µs", source(told), told.micros));
    if explain {
        lines.extend(told.rules.iter().map(|rule| format!("  {rule}")));
    }
    lines
}

fn source(told: &DnsTold) -> String {
    let from = |what: &str| told.from.as_ref().map_or_else(|| what.into(), |from| format!("{what} {from}"));
    let by = || told.from.as_ref().map(|from| format!(" by {from}")).unwrap_or_default();
    match told.source.as_str() {
        "zone" => from("from the zone"),
        "server" => from("from the server"),
        "kept" => format!("told{} {} s ago", by(), told.age_seconds.unwrap_or_default()),
        "stale" => format!("told{} some time ago, and nobody has a newer answer", by()),
        "here" => "answered here: nobody is to be asked about this name".into(),
        "refused" => "refused here".into(),
        "loop" => "our own question came back".into(),
        _ => "nobody answered".into(),
    }
}

#[cfg(test)]
mod tests {
    use model::api::SCHEMA_VERSION;
    use model::api::local::DnsToldRecord;

    use super::*;

    fn told(code: &str, values: &[&str], source: &str) -> DnsTold {
        let record = |value: &&str| DnsToldRecord {
            name: "beta.home.internal".into(),
            ttl: 30,
            kind: "A".into(),
            value: (*value).into(),
        };
        DnsTold {
            schema_version: SCHEMA_VERSION,
            name: "beta.home.internal".into(),
            kind: "A".into(),
            code: code.into(),
            extended_error: None,
            records: values.iter().map(record).collect(),
            source: source.into(),
            from: None,
            age_seconds: None,
            micros: 12,
            rules: vec!["a rule".into()],
        }
    }

    #[test]
    fn scripts_see_by_the_exit_code_whether_there_is_an_answer() {
        let check = |code, values: &[&str], expect| assert_eq!(exit(&told(code, values, "zone")), expect);
        check("NOERROR", &["100.64.0.3"], Exit::Done);
        check("NOERROR", &[], Exit::NotFound);
        check("NXDOMAIN", &[], Exit::NotFound);
        check("NXDOMAIN", &["100.64.0.3"], Exit::NotFound);
        check("REFUSED", &[], Exit::Refused);
        check("SERVFAIL", &[], Exit::Unreachable);
    }

    #[test]
    fn an_alias_of_nothing_is_no_answer() {
        let alias = |code: &str| {
            let mut told = told(code, &["gone.home.internal."], "zone");
            told.records[0].kind = "CNAME".into();
            told
        };
        let (gone, empty) = (alias("NXDOMAIN"), alias("NOERROR"));
        assert_eq!((exit(&gone), exit(&empty)), (Exit::NotFound, Exit::NotFound));
        assert_eq!(
            show(&gone, false)[..2],
            ["beta.home.internal 30 CNAME gone.home.internal.", "beta.home.internal A: NXDOMAIN"]
        );
        assert_eq!(show(&empty, false)[1], "beta.home.internal A: NOERROR, without records of this type");
        let asked = DnsTold { kind: "CNAME".into(), ..empty };
        assert_eq!((exit(&asked), show(&asked, false).len()), (Exit::Done, 2));
    }

    #[test]
    fn people_see_answer_source_and_time() {
        let zone = DnsTold { from: Some("home.internal".into()), ..told("NOERROR", &["100.64.0.3"], "zone") };
        let lines = ["beta.home.internal 30 A 100.64.0.3", "from the zone home.internal, in 12 µs"];
        assert_eq!(show(&zone, false), lines);
        assert_eq!(show(&zone, true)[2], "  a rule");
        let server = Some("192.0.2.1".to_owned());
        let stale =
            DnsTold { from: server, extended_error: Some(3), ..told("NOERROR", &["192.0.2.7"], "stale") };
        let text =
            "told by 192.0.2.1 some time ago, and nobody has a newer answer, extended error 3, in 12 µs";
        assert_eq!(show(&stale, false)[1], text);
        assert_eq!(show(&told("NXDOMAIN", &[], "zone"), false)[0], "beta.home.internal A: NXDOMAIN");
    }
}
