//! resolvconf and openresolv (`resolvconf(8)`): our servers and zone are one record among others.

use std::fs;
use std::path::{Path, PathBuf};

use engine::ResolverSetting;

use super::file::{parse_remark, remark};
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

fn record(interface: &InterfaceName) -> String {
    format!("{interface}.warren")
}

/// Where our record lies, if there is one.
pub(crate) fn file_of(interface: &InterfaceName) -> Option<PathBuf> {
    RECORDS.iter().map(|directory| Path::new(directory).join(record(interface))).find(|path| path.exists())
}

pub(crate) fn set(interface: &InterfaceName, setting: &ResolverSetting) -> Result<(), ToolError> {
    let mut text = remark(setting);
    for server in &setting.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    text.push_str(&format!("search {}\n", setting.domain));
    run(resolvconf(), &["-a", &record(interface)], &text).map(|_| ())
}

pub(crate) fn clear(interface: &InterfaceName) -> Result<(), ToolError> {
    if file_of(interface).is_none() {
        return Ok(());
    }
    run(resolvconf(), &["-d", &record(interface)], "").map(|_| ())
}

pub(crate) fn read(interface: &InterfaceName) -> Result<Option<ResolverSetting>, ToolError> {
    let text = file_of(interface).and_then(|path| fs::read_to_string(path).ok());
    Ok(text.and_then(|text| text.lines().find_map(parse_remark)))
}
