//! `/etc/resolv.conf` itself: our lines before the original ones, the original kept in the state directory.
//!
//! ```text
//! original ──set──▶ ours (the original is in the state directory) ──restore──▶ original
//!                     │ a crash of ours: still ours; the next start sets or restores
//!                     └ another writer: its file becomes the original; after REWRITES_MAX it is left alone
//! ```
//!
//! The file has room for one mesh: our lines name their interface, and those of another one are left alone.
//! Three name servers are read at most (`resolv.conf(5)`), so ours takes one place.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use engine::ResolverSetting;
use nix::errno::Errno;

use super::ResolverError;
use crate::files::{self, FileError, PUBLIC};
use crate::interface::InterfaceName;

const BEGIN: &str = "# Warren: begin. Taken away again when Warren stops; edit what is below the end.";
const END: &str = "# Warren: end.";
const REMARK: &str = "# warren";
const HOLDER: &str = "# Warren: interface ";
/// A DHCP lease or a changed network rewrites the file now and then; more often within [`QUIET`] is a program
/// that means it.
const REWRITES_MAX: u32 = 3;
/// After so long without a rewrite the counting starts anew.
const QUIET: Duration = Duration::from_secs(600);

/// The file and its original.
pub(crate) struct ResolvConf {
    interface: InterfaceName,
    path: PathBuf,
    original: PathBuf,
    /// The target, where the original was a symbolic link.
    original_link: PathBuf,
    /// Whether the file is ours, as far as this process knows.
    held: bool,
    rewrites: u32,
    rewritten_at: Option<Instant>,
}

impl ResolvConf {
    pub(crate) fn new(interface: &InterfaceName, path: &Path, state: &Path) -> Self {
        Self {
            interface: interface.clone(),
            path: path.into(),
            original: state.join("resolv.conf.original"),
            original_link: state.join("resolv.conf.link"),
            held: false,
            rewrites: 0,
            rewritten_at: None,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Our setting, if the file holds all of our lines.
    pub(crate) fn read(&mut self) -> Result<Option<ResolverSetting>, FileError> {
        let text = self.text()?;
        let setting =
            text.lines().find_map(parse_remark).filter(|_| is_ours(&text) && self.other(&text).is_none());
        let whole = setting.filter(|setting| text.starts_with(&head(setting, &[])));
        if self.held && whole.is_none() {
            self.note_rewrite();
        }
        self.held = whole.is_some();
        Ok(whole)
    }

    pub(crate) fn set(&mut self, setting: &ResolverSetting) -> Result<(), ResolverError> {
        if self.rewrites >= REWRITES_MAX && self.rewritten_at.is_some_and(|at| at.elapsed() < QUIET) {
            return Err(ResolverError::Contested { path: self.path.clone(), times: self.rewrites });
        }
        let text = self.text()?;
        if let Some(other) = self.other(&text) {
            return Err(ResolverError::Taken { path: self.path.clone(), interface: other.to_owned() });
        }
        let original =
            if is_ours(&text) { self.kept()?.unwrap_or_else(|| below_end(&text)) } else { self.keep(&text)? };
        let wanted = render(&self.interface, setting, &original);
        if text != wanted {
            self.write(wanted.as_bytes())?;
        }
        self.held = true;
        Ok(())
    }

    /// Puts the original back where the file is still ours; a file of somebody else stays.
    pub(crate) fn restore(&mut self) -> Result<(), FileError> {
        let text = self.text()?;
        if self.other(&text).is_some() {
            // What is kept may be that one's: meshes may share a state directory.
            return Ok(());
        }
        if is_ours(&text) {
            let link = files::read(&self.original_link)?.and_then(|bytes| String::from_utf8(bytes).ok());
            match (link, self.kept()?) {
                (Some(target), _) if self.relink(&target).is_ok() => {}
                (_, Some(original)) => self.write(original.as_bytes())?,
                (_, None) => self.write(below_end(&text).as_bytes())?,
            }
        }
        files::remove(&self.original)?;
        files::remove(&self.original_link)?;
        self.held = false;
        Ok(())
    }

    fn text(&self) -> Result<String, FileError> {
        Ok(files::read(&self.path)?
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default())
    }

    /// The interface of another mesh whose lines these are.
    fn other<'a>(&self, text: &'a str) -> Option<&'a str> {
        let mut ours = text.lines().take_while(|line| is_ours(text) && *line != END);
        ours.find_map(|line| line.strip_prefix(HOLDER)).filter(|holder| *holder != self.interface.as_str())
    }

