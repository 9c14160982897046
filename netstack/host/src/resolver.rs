//! How the machine's resolver learns of the mesh's names, whoever owns it: systemd-resolved, resolvconf, or the
//! plain file. Everything written is made of parsed addresses and names; no text of a peer gets through.

mod arpa;
mod file;
mod resolvconf;
mod resolved;
mod tool;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use engine::ResolverSetting;

use crate::files::FileError;
use crate::interface::InterfaceName;

/// The file that every program without a better idea reads (`resolv.conf(5)`).
pub const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Who is asked to resolve the mesh's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ResolverMode {
    /// Whoever owns the machine's resolver.
    #[default]
    Auto,
    /// systemd-resolved.
    Resolved,
    /// resolvconf or openresolv.
    Resolvconf,
    /// `/etc/resolv.conf` itself.
    File,
    /// Nobody: the machine's resolver is left alone.
    Off,
}

/// Not a mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a resolver mode is auto, resolved, resolvconf, file or off")]
pub struct BadResolverMode;

impl FromStr for ResolverMode {
    type Err = BadResolverMode;
    fn from_str(text: &str) -> Result<Self, BadResolverMode> {
        match text {
            "auto" => Ok(Self::Auto),
            "resolved" => Ok(Self::Resolved),
            "resolvconf" => Ok(Self::Resolvconf),
            "file" => Ok(Self::File),
            "off" => Ok(Self::Off),
            _ => Err(BadResolverMode),
        }
    }
}

/// Who owns the machine's resolver, as found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// systemd-resolved.
    Resolved,
    /// resolvconf or openresolv.
    Resolvconf,
    /// Nobody: the plain file is read.
    File,
    /// Warren was told to leave it alone.
    Off,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Resolved => "systemd-resolved",
            Self::Resolvconf => "resolvconf",
            Self::File => "/etc/resolv.conf",
            Self::Off => "off",
        })
    }
}

/// Why the machine's resolver could not be read or told.
#[derive(Debug, thiserror::Error)]
pub enum ResolverError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A program of the resolver's owner.
    #[error(transparent)]
    Tool(#[from] tool::ToolError),
    /// Another mesh of this machine has the file.
    #[error(
        "{} has room for one mesh, and that of {interface} has it; start this one with the resolver off",
        path.display()
    )]
    Taken {
        /// The file.
        path: PathBuf,
        /// The other mesh's interface.
        interface: String,
    },
    /// Somebody else keeps writing the file; Warren does not fight.
    #[error(
        "{} was rewritten {times} times by another program; find it, or start Warren with the resolver off",
        path.display()
    )]
    Contested {
        /// The file.
        path: PathBuf,
        /// How often since Warren wrote it first.
        times: u32,
    },
}

/// The machine's resolver.
pub(crate) struct Resolver {
    mode: ResolverMode,
    interface: InterfaceName,
    file: file::ResolvConf,
    /// Who was told last; asked again at each setting, since resolved may start later.
    told: Option<Owner>,
    /// What was asked for last.
    asked: Option<ResolverSetting>,
}

impl Resolver {
    pub(crate) fn new(mode: ResolverMode, interface: &InterfaceName, path: &Path, state: &Path) -> Self {
        let file = file::ResolvConf::new(interface, path, state);
        Self { mode, interface: interface.clone(), file, told: None, asked: None }
    }

    /// Who owns it now.
    pub(crate) fn owner(&self) -> Owner {
        match self.mode {
            ResolverMode::Off => Owner::Off,
            ResolverMode::Resolved => Owner::Resolved,
            ResolverMode::Resolvconf => Owner::Resolvconf,
            ResolverMode::File => Owner::File,
            ResolverMode::Auto => detect(self.file.path()),
        }
    }

