//! How the machine's resolver learns of the mesh's names, whoever owns it: systemd-resolved, resolvconf, or the
//! plain file. Everything written is made of parsed addresses and names; no text of a peer gets through.
//!
//! ```text
//!   who leads programs there?                          who is told
//!   /etc/resolv.conf ─▶ systemd-resolved               systemd-resolved: our zones go to us, nothing else does
//!                    ─▶ resolvconf                     resolvconf ┐
//!                    ─▶ a file: NetworkManager's, a    the file   ├─ and systemd-resolved, where it runs beside: programs
//!                       DHCP client's, a person's                 ┘  reach it by nss-resolve and by D-Bus
//! ```

mod arpa;
pub mod bus;
pub mod conf;
mod file;
mod kept;
pub(crate) mod machine;
pub mod networkmanager;
pub mod nss;
pub mod programs;
mod resolvconf;
pub mod resolved;
pub mod survey;
pub mod tool;
mod watch;
pub mod writer;

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use engine::ResolverSetting;

use crate::files::{self, FileError};
use crate::interface::InterfaceName;

pub(crate) use watch::watch;

/// The file that every program without a better idea reads (`resolv.conf(5)`).
pub const RESOLV_CONF: &str = "/etc/resolv.conf";
/// The only port that files of servers know.
const PORT: u16 = 53;
/// A resolver's file is a few lines; what is longer is none.
const CONF_BYTES_MAX: u64 = 1 << 20;

/// Who is told of the mesh's names, and what.
#[derive(Debug, Clone)]
pub struct ResolverConfig {
    /// Who.
    pub mode: ResolverMode,
    /// The resolver's file, [`RESOLV_CONF`] but in tests.
    pub file: PathBuf,
    /// Where our server answers, on the node's mesh addresses; [`crate::drive()`] puts its own here.
    pub port: u16,
}

impl ResolverConfig {
    /// For a node that leaves the machine's resolver alone.
    pub fn off() -> Self {
        Self { mode: ResolverMode::Off, file: RESOLV_CONF.into(), port: PORT }
    }
}

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// A service of the resolver's owner.
    #[error(transparent)]
    Bus(#[from] bus::BusError),
    /// The owner's file has no ports.
    #[error(
        "{owner} knows servers by port {PORT} only, not by {port}; start the agent with --dns-port {PORT}"
    )]
    Port {
        /// Whose file.
        owner: Owner,
        /// Where names are answered.
        port: u16,
    },
    /// Another mesh of this machine has the file.
    #[error(
        "{} has room for one mesh, and that of {interface} has it; start this one with --resolver none",
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
        "{} was rewritten {times} times by {by}; switch that off, or start warren-agent with --resolver none",
        path.display()
    )]
    Contested {
        /// The file.
        path: PathBuf,
        /// How often since Warren wrote it first.
        times: u32,
        /// By whom, as the file says.
        by: String,
    },
}

/// What is in the way of telling, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The file cannot be read or written.
    File,
    /// A program of the owner's failed.
    Tool,
    /// A service of the owner's refuses, or the bus is not there.
    Bus,
    /// The owner's service does not run.
    Absent,
    /// Files of servers know no port.
    Port,
    /// Another mesh has the file.
    Taken,
    /// Another program has the file.
    Contested,
}

impl ResolverError {
    fn trouble(&self) -> Trouble {
        match self {
            Self::File(_) => Trouble::File,
            Self::Tool(_) => Trouble::Tool,
            Self::Bus(error) if error.is("NameHasNoOwner") => Trouble::Absent,
            Self::Bus(_) => Trouble::Bus,
            Self::Port { .. } => Trouble::Port,
            Self::Taken { .. } => Trouble::Taken,
            Self::Contested { .. } => Trouble::Contested,
        }
    }
}

/// The machine's resolver.
pub(crate) struct Resolver {
    mode: ResolverMode,
    interface: InterfaceName,
    port: u16,
    file: file::ResolvConf,
    /// Who was told last; found out again at each look, since resolved may start later.
    told: Option<Owner>,
    /// What was asked for last.
    asked: Option<ResolverSetting>,
    /// Where names are answered; `None`: whoever asks vouches for it.
    served: Option<BTreeSet<IpAddr>>,
    /// Why nobody could be told the last time.
    trouble: Option<Trouble>,
}