    fn kept(&self) -> Result<Option<String>, FileError> {
        Ok(files::read(&self.original)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Keeps the file of somebody else as the original, before ours takes its place.
    fn keep(&self, text: &str) -> Result<String, FileError> {
        match fs::read_link(&self.path) {
            Ok(target) => files::replace(&self.original_link, target.to_string_lossy().as_bytes(), PUBLIC)?,
            Err(_) => files::remove(&self.original_link)?,
        }
        files::replace(&self.original, text.as_bytes(), PUBLIC)?;
        Ok(text.to_owned())
    }

    fn note_rewrite(&mut self) {
        if self.rewritten_at.is_some_and(|at| at.elapsed() >= QUIET) {
            self.rewrites = 0;
        }
        self.rewrites += 1;
        self.rewritten_at = Some(Instant::now());
    }

    /// Atomically; in place where the file is a mount point (EBUSY) or its directory is not ours to write.
    fn write(&self, content: &[u8]) -> Result<(), FileError> {
        match files::replace(&self.path, content, PUBLIC) {
            Err(error) if must_stay_in_place(error.io()) => files::overwrite(&self.path, content),
            other => other,
        }
    }

    fn relink(&self, target: &str) -> io::Result<()> {
        let temporary = self.path.with_file_name(format!(".resolv.conf.{}", std::process::id()));
        let _ = fs::remove_file(&temporary);
        symlink(target, &temporary)?;
        fs::rename(&temporary, &self.path).inspect_err(|_| {
            let _ = fs::remove_file(&temporary);
        })
    }
}

fn must_stay_in_place(error: &io::Error) -> bool {
    let here = [Errno::EBUSY, Errno::EROFS, Errno::EACCES, Errno::EPERM, Errno::EXDEV];
    here.iter().any(|errno| error.raw_os_error() == Some(*errno as i32))
}

fn is_ours(text: &str) -> bool {
    text.starts_with(BEGIN)
}

fn below_end(text: &str) -> String {
    text.split_once(END).map_or("", |(_, below)| below.trim_start_matches('\n')).to_owned()
}

/// The setting as a comment, so that it reads back whole.
fn remark(setting: &ResolverSetting) -> String {
    let join = |values: Vec<String>| values.join(",");
    let servers = join(setting.servers.iter().map(ToString::to_string).collect());
    let reverse = join(setting.reverse.iter().map(ToString::to_string).collect());
    format!("{REMARK} servers={servers} domain={} reverse={reverse}\n", setting.domain)
}

/// The inverse of [`remark`].
fn parse_remark(line: &str) -> Option<ResolverSetting> {
    let mut words = line.strip_prefix(REMARK)?.split(' ').filter(|word| !word.is_empty());
    fn list<T: std::str::FromStr>(word: Option<&str>, key: &str) -> Option<Vec<T>> {
        let values = word?.strip_prefix(key)?;
        values.split(',').filter(|v| !v.is_empty()).map(|v| v.parse().ok()).collect()
    }
    let servers = list(words.next(), "servers=")?;
    let domain = words.next()?.strip_prefix("domain=")?.parse().ok()?;
    let reverse = list(words.next(), "reverse=")?;
    Some(ResolverSetting { servers, domain, reverse })
}

/// Our lines up to the search list, which goes on with `searched`.
fn head(setting: &ResolverSetting, searched: &[&str]) -> String {
    let mut text = format!("{BEGIN}\n{}", remark(setting));
    if let Some(server) = setting.servers.first() {
        text.push_str(&format!("nameserver {server}\n"));
    }
    text.push_str(&format!("search {}", setting.domain));
    for domain in searched {
        text.push(' ');
        text.push_str(domain);
    }
    text
}

/// The whole file: ours, then the original without its search list, which ours continues (the last one of a
/// file wins).
fn render(interface: &InterfaceName, setting: &ResolverSetting, original: &str) -> String {
    let is_search = |line: &&str| matches!(line.split_whitespace().next(), Some("search" | "domain"));
    let last_search = original.lines().rfind(is_search).unwrap_or_default();
    let searched: Vec<&str> =
        last_search.split_whitespace().skip(1).filter(|d| *d != setting.domain.as_str()).collect();
    let mut text = head(setting, &searched);
    text.push_str(&format!("\n{HOLDER}{interface}\n{END}\n"));
    for line in original.lines().filter(|line| !is_search(line)) {
        text.push_str(line);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGINAL: &str =
        "# mine\nnameserver 192.0.2.1\nnameserver 192.0.2.2\nsearch corp.example lan\noptions edns0\n";

    fn setting(domain: &str) -> ResolverSetting {
        ResolverSetting {
            servers: vec!["100.64.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
            domain: domain.parse().unwrap(),
            reverse: vec!["100.64.0.0/16".parse().unwrap(), "fd00::/48".parse().unwrap()],
        }
    }

    struct Place {
        directory: tempfile::TempDir,
    }

    impl Place {
        fn new(original: &str) -> Self {
            let place = Self { directory: tempfile::tempdir().unwrap() };
            fs::create_dir(place.directory.path().join("state")).unwrap();
            fs::write(place.path(), original).unwrap();
            place
        }
        fn path(&self) -> PathBuf {
            self.directory.path().join("resolv.conf")
        }
        fn open(&self) -> ResolvConf {
            self.open_for("wg0")
        }
        fn open_for(&self, interface: &str) -> ResolvConf {
            let state = self.directory.path().join("state");
            ResolvConf::new(&interface.parse().unwrap(), &self.path(), &state)
        }
        fn text(&self) -> String {
            fs::read_to_string(self.path()).unwrap()
        }
    }

    #[test]
    fn our_server_comes_first_and_the_original_stays_below() {
        let text = render(&"wg0".parse().unwrap(), &setting("home.internal"), ORIGINAL);
        let servers: Vec<_> = text.lines().filter(|l| l.starts_with("nameserver")).collect();
        assert_eq!(servers, ["nameserver 100.64.0.2", "nameserver 192.0.2.1", "nameserver 192.0.2.2"]);
        let searches: Vec<_> = text.lines().filter(|l| l.starts_with("search")).collect();
        assert_eq!(searches, ["search home.internal corp.example lan"]);
        assert!(text.contains("options edns0"));
    }

    #[test]
    fn set_is_idempotent_changes_and_restores_to_the_byte() {
        let place = Place::new(ORIGINAL);
        let mut file = place.open();
        assert_eq!(file.read().unwrap(), None);
        file.set(&setting("a.internal")).unwrap();
        let first = place.text();
        file.set(&setting("a.internal")).unwrap();
        assert_eq!(place.text(), first);
        assert_eq!(file.read().unwrap(), Some(setting("a.internal")));
        file.set(&setting("b.internal")).unwrap();
        assert_eq!(file.read().unwrap(), Some(setting("b.internal")));
        file.restore().unwrap();
        assert_eq!(place.text(), ORIGINAL);
        file.restore().unwrap();
        assert_eq!(place.text(), ORIGINAL);
    }

    #[test]
    fn a_new_process_knows_what_a_crashed_one_left_and_restores_it() {
        let place = Place::new(ORIGINAL);
        place.open().set(&setting("a.internal")).unwrap();
        let mut next = place.open();
        assert_eq!(next.read().unwrap(), Some(setting("a.internal")));
        next.set(&setting("b.internal")).unwrap();
        place.open().restore().unwrap();
        assert_eq!(place.text(), ORIGINAL);
    }

    #[test]
    fn a_second_mesh_is_refused_and_touches_nothing() {
        let place = Place::new(ORIGINAL);
        let (mut first, mut second) = (place.open(), place.open_for("wg1"));
        first.set(&setting("a.internal")).unwrap();
        let ours = place.text();
        assert_eq!(second.read().unwrap(), None);
        let said = second.set(&setting("b.internal")).unwrap_err().to_string();
        assert!(said.contains("wg0"), "{said}");
        second.restore().unwrap();
        assert_eq!(place.text(), ours);
        first.restore().unwrap();
        assert_eq!(place.text(), ORIGINAL);
        second.set(&setting("b.internal")).unwrap();
        assert_eq!(second.read().unwrap(), Some(setting("b.internal")));
    }

    #[test]
    fn a_symbolic_link_comes_back_as_one() {
        let place = Place::new("");
        let target = place.directory.path().join("elsewhere");
        fs::write(&target, ORIGINAL).unwrap();
        fs::remove_file(place.path()).unwrap();
        symlink(&target, place.path()).unwrap();
        place.open().set(&setting("a.internal")).unwrap();
        assert!(place.text().contains("192.0.2.1"));
        assert_eq!(fs::read_to_string(&target).unwrap(), ORIGINAL, "what others own is not written");
        place.open().restore().unwrap();
        assert_eq!(fs::read_link(place.path()).unwrap(), target);
    }

    #[test]
    fn another_writer_is_taken_in_a_few_times_and_then_left_alone() {
        let place = Place::new(ORIGINAL);
        let mut file = place.open();
        file.set(&setting("a.internal")).unwrap();
        for round in 0..REWRITES_MAX {
            let theirs = format!("nameserver 198.51.100.{round}\n");
            fs::write(place.path(), &theirs).unwrap();
            assert_eq!(file.read().unwrap(), None);
            let result = file.set(&setting("a.internal"));
            if round + 1 < REWRITES_MAX {
                result.unwrap();
                assert!(place.text().ends_with(&theirs));
            } else {
                assert!(matches!(result, Err(ResolverError::Contested { times: REWRITES_MAX, .. })));
                assert_eq!(place.text(), theirs);
            }
        }
        file.restore().unwrap();
        assert_eq!(place.text(), "nameserver 198.51.100.2\n", "their file stays when we leave");
    }

    #[test]
    fn a_missing_file_is_an_empty_original() {
        let place = Place::new("");
        fs::remove_file(place.path()).unwrap();
        let mut file = place.open();
        file.set(&setting("a.internal")).unwrap();
        assert_eq!(file.read().unwrap(), Some(setting("a.internal")));
        file.restore().unwrap();
        assert_eq!(place.text(), "");
    }

    #[test]
    fn a_damaged_remark_is_no_setting() {
        let whole = remark(&setting("a.internal"));
        assert_eq!(parse_remark(whole.trim_end()), Some(setting("a.internal")));
        for bad in [
            "# warren",
            "# warren servers=x domain=a reverse=",
            "# warren servers= domain= reverse=",
            "nameserver 1",
        ] {
            assert_eq!(parse_remark(bad), None, "{bad}");
        }
    }
}
