//! `/etc/resolv.conf` itself: our lines before those of others, taken away again later.
//!
//! ```text
//! original ──set──▶ ours, then the original ──restore──▶ original, with what was edited meanwhile
//!                     │ a crash of ours: still ours; the next start sets or restores
//!                     └ another writer: its file is the original now; one that is back each time is left alone
//! ```
//!
//! The file has room for one mesh: our lines name their interface, and those of another one are left alone.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use engine::ResolverSetting;
use nix::errno::Errno;

use super::ResolverError;
use super::conf::{self, Wish};
use super::kept::{Form, Kept};
use super::writer::writer;
use crate::files::{self, FileError, PUBLIC};
use crate::interface::InterfaceName;

/// A person or a lease rewrites the file now and then; more often within [`QUIET`] is a program that means it...
const REWRITES_MAX: u32 = 3;
/// ... unless it is known to write when the network changes, and only then. A laptop changes networks, and each time
/// the file is written for IPv4, for IPv6 and for a name.
const REWRITES_MAX_PATIENT: u32 = 30;
/// After so long without a rewrite the counting starts anew.
const QUIET: Duration = Duration::from_secs(600);
/// The permission bits of a mode.
const PERMISSIONS: u32 = 0o7777;

/// The file and its original.
pub(crate) struct ResolvConf {
    interface: InterfaceName,
    path: PathBuf,
    kept: Kept,
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
            kept: Kept::new(state),
            held: false,
            rewrites: 0,
            rewritten_at: None,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the file would lead, and what it would say, without ours.
    pub(crate) fn without_ours(&self) -> Result<(PathBuf, Vec<u8>), FileError> {
        let text = self.text()?;
        let leads_to = match self.kept.form()? {
            Form::Link(target) if conf::has_ours(&text) => self.beside(&target),
            _ => self.path.clone(),
        };
        Ok((leads_to, self.original(&text)?))
    }

    /// Our setting, if the file says just that.
    pub(crate) fn read(&mut self) -> Result<Option<ResolverSetting>, FileError> {
        let text = self.text()?;
        let original = self.original(&text)?;
        let whole = conf::setting(&text).filter(|setting| text == self.render(setting, &original));
        if self.held && !conf::begins_with_ours(&text) {
            self.note_rewrite();
        }
        self.held = whole.is_some();
        Ok(whole)
    }

    pub(crate) fn set(&mut self, setting: &ResolverSetting) -> Result<(), ResolverError> {
        let text = self.text()?;
        self.yield_to_rival(&text)?;
        if let Some(interface) = self.other(&text) {
            return Err(ResolverError::Taken { path: self.path.clone(), interface });
        }
        let original = self.original(&text)?;
        if conf::has_ours(&text) {
            self.kept.keep_bytes(&original)?;
        } else {
            self.kept.keep(&self.form(&text)?, &original)?;
        }
        let wanted = self.render(setting, &original);
        if text != wanted {
            self.write(&wanted)?;
        }
        self.held = true;
        Ok(())
    }

    /// Takes our lines away where the file has them; what others wrote stays.
    pub(crate) fn restore(&mut self) -> Result<(), FileError> {
        let text = self.text()?;
        if self.other(&text).is_some() {
            // What is kept may be that one's: meshes may share a state directory.
            return Ok(());
        }
        if conf::has_ours(&text) {
            self.put_back(&self.original(&text)?)?;
        }
        self.kept.forget()?;
        self.held = false;
        Ok(())
    }

    fn put_back(&self, original: &[u8]) -> Result<(), FileError> {
        match self.kept.form()? {
            Form::Absent if original.is_empty() => match files::remove(&self.path) {
                Err(error) if must_stay_in_place(error.io()) => self.write(original),
                other => other,
            },
            Form::Link(target) => {
                let led_to = self.beside(&target);
                let kept = self.kept.bytes()?;
                // What was edited here goes where it would have gone, unless its owner wrote there meanwhile.
                if kept.as_deref() != Some(original) && files::read(&led_to)? == kept && kept.is_some() {
                    files::overwrite(&led_to, original)?;
                }
                self.relink(&target).or_else(|_| self.write(original))
            }
            Form::File | Form::Absent => self.write(original),
        }
    }

    fn text(&self) -> Result<Vec<u8>, FileError> {
        Ok(files::read(&self.path)?.unwrap_or_default())
    }