impl Resolver {
    pub(crate) fn new(config: &ResolverConfig, interface: &InterfaceName, state: &Path) -> Self {
        let file = file::ResolvConf::new(interface, &config.file, state);
        let (mode, port) = (config.mode, config.port);
        Self {
            mode,
            interface: interface.clone(),
            port,
            file,
            told: None,
            asked: None,
            served: None,
            trouble: None,
        }
    }

    /// Who owns it now.
    pub(crate) fn owner(&self) -> Owner {
        match self.mode {
            ResolverMode::Off => Owner::Off,
            ResolverMode::Resolved => Owner::Resolved,
            ResolverMode::Resolvconf => Owner::Resolvconf,
            ResolverMode::File => Owner::File,
            ResolverMode::Auto => {
                let without_ours = self.file.without_ours();
                let (leads_to, text) = without_ours.unwrap_or_else(|_| (self.file.path().into(), Vec::new()));
                owner_of(&leads_to, &text, self.told)
            }
        }
    }

    /// What is set now for this interface. Switched off it says what was asked, as nothing is ever missing then; and so
    /// it does where as much of it is set as is answered.
    pub(crate) fn read(&mut self) -> Result<Option<ResolverSetting>, ResolverError> {
        let file = self.file.read()?;
        let owner = self.owner();
        if owner != Owner::File && file.is_some() {
            // A crash of ours left it, and the file was nobody's then.
            return Ok(file.map(to_be_set_again));
        }
        if self.told.is_some_and(|told| told != owner) {
            return Ok(self.asked.clone().map(to_be_set_again));
        }
        let wanted = self.asked.as_ref().and_then(|asked| self.answered(asked));
        let setting = match owner {
            Owner::Off => return Ok(self.asked.clone()),
            Owner::File => file,
            Owner::Resolved => resolved::read(&self.interface, self.port)?,
            Owner::Resolvconf => resolvconf::read(&self.interface, wanted.as_ref()),
        };
        match setting {
            Some(setting) if !self.is_known_beside(owner, &setting)? => Ok(Some(to_be_set_again(setting))),
            setting if self.asked.is_some() && setting == wanted => Ok(self.asked.clone()),
            // A crash of ours left it, and nobody answers there yet.
            Some(setting) if self.answered(&setting).as_ref() != Some(&setting) => {
                Ok(Some(to_be_set_again(setting)))
            }
            setting => Ok(setting),
        }
    }

    /// Names are answered at these addresses now, and the machine's resolver is to ask at no others: each question to
    /// one that is not served takes as long as its asker has patience.
    pub(crate) fn serve(&mut self, served: BTreeSet<IpAddr>) -> Result<(), ResolverError> {
        let before = self.asked.as_ref().and_then(|asked| self.answered(asked));
        self.served = Some(served);
        match self.asked.clone() {
            Some(asked) if self.answered(&asked) != before => self.set(&asked),
            _ => Ok(()),
        }
    }

    /// As much of a setting as is answered; `None`: nothing.
    fn answered(&self, setting: &ResolverSetting) -> Option<ResolverSetting> {
        let is_served = |server: &&IpAddr| self.served.as_ref().is_none_or(|served| served.contains(server));
        let servers: Vec<IpAddr> = setting.servers.iter().filter(is_served).copied().collect();
        (!servers.is_empty()).then(|| ResolverSetting { servers, ..setting.clone() })
    }

    /// Why nobody could be told the last time.
    pub(crate) const fn trouble(&self) -> Option<Trouble> {
        self.trouble
    }

    pub(crate) fn set(&mut self, setting: &ResolverSetting) -> Result<(), ResolverError> {
        let told = self.tell(setting);
        self.trouble = told.as_ref().err().map(ResolverError::trouble);
        told
    }

    fn tell(&mut self, setting: &ResolverSetting) -> Result<(), ResolverError> {
        let owner = self.owner();
        if self.told.is_some_and(|told| told != owner) {
            self.clear()?;
        }
        if owner != Owner::File {
            self.file.restore()?;
        }
        if matches!(owner, Owner::File | Owner::Resolvconf) && self.port != PORT {
            return Err(ResolverError::Port { owner, port: self.port });
        }
        match self.answered(setting) {
            Some(answered) => {
                self.tell_owner(owner, &answered)?;
                self.told = Some(owner);
            }
            None => self.take_back()?,
        }
        self.asked = Some(setting.clone());
        Ok(())
    }

