//! resolvconf and openresolv (`resolvconf(8)`): our servers and zone are one record among others.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use engine::ResolverSetting;
use model::Name;

use super::tool::{ToolError, find, run};
use crate::interface::InterfaceName;

const RESOLVCONF: [&str; 3] = ["/usr/sbin/resolvconf", "/sbin/resolvconf", "/usr/bin/resolvconf"];
/// Where the two implementations, and versions of them, keep records.
const RECORDS: [&str; 3] =
    ["/run/resolvconf/interface", "/run/resolvconf/interfaces", "/run/resolvconf/keys"];

fn resolvconf() -> &'static Path {
    find(&RESOLVCONF).unwrap_or(Path::new(RESOLVCONF[0]))
}

/// Whether there is one, and not systemd-resolved under its name.
pub(crate) fn is_there() -> bool {
    let real = find(&RESOLVCONF).and_then(|path| fs::canonicalize(path).ok());
    real.is_some_and(|real| real.file_name().is_none_or(|name| name != "resolvectl"))
}

/// Both implementations put records whose name begins like a tunnel's before those of other interfaces.
fn record(interface: &InterfaceName) -> String {
    format!("tun0.{interface}.warren")
}

/// Where our record lies, if there is one.
pub(crate) fn file_of(interface: &InterfaceName) -> Option<PathBuf> {
    RECORDS.iter().map(|directory| Path::new(directory).join(record(interface))).find(|path| path.exists())
}

pub(crate) fn set(interface: &InterfaceName, setting: &ResolverSetting) -> Result<(), ToolError> {
    run(resolvconf(), &["-a", &record(interface)], &render(setting)).map(|_| ())
}

pub(crate) fn clear(interface: &InterfaceName) -> Result<(), ToolError> {
    if file_of(interface).is_none() {
        return Ok(());
    }
    run(resolvconf(), &["-d", &record(interface)], "").map(|_| ())
}

/// What the record says; `asked` if it says that, as the reverse networks have no place in it.
pub(crate) fn read(interface: &InterfaceName, asked: Option<&ResolverSetting>) -> Option<ResolverSetting> {
    parse(&fs::read_to_string(file_of(interface)?).ok()?, asked)
}

fn render(setting: &ResolverSetting) -> String {
    let mut text: String = setting.servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    let searched: Vec<&str> =
        std::iter::once(&setting.domain).chain(&setting.search).map(Name::as_str).collect();
    text.push_str(&format!("search {}\n", searched.join(" ")));
    text
}

fn parse(record: &str, asked: Option<&ResolverSetting>) -> Option<ResolverSetting> {
    let values = |key| {
        record.lines().filter_map(move |line| line.split_once(' ').filter(|(k, _)| *k == key).map(|(_, v)| v))
    };
    let servers: Vec<IpAddr> = values("nameserver").filter_map(|value| value.trim().parse().ok()).collect();
    let mut searched = values("search").next()?.split_whitespace().map(str::parse);
    let domain: Name = searched.next()?.ok()?;
    let search: Vec<Name> = searched.collect::<Result<_, _>>().ok()?;
    let said = |asked: &&ResolverSetting| {
        asked.servers == servers && asked.domain == domain && asked.search == search
    };
    let reverse = asked.filter(said).map(|asked| asked.reverse.clone()).unwrap_or_default();
    Some(ResolverSetting { servers, domain, search, reverse })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_what_was_asked_or_at_least_there() {
        let setting = ResolverSetting {
            servers: vec!["100.64.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
            domain: "home.internal".parse().unwrap(),
            search: vec!["internal".parse().unwrap()],
            reverse: vec!["100.64.0.0/16".parse().unwrap()],
        };
        let text = render(&setting);
        assert_eq!(text, "nameserver 100.64.0.2\nnameserver fd00::2\nsearch home.internal internal\n");
        assert_eq!(parse(&text, Some(&setting)), Some(setting.clone()));
        let left = parse(&text, None).unwrap();
        assert!(
            left.reverse.is_empty() && left.domain == setting.domain,
            "left by a crash: set again, or cleared"
        );
        assert_eq!(parse("", Some(&setting)), None);
        let other = text.replace("fd00::2", "fd00::3");
        assert_ne!(parse(&other, Some(&setting)), Some(setting));
    }
}