    /// What the file is without us: what a link led to, if its owner wrote there meanwhile; what is kept, if our lines are
    /// damaged; else what is around our lines.
    fn original(&self, text: &[u8]) -> Result<Vec<u8>, FileError> {
        if !conf::has_ours(text) {
            return Ok(text.to_vec());
        }
        let kept = self.kept.bytes()?;
        if let Form::Link(target) = self.kept.form()?
            && let Some(there) = files::read(&self.beside(&target))?
            && kept.as_ref() != Some(&there)
        {
            return Ok(there);
        }
        Ok(kept.filter(|_| !conf::is_whole(text)).unwrap_or_else(|| conf::original(text)))
    }

    fn render(&self, setting: &ResolverSetting, original: &[u8]) -> Vec<u8> {
        let implied = own_domain();
        let interface = self.interface.as_str();
        Wish { interface, setting, implied: implied.as_deref() }.render(original)
    }

    /// How a file of somebody else is there. One that took the place of ours stands where a link was, if it says
    /// what the link leads to: its owner writes both.
    fn form(&self, text: &[u8]) -> Result<Form, FileError> {
        match fs::symlink_metadata(&self.path) {
            Ok(found) if found.is_symlink() => Ok(fs::read_link(&self.path).map_or(Form::File, Form::Link)),
            Ok(_) => Ok(match self.kept.form()? {
                Form::Link(target) if self.says_the_same(&target, text)? => Form::Link(target),
                _ => Form::File,
            }),
            Err(_) => Ok(Form::Absent),
        }
    }

    fn says_the_same(&self, target: &Path, text: &[u8]) -> Result<bool, FileError> {
        Ok(files::read(&self.beside(target))?.is_some_and(|there| there == text))
    }

    /// The target of a link in the file's place.
    fn beside(&self, target: &Path) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("/")).join(target)
    }

    /// The interface of another mesh whose lines these are.
    fn other(&self, text: &[u8]) -> Option<String> {
        conf::holder(text).filter(|holder| *holder != self.interface.as_str())
    }

    fn note_rewrite(&mut self) {
        if self.rewritten_at.is_some_and(|at| at.elapsed() >= QUIET) {
            self.rewrites = 0;
        }
        self.rewrites += 1;
        self.rewritten_at = Some(Instant::now());
    }

    /// Nobody is fought.
    fn yield_to_rival(&self, text: &[u8]) -> Result<(), ResolverError> {
        let writer = writer(&conf::original(text));
        let bearable = match &writer {
            Some(writer) if writer.patient => REWRITES_MAX_PATIENT,
            _ => REWRITES_MAX,
        };
        if self.rewrites < bearable || self.rewritten_at.is_none_or(|at| at.elapsed() >= QUIET) {
            return Ok(());
        }
        let by = writer.map_or_else(|| "another program".to_owned(), |writer| writer.name);
        Err(ResolverError::Contested { path: self.path.clone(), times: self.rewrites, by })
    }

    /// Atomically; in place where the file is a mount point (EBUSY) or its directory is not ours to write.
    fn write(&self, content: &[u8]) -> Result<(), FileError> {
        let mode = fs::metadata(&self.path).map_or(PUBLIC, |found| found.permissions().mode() & PERMISSIONS);
        match files::replace(&self.path, content, mode) {
            Err(error) if must_stay_in_place(error.io()) => files::overwrite(&self.path, content),
            other => other,
        }
    }

    fn relink(&self, target: &Path) -> io::Result<()> {
        let temporary = self.path.with_file_name(format!(".resolv.conf.{}", std::process::id()));
        let _ = fs::remove_file(&temporary);
        symlink(target, &temporary)?;
        fs::rename(&temporary, &self.path).inspect_err(|_| {
            let _ = fs::remove_file(&temporary);
        })
    }
}

/// What the C library searches without being told (`resolv.conf(5)`): what follows the first dot of the machine's name.
pub(crate) fn own_domain() -> Option<String> {
    let name = nix::unistd::gethostname().ok()?.into_string().ok()?;
    let (_, domain) = name.split_once('.')?;
    (!domain.is_empty()).then(|| domain.to_owned())
}