    /// What is set now for this interface. Switched off it says what was asked, as nothing is ever missing then.
    pub(crate) fn read(&mut self) -> Result<Option<ResolverSetting>, ResolverError> {
        // A crash of ours may have left the file, and somebody may have started resolved since.
        if let Some(left) = self.file.read()? {
            return Ok(Some(left));
        }
        Ok(match self.told.unwrap_or_else(|| self.owner()) {
            Owner::Off => self.asked.clone(),
            Owner::File => None,
            Owner::Resolved => resolved::read(&self.interface)?,
            Owner::Resolvconf => resolvconf::read(&self.interface, self.asked.as_ref()),
        })
    }

    pub(crate) fn set(&mut self, setting: &ResolverSetting) -> Result<(), ResolverError> {
        let owner = self.owner();
        if self.told.is_some_and(|told| told != owner) {
            self.clear()?;
        }
        if owner != Owner::File {
            self.file.restore()?;
        }
        match owner {
            Owner::Off => {}
            Owner::File => self.file.set(setting)?,
            Owner::Resolved => resolved::set(&self.interface, setting)?,
            Owner::Resolvconf => resolvconf::set(&self.interface, setting)?,
        }
        self.told = Some(owner);
        self.asked = Some(setting.clone());
        Ok(())
    }

    /// Leaves the machine's resolver as it was before.
    pub(crate) fn clear(&mut self) -> Result<(), ResolverError> {
        self.asked = None;
        self.file.restore()?;
        match self.told.take().unwrap_or_else(|| self.owner()) {
            Owner::Off | Owner::File => {}
            Owner::Resolved => resolved::clear(&self.interface)?,
            Owner::Resolvconf => resolvconf::clear(&self.interface)?,
        }
        Ok(())
    }

    /// Something cheap that differs when somebody wrote.
    pub(crate) fn glance(&self, index: Option<u32>) -> Option<(u64, i64, i64, u64)> {
        use std::os::unix::fs::MetadataExt as _;
        let path = match self.told {
            Some(Owner::Resolved) => format!("/run/systemd/resolve/netif/{}", index?).into(),
            Some(Owner::Resolvconf) => resolvconf::file_of(&self.interface)?,
            _ => self.file.path().to_owned(),
        };
        fs::metadata(path).ok().map(|m| (m.ino(), m.mtime(), m.mtime_nsec(), m.size()))
    }
}

/// Who owns the machine's resolver now: the file's link or first lines give it away.
pub fn detect(path: &Path) -> Owner {
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.into());
    let text = fs::read_to_string(path).unwrap_or_default();
    let stub = text.lines().any(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some("nameserver")
            && words.next().is_some_and(|a| a == "127.0.0.53" || a == "127.0.0.54")
    });
    if (target.starts_with("/run/systemd/resolve") || stub) && resolved::is_running() {
        return Owner::Resolved;
    }
    let generated = text.lines().take(4).any(|line| line.starts_with('#') && line.contains("resolvconf"));
    if (target.starts_with("/run/resolvconf") || generated) && resolvconf::is_there() {
        return Owner::Resolvconf;
    }
    Owner::File
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switched_off_nothing_is_written_and_nothing_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("resolv.conf");
        let interface = "wg0".parse().unwrap();
        let mut resolver = Resolver::new(ResolverMode::Off, &interface, &path, directory.path());
        let setting = ResolverSetting {
            servers: vec!["100.64.0.2".parse().unwrap()],
            domain: "home.internal".parse().unwrap(),
            reverse: Vec::new(),
        };
        assert_eq!(resolver.read().unwrap(), None);
        resolver.set(&setting).unwrap();
        assert_eq!(resolver.read().unwrap(), Some(setting));
        assert!(!path.exists());
        resolver.clear().unwrap();
        assert_eq!(resolver.read().unwrap(), None);
    }

    #[test]
    fn a_plain_file_has_no_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("resolv.conf");
        assert_eq!(detect(&path), Owner::File, "there is no file yet");
        for text in ["nameserver 192.0.2.1\n", "# Generated by NetworkManager\nnameserver 192.0.2.1\n", ""] {
            fs::write(&path, text).unwrap();
            assert_eq!(detect(&path), Owner::File, "{text:?}");
        }
    }
}