    fn tell_owner(&mut self, owner: Owner, setting: &ResolverSetting) -> Result<(), ResolverError> {
        match owner {
            Owner::Off => {}
            Owner::File => self.file.set(setting)?,
            Owner::Resolved => resolved::set(&self.interface, setting, self.port)?,
            Owner::Resolvconf => resolvconf::set(&self.interface, setting)?,
        }
        if self.has_resolved_beside(owner) {
            unless_unreachable(resolved::set(&self.interface, setting, self.port))?;
        }
        Ok(())
    }

    /// Leaves the machine's resolver as it was before.
    pub(crate) fn clear(&mut self) -> Result<(), ResolverError> {
        (self.asked, self.trouble) = (None, None);
        self.take_back()
    }

    fn take_back(&mut self) -> Result<(), ResolverError> {
        self.file.restore()?;
        let owner = self.told.take().unwrap_or_else(|| self.owner());
        match owner {
            Owner::Off | Owner::File => {}
            Owner::Resolved => resolved::clear(&self.interface)?,
            Owner::Resolvconf => resolvconf::clear(&self.interface)?,
        }
        if self.has_resolved_beside(owner) {
            unless_unreachable(resolved::clear(&self.interface))?;
        }
        Ok(())
    }

    /// Something cheap that differs when somebody wrote.
    pub(crate) fn glance(&self, index: Option<u32>, hasher: &mut impl Hasher) {
        use std::os::unix::fs::MetadataExt as _;
        if self.mode == ResolverMode::Off {
            return;
        }
        let stamp = |m: fs::Metadata| (m.ino(), m.mtime(), m.mtime_nsec(), m.size());
        fs::symlink_metadata(self.file.path()).ok().map(stamp).hash(hasher);
        if self.told.is_none_or(|told| told == Owner::File)
            && let Ok((leads_to, _)) = self.file.without_ours()
        {
            fs::metadata(leads_to).ok().map(stamp).hash(hasher);
        }
        let told = index.and_then(|index| fs::metadata(format!("/run/systemd/resolve/netif/{index}")).ok());
        told.map(stamp).hash(hasher);
        let record = resolvconf::file_of(&self.interface).and_then(|path| fs::metadata(path).ok());
        record.map(stamp).hash(hasher);
    }

    /// Whether systemd-resolved runs and does not own the file: programs reach it by nss-resolve and by D-Bus.
    fn has_resolved_beside(&self, owner: Owner) -> bool {
        self.mode == ResolverMode::Auto && owner != Owner::Resolved && resolved::is_here()
    }

    fn is_known_beside(&self, owner: Owner, setting: &ResolverSetting) -> Result<bool, bus::BusError> {
        if !self.has_resolved_beside(owner) {
            return Ok(true);
        }
        match resolved::read(&self.interface, self.port) {
            Ok(told) => Ok(told.as_ref() == Some(setting)),
            Err(bus::BusError::Unreachable(_)) => Ok(true),
            Err(error) => Err(error),
        }
    }
}

/// A setting that is not what anybody wants, as it has no reverse zones: it is set again, or cleared.
fn to_be_set_again(setting: ResolverSetting) -> ResolverSetting {
    ResolverSetting { reverse: Vec::new(), ..setting }
}

/// What runs beside the owner is told where there is a bus to tell it by.
fn unless_unreachable(told: Result<(), bus::BusError>) -> Result<(), bus::BusError> {
    match told {
        Err(bus::BusError::Unreachable(_)) => Ok(()),
        told => told,
    }
}

/// Puts back what a node that is gone left changed. For a program of its own: it blocks.
///
/// # Errors
/// The file cannot be written, or the owner of the machine's resolver does not answer.
pub fn restore(
    config: &ResolverConfig,
    interface: &InterfaceName,
    state: &Path,
) -> Result<(), ResolverError> {
    Resolver::new(config, interface, state).clear()
}

/// Who owns the machine's resolver now: the file's link or first lines give it away, without ours.
pub fn detect(path: &Path) -> Owner {
    let text = files::read_up_to(path, CONF_BYTES_MAX).ok().flatten().unwrap_or_default();
    owner_of(path, &conf::original(&text), None)
}