fn must_stay_in_place(error: &io::Error) -> bool {
    let here = [Errno::EBUSY, Errno::EROFS, Errno::EACCES, Errno::EPERM, Errno::EXDEV];
    here.iter().any(|errno| error.raw_os_error() == Some(*errno as i32))
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
            search: Vec::new(),
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
            place.write(original);
            place
        }
        fn path(&self) -> PathBuf {
            self.directory.path().join("resolv.conf")
        }
        fn elsewhere(&self) -> PathBuf {
            self.directory.path().join("elsewhere")
        }
        /// The file becomes a link to another one.
        fn link(&self, original: &str) {
            fs::write(self.elsewhere(), original).unwrap();
            let _ = fs::remove_file(self.path());
            symlink("elsewhere", self.path()).unwrap();
        }
        fn open(&self) -> ResolvConf {
            self.open_for("wg0")
        }
        fn open_for(&self, interface: &str) -> ResolvConf {
            let state = self.directory.path().join("state");
            ResolvConf::new(&interface.parse().unwrap(), &self.path(), &state)
        }
        fn write(&self, text: impl AsRef<[u8]>) {
            fs::write(self.path(), text).unwrap();
        }
        fn append(&self, text: &str) {
            self.write(self.text() + text);
        }
        fn text(&self) -> String {
            fs::read_to_string(self.path()).unwrap()
        }
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
    fn without_its_state_directory_it_is_restored_all_the_same() {
        let place = Place::new(ORIGINAL);
        place.open().set(&setting("a.internal")).unwrap();
        fs::remove_dir_all(place.directory.path().join("state")).unwrap();
        fs::create_dir(place.directory.path().join("state")).unwrap();
        place.open().restore().unwrap();
        assert_eq!(place.text(), ORIGINAL);
    }

    #[test]
    fn what_an_administrator_edits_below_our_end_stays() {
        let place = Place::new(ORIGINAL);
        let mut file = place.open();
        file.set(&setting("a.internal")).unwrap();
        place.append("nameserver 198.51.100.7\n# a remark\n");
        assert_eq!(file.read().unwrap(), Some(setting("a.internal")), "nothing of ours is missing");
        place.append("search theirs.test\n");
        assert_eq!(file.read().unwrap(), None, "short names of the mesh are no longer found");
        file.set(&setting("a.internal")).unwrap();
        assert_eq!(conf::said(place.text().as_bytes()).search, ["a.internal", "theirs.test"]);
        assert_eq!(file.rewrites, 0, "an edit is no rewrite");
        place.write(place.text().replace("nameserver 192.0.2.2\n", ""));
        file.restore().unwrap();
        let edited = ORIGINAL.replace("nameserver 192.0.2.2\n", "");
        assert_eq!(place.text(), edited + "nameserver 198.51.100.7\n# a remark\nsearch theirs.test\n");
    }

    #[test]
    fn bytes_that_are_no_text_survive() {
        let place = Place::new("");
        let original = b"# \xff\xfe\nnameserver 192.0.2.1\n\x80";
        place.write(original);
        let mut file = place.open();
        file.set(&setting("a.internal")).unwrap();
        assert_eq!(file.read().unwrap(), Some(setting("a.internal")));
        file.restore().unwrap();
        assert_eq!(fs::read(place.path()).unwrap(), original);
    }

    #[test]
    fn its_mode_stays() {
        let place = Place::new(ORIGINAL);
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o640)).unwrap();
        let mode = || fs::metadata(place.path()).unwrap().permissions().mode() & PERMISSIONS;
        let mut file = place.open();
        file.set(&setting("a.internal")).unwrap();
        assert_eq!(mode(), 0o640);
        file.restore().unwrap();
        assert_eq!(mode(), 0o640);
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
        place.link(ORIGINAL);
        place.open().set(&setting("a.internal")).unwrap();
        assert!(place.text().contains("192.0.2.1"));
        assert_eq!(
            fs::read_to_string(place.elsewhere()).unwrap(),
            ORIGINAL,
            "what others own is not written"
        );
        place.open().restore().unwrap();
        assert_eq!(fs::read_link(place.path()).unwrap(), Path::new("elsewhere"));
        assert_eq!(place.text(), ORIGINAL);
    }

    #[test]
    fn edits_go_where_the_link_led_unless_its_owner_was_there() {
        for owner_wrote in [false, true] {
            let place = Place::new("");
            place.link(ORIGINAL);
            let mut file = place.open();
            file.set(&setting("a.internal")).unwrap();
            place.append("nameserver 198.51.100.7\n");
            if owner_wrote {
                fs::write(place.elsewhere(), "nameserver 198.51.100.8\n").unwrap();
            }
            file.restore().unwrap();
            assert!(place.path().is_symlink());
            let edited = ORIGINAL.to_owned() + "nameserver 198.51.100.7\n";
            assert_eq!(place.text(), if owner_wrote { "nameserver 198.51.100.8\n" } else { &edited });
        }
    }

    #[test]
    fn a_link_whose_owner_writes_the_file_and_what_it_led_to_comes_back() {
        let place = Place::new("");
        place.link("# Generated by NetworkManager\nnameserver 192.0.2.1\n");
        let mut file = place.open();
        file.set(&setting("a.internal")).unwrap();
        let next = "# Generated by NetworkManager\nnameserver 192.0.2.2\n";
        fs::write(place.elsewhere(), next).unwrap();
        place.write(next);
        assert_eq!(file.read().unwrap(), None);
        file.set(&setting("a.internal")).unwrap();
        file.restore().unwrap();
        assert!(place.path().is_symlink());
        assert_eq!(place.text(), next);
    }

    #[test]
    fn what_a_link_leads_to_is_followed() {
        let place = Place::new("");
        place.link("nameserver 192.0.2.1\n");
        let mut file = place.open();
        file.set(&setting("a.internal")).unwrap();
        fs::write(place.elsewhere(), "nameserver 192.0.2.2\n").unwrap();
        assert_eq!(file.read().unwrap(), None, "its owner has other servers now");
        file.set(&setting("a.internal")).unwrap();
        assert!(place.text().ends_with("nameserver 192.0.2.2\n"));
        assert_eq!(file.read().unwrap(), Some(setting("a.internal")));
        file.restore().unwrap();
        assert_eq!((place.path().is_symlink(), place.text().as_str()), (true, "nameserver 192.0.2.2\n"));
    }

    #[test]
    fn another_writer_is_taken_in_a_few_times_and_then_left_alone() {
        let place = Place::new(ORIGINAL);
        let mut file = place.open();
        file.set(&setting("a.internal")).unwrap();
        for round in 0..REWRITES_MAX {
            let theirs = format!("# Generated by acme-vpn\nnameserver 198.51.100.{round}\n");
            place.write(&theirs);
            assert_eq!(file.read().unwrap(), None);
            let result = file.set(&setting("a.internal"));
            if round + 1 < REWRITES_MAX {
                result.unwrap();
                assert!(place.text().ends_with(&theirs));
            } else {
                let said = result.unwrap_err();
                assert!(matches!(said, ResolverError::Contested { times: REWRITES_MAX, .. }), "{said}");
                assert!(said.to_string().contains("acme-vpn"), "{said}");
                assert_eq!(place.text(), theirs);
            }
        }
        file.restore().unwrap();
        assert!(place.text().ends_with("nameserver 198.51.100.2\n"), "their file stays when we leave");
    }

    #[test]
    fn who_writes_at_each_new_network_is_no_rival() {
        let place = Place::new(ORIGINAL);
        let mut file = place.open();
        for network in 0..REWRITES_MAX_PATIENT {
            file.set(&setting("a.internal")).unwrap();
            place.write(format!("# Generated by NetworkManager\nnameserver 198.51.100.{network}\n"));
            assert_eq!(file.read().unwrap(), None);
        }
        let said = file.set(&setting("a.internal")).unwrap_err().to_string();
        assert!(said.contains("NetworkManager"), "even that has an end: {said}");
    }

    #[test]
    fn a_missing_file_is_missing_again() {
        let place = Place::new("");
        fs::remove_file(place.path()).unwrap();
        let mut file = place.open();
        file.set(&setting("a.internal")).unwrap();
        assert_eq!(file.read().unwrap(), Some(setting("a.internal")));
        file.restore().unwrap();
        assert!(!place.path().exists());
        file.set(&setting("a.internal")).unwrap();
        place.append("nameserver 192.0.2.1\n");
        file.restore().unwrap();
        assert_eq!(place.text(), "nameserver 192.0.2.1\n", "but an edit is kept");
    }

    #[test]
    fn a_file_that_was_cut_comes_back_from_what_is_kept() {
        let place = Place::new(ORIGINAL);
        let mut file = place.open();
        file.set(&setting("a.internal")).unwrap();
        let text = place.text();
        place.write(&text[..text.find("# Warren: interface").unwrap()]);
        file.restore().unwrap();
        assert_eq!(place.text(), ORIGINAL);
    }
}
