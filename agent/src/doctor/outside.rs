//! Whether those whom our server asks about names outside the mesh answer, and why they do not.

use host::drive::lookup::{Condition, Upstream};
use model::Name;
use model::api::local::Finding;

use crate::profile::Profile;
use crate::told::upstream;

const UNNAMED: &str = "name one: warren-agent --dns-upstream ADDRESS";
const SILENT: &str =
    "see whether it can be reached: dig @ADDRESS example.org; or name another: --dns-upstream";
const UNTRUSTED: &str =
    "see its name, and who vouches for it: openssl s_client -connect ADDRESS:853; --dns-ca-file";
const LOOPS: &str = "leave its address out of --dns-upstream, or let it not ask this machine";

/// Those who are asked about a name, or all. Nothing where names outside the mesh are not looked up here.
pub(super) async fn servers(profile: &Profile, name: Option<&Name>) -> Vec<Finding> {
    let Ok(handle) = profile.handle() else { return Vec::new() };
    let Ok(lookup) = handle.lookup().await else { return Vec::new() };
    lookup.servers(name).map(|servers| findings(&servers, name.is_none())).unwrap_or_default()
}

fn findings(servers: &[Upstream], are_all: bool) -> Vec<Finding> {
    if servers.is_empty() && are_all {
        let what = "names outside the mesh are looked up here, and no server for them is known";
        return vec![Finding::bad("forward", what, UNNAMED)];
    }
    servers.iter().map(finding).collect()
}

fn finding(server: &Upstream) -> Finding {
    let about =
        server.suffix.as_ref().map_or_else(|| "outside the mesh".into(), |suffix| format!("in {suffix}"));
    let what = format!("names {about} are asked of {}", upstream(server));
    let is_untrusted = server.trouble.as_ref().is_some_and(|trouble| trouble.contains("certificate"));
    match server.condition {
        Condition::Good | Condition::Doubtful => Finding::good("forward", &what),
        Condition::Dead if is_untrusted => Finding::bad("forward", &what, UNTRUSTED),
        Condition::Dead => Finding::bad("forward", &what, SILENT),
        Condition::Looping => Finding::bad("forward", &what, LOOPS),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_server_is_a_line_with_what_helps() {
        let check = |condition, trouble: Option<&str>, parts: &[&str], helps: &str| {
            let server = Upstream {
                suffix: Some("corp.example".into()),
                target: "192.0.2.1".parse::<host::drive::Rule>().expect("a server").target,
                condition,
                round_trip: Some(Duration::from_millis(2)),
                trouble: trouble.map(Into::into),
            };
            let [finding] = &findings(&[server], true)[..] else { panic!("one line") };
            assert!(parts.iter().all(|part| finding.what.contains(part)), "{}", finding.what);
            assert_eq!((finding.ok, finding.remedy.contains(helps)), (helps.is_empty(), true), "{finding:?}");
        };
        check(Condition::Good, None, &["in corp.example", "192.0.2.1, which answers"], "");
        check(Condition::Dead, Some("no answer in time"), &["no answer in time"], "dig @");
        check(Condition::Dead, Some("invalid peer certificate: UnknownIssuer"), &["Issuer"], "--dns-ca-file");
        check(Condition::Looping, None, &["asks us"], "--dns-upstream");
        assert!(!findings(&[], true)[0].ok && findings(&[], false).is_empty());
    }
}