/// While systemd-resolved is started anew it is not there, and owns the file all the same.
fn owner_of(leads_to: &Path, text: &[u8], told: Option<Owner>) -> Owner {
    let target = real(leads_to);
    let is_stub = |server| resolved::STUBS.contains(&server);
    let leads_to_resolved = resolved::FOLDERS.iter().any(|folder| target.starts_with(folder))
        || conf::said(text).servers.into_iter().any(is_stub);
    if leads_to_resolved && (told == Some(Owner::Resolved) || resolved::is_here()) {
        return Owner::Resolved;
    }
    let generated = writer::writer(text).is_some_and(|writer| writer.name == "resolvconf");
    if (target.starts_with("/run/resolvconf") || generated) && resolvconf::is_there() {
        return Owner::Resolvconf;
    }
    Owner::File
}

/// Where a path leads, also if there is nothing yet.
fn real(path: &Path) -> PathBuf {
    let parent = |path: &Path| path.parent().unwrap_or(Path::new("/")).to_owned();
    fs::canonicalize(path).unwrap_or_else(|_| {
        let target = parent(path).join(fs::read_link(path).unwrap_or_else(|_| path.into()));
        match (fs::canonicalize(parent(&target)), target.file_name()) {
            (Ok(parent), Some(name)) => parent.join(name),
            _ => target,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switched_off_nothing_is_written_and_nothing_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("resolv.conf");
        let interface = "wg0".parse().unwrap();
        let config = ResolverConfig { file: path.clone(), ..ResolverConfig::off() };
        let mut resolver = Resolver::new(&config, &interface, directory.path());
        let setting = ResolverSetting {
            servers: vec!["100.64.0.2".parse().unwrap()],
            domain: "home.internal".parse().unwrap(),
            search: Vec::new(),
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

    #[test]
    fn a_file_has_no_ports() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("resolv.conf");
        let config = ResolverConfig { mode: ResolverMode::File, file: file.clone(), port: 5353 };
        let setting = ResolverSetting {
            servers: vec!["100.64.0.2".parse().unwrap()],
            domain: "home.internal".parse().unwrap(),
            search: Vec::new(),
            reverse: Vec::new(),
        };
        let mut resolver = Resolver::new(&config, &"wg0".parse().unwrap(), directory.path());
        let said = resolver.set(&setting).unwrap_err().to_string();
        assert!(said.contains("--dns-port 53"), "{said}");
        assert!(!file.exists());
    }

    #[test]
    fn only_servers_that_answer_are_told() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("resolv.conf");
        let original = "nameserver 192.0.2.1\n";
        fs::write(&file, original).unwrap();
        let config = ResolverConfig { mode: ResolverMode::File, file: file.clone(), port: PORT };
        let [v4, v6] = ["100.64.0.2", "fd00::2"].map(|server| server.parse::<IpAddr>().unwrap());
        let setting = ResolverSetting {
            servers: vec![v4, v6],
            domain: "home.internal".parse().unwrap(),
            search: Vec::new(),
            reverse: vec!["100.64.0.0/16".parse().unwrap()],
        };
        let open = || Resolver::new(&config, &"wg0".parse().unwrap(), directory.path());
        let text = || fs::read_to_string(&file).unwrap();
        let mut resolver = open();
        resolver.serve(BTreeSet::new()).unwrap();
        assert_eq!(resolver.read().unwrap(), None, "nobody asked for anything");
        resolver.set(&setting).unwrap();
        assert_eq!((resolver.read().unwrap().as_ref(), text().as_str()), (Some(&setting), original));
        for served in [BTreeSet::from([v6]), BTreeSet::from([v4, v6]), BTreeSet::new(), BTreeSet::from([v4])]
        {
            resolver.serve(served.clone()).unwrap();
            let said = conf::said(text().as_bytes()).servers;
            assert_eq!(said.first().filter(|first| served.contains(first)), served.first(), "{served:?}");
            assert_eq!(text() == original, served.is_empty());
            assert_eq!(resolver.read().unwrap().as_ref(), Some(&setting), "{served:?}: nothing is missing");
        }
        fs::write(&file, original).unwrap();
        assert_eq!(resolver.read().unwrap(), None, "somebody took it away");
        resolver.set(&setting).unwrap();

        // What a crash left is taken away until somebody answers.
        let mut next = open();
        next.serve(BTreeSet::new()).unwrap();
        assert_ne!(next.read().unwrap().as_ref(), Some(&setting));
        next.set(&setting).unwrap();
        assert_eq!((next.read().unwrap().as_ref(), text().as_str()), (Some(&setting), original));
        next.clear().unwrap();
        next.serve(BTreeSet::from([v4, v6])).unwrap();
        assert_eq!((next.read().unwrap(), text().as_str()), (None, original), "nobody asks for it any more");
    }
}
