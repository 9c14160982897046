//! systemd-resolved, per interface (`resolvectl(1)`): only the mesh's names and addresses go to our servers.

use std::path::Path;

use engine::ResolverSetting;

use super::arpa;
use super::tool::{ToolError, find, run};
use crate::interface::InterfaceName;

const RESOLVECTL: [&str; 2] = ["/usr/bin/resolvectl", "/bin/resolvectl"];

fn resolvectl() -> &'static Path {
    find(&RESOLVECTL).unwrap_or(Path::new(RESOLVECTL[0]))
}

/// Whether it runs and can be told.
pub(crate) fn is_running() -> bool {
    find(&RESOLVECTL).is_some() && Path::new("/run/systemd/resolve/stub-resolv.conf").exists()
}

pub(crate) fn set(interface: &InterfaceName, setting: &ResolverSetting) -> Result<(), ToolError> {
    let interface = interface.as_str();
    let servers: Vec<String> = setting.servers.iter().map(ToString::to_string).collect();
    let domains = domains(setting);
    let call = |verb: &'static str, values: &[String]| {
        let mut arguments = vec![verb, interface];
        arguments.extend(values.iter().map(String::as_str));
        run(resolvectl(), &arguments, "").map(|_| ())
    };
    call("default-route", &["no".into()])?;
    call("domain", &domains)?;
    call("dns", &servers)
}

/// The zone, for search and routing, then the reverse zones, for routing only.
fn domains(setting: &ResolverSetting) -> Vec<String> {
    let reverse = setting.reverse.iter().flat_map(|net| arpa::zones(*net)).map(|zone| format!("~{zone}"));
    std::iter::once(setting.domain.to_string()).chain(reverse).collect()
}

pub(crate) fn clear(interface: &InterfaceName) -> Result<(), ToolError> {
    match run(resolvectl(), &["revert", interface.as_str()], "") {
        // What is set on an interface goes with it.
        Err(ToolError::Failed { said, .. }) if is_gone(&said) => Ok(()),
        other => other.map(|_| ()),
    }
}

fn is_gone(said: &str) -> bool {
    said.contains("No such device")
        || said.contains("not known")
        || said.contains("Failed to resolve interface")
}

pub(crate) fn read(interface: &InterfaceName) -> Result<Option<ResolverSetting>, ToolError> {
    let ask = |verb| match run(resolvectl(), &[verb, interface.as_str()], "") {
        Err(ToolError::Failed { said, .. }) if is_gone(&said) => Ok(String::new()),
        other => other,
    };
    Ok(parse(&ask("dns")?, &ask("domain")?))
}

/// `Link 5 (wg0): 100.64.0.2 fd00::2` and `Link 5 (wg0): home.internal ~64.100.in-addr.arpa`.
fn parse(dns: &str, domain: &str) -> Option<ResolverSetting> {
    let words = |text: &str| -> Vec<String> {
        let values = text.lines().filter_map(|line| line.split_once("):")).map(|(_, values)| values);
        values.flat_map(str::split_whitespace).map(str::to_owned).collect()
    };
    let servers: Vec<_> = words(dns).iter().filter_map(|word| word.parse().ok()).collect();
    let domains = words(domain);
    let search = domains.iter().find(|word| !word.starts_with('~'))?.parse().ok()?;
    let reverse = arpa::nets(domains.iter().filter_map(|word| word.strip_prefix('~')));
    (!servers.is_empty()).then_some(ResolverSetting { servers, domain: search, reverse })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_resolvectl_prints_is_what_was_set() {
        let setting = ResolverSetting {
            servers: vec!["100.64.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
            domain: "home.internal".parse().unwrap(),
            reverse: vec!["100.64.0.0/16".parse().unwrap(), "fd00::/48".parse().unwrap()],
        };
        let domain = format!("Link 5 (wg0): {}\n", domains(&setting).join(" "));
        assert_eq!(parse("Link 5 (wg0): 100.64.0.2 fd00::2\n", &domain), Some(setting));
        assert_eq!(parse("Link 5 (wg0):\n", "Link 5 (wg0):\n"), None);
        assert_eq!(parse("", ""), None);
    }
}
