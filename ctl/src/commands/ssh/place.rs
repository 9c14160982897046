//! The person's own key and certificate, and whether the certificate at hand still serves. Starts no ssh.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use model::api::local::{Answer, HeldCertificate, Request};
use model::{CaKey, Digest, Label, SshIdentity, SshSerial, Timestamp};
use serde::{Deserialize, Serialize};

use super::{no_openssh, unwritable};
use crate::admin::config_dir;
use crate::agent::ask_once;
use crate::args::Args;
use crate::failure::Failure;

const KEY: &str = "id_ed25519";
/// What plain ssh includes.
pub(super) const CONFIG: &str = "config";
const HELD: &str = "held.json";
/// A certificate that ends sooner is renewed first: logging in and starting takes its time.
const LEFT_MIN: Duration = Duration::from_secs(120);

/// Which certificate is meant.
pub(super) struct Wanted {
    pub profile: Label,
    pub tenant: Option<Label>,
    /// Whoever is logged in where.
    pub session: Digest,
    pub now: Timestamp,
}

/// What is known of the certificate at hand. One of which less is known, as programs of before wrote it, is none.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Held {
    pub valid_until: Timestamp,
    pub profile: Label,
    pub tenant: Option<Label>,
    /// For whose login it was given.
    pub session: Digest,
    pub serial: SshSerial,
    pub identity: SshIdentity,
    /// The key that signed it.
    pub signer: CaKey,
    /// The key that it is for.
    pub public_key: String,
    /// Where it is good from; empty if the agent did not say.
    pub addresses: Vec<IpAddr>,
    /// The key is one that the person named.
    #[serde(default)]
    pub own: Option<OwnKey>,
}

/// A key that Warren did not make, and does not take away.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct OwnKey {
    /// The private half, or what leads to it in a security key.
    pub key: PathBuf,
    /// What was written beside it: another certificate there is somebody else's.
    pub certificate: String,
}

/// The person's own directory for SSH, and which key is certified.
pub(super) struct Place {
    folder: PathBuf,
    /// `None`: the one that Warren makes.
    pub(super) own: Option<PathBuf>,
}

impl Place {
    /// It in the person's own directory; it need not be there.
    pub(super) fn of(config_dir: &Path) -> Self {
        Self { folder: config_dir.join("ssh"), own: None }
    }

    /// With the key that is asked for, or else with the one at hand, if that goes on.
    pub(super) fn make(asked: Option<&Path>, goes_on: bool) -> Result<Self, Failure> {
        let mut place = Self::of(&config_dir()?);
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&place.folder);
        made.map_err(|e| unwritable(&place.folder, &e))?;
        place.own = match asked {
            Some(key) => Some(private_half(key)?),
            None if goes_on => place.known().and_then(|held| held.own).map(|own| own.key),
            None => None,
        };
        Ok(place)
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The key that is certified.
    pub(super) fn key(&self) -> PathBuf {
        self.own.clone().unwrap_or_else(|| self.file(KEY))
    }

    /// Where its certificate stands.
    pub(super) fn certificate(&self) -> PathBuf {
        beside(&self.key(), "-cert.pub")
    }

    /// The certificate at hand, if it is the one that is meant and lives long enough.
    pub(super) fn held(&self, wanted: &Wanted) -> Option<Held> {
        let public = fs::read_to_string(beside(&self.key(), ".pub")).ok()?;
        let fits = |held: &Held| {
            held.valid_until > wanted.now + LEFT_MIN
                && (&held.profile, &held.tenant) == (&wanted.profile, &wanted.tenant)
                && held.session == wanted.session
                && held.public_key == public
                && held.own.as_ref().map(|own| &own.key) == self.own.as_ref()
        };
        self.known().filter(fits).filter(|_| self.certificate().exists() && self.key().exists())
    }

    fn known(&self) -> Option<Held> {
        fs::read(self.file(HELD)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok())
    }

    /// Notes what the certificate is that was just written.
    pub(super) fn note(&self, held: &Held) -> Result<(), Failure> {
        self.write(&self.file(HELD), &serde_json::to_vec(held).map_err(|e| Failure::bug(e.to_string()))?)
    }

    /// Takes the certificate away, from ssh-agent too; only one of this profile, if one is named. The key stays.
    pub(super) fn drop_certificate(&self, profile: Option<&Label>) -> Result<(), Failure> {
        let held = self.known();
        let is_other = |held: &Held| profile.is_some_and(|profile| held.profile != *profile);
        if held.as_ref().is_some_and(is_other) {
            return Ok(());
        }
        let own = held.and_then(|held| held.own);
        let certificate = match &own {
            Some(own) => own.is_in_place().then(|| own.file()),
            None => Some(beside(&self.file(KEY), "-cert.pub")),
        };
        let in_agent = own.is_none() && certificate.as_ref().is_some_and(|file| file.exists());
        if in_agent && std::env::var_os("SSH_AUTH_SOCK").is_some() {
            let mut delete = Command::new("ssh-add");
            delete.arg("-q").arg("-d").arg(self.file(KEY));
            delete.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            // One that does not have it need not forget it.
            let _ = delete.status();
        }
        for file in [Some(self.file(HELD)), certificate].into_iter().flatten() {
            match fs::remove_file(&file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(unwritable(&file, &error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Refuses to write over a certificate that somebody else gave the person's own key.
    pub(super) fn check_certificate(&self) -> Result<(), Failure> {
        let file = self.certificate();
        if self.own.is_none() || !file.exists() {
            return Ok(());
        }
        let ours = self.known().and_then(|held| held.own);
        if ours.is_some_and(|own| own.file() == file && own.is_in_place()) {
            return Ok(());
        }
        let detail = format!("{} is a certificate that Warren did not write", file.display());
        Err(Failure::usage(detail, "move it away, or name another key"))
    }

    /// Puts a file in place, whole or not at all.
    pub(super) fn write(&self, whole: &Path, bytes: &[u8]) -> Result<(), Failure> {
        let half = beside(whole, ".half");
        let open = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&half);
        let written = open.and_then(|mut file| std::io::Write::write_all(&mut file, bytes));
        written.and_then(|()| fs::rename(&half, whole)).map_err(|e| unwritable(whole, &e))
    }

    /// The public half of the key. Warren's own is made if it is not there.
    pub(super) fn public_key(&self) -> Result<String, Failure> {
        let (key, public) = (self.key(), beside(&self.key(), ".pub"));
        if self.own.is_none() && !(key.exists() && public.exists()) {
            make_pair(&key, &public)?;
        }
        let line = fs::read_to_string(&public).map_err(|e| unwritable(&public, &e))?;
        let mut look = Command::new("ssh-keygen");
        look.args(["-l", "-f"]).arg(&public).stdout(Stdio::null()).stderr(Stdio::null());
        let reads = look.status().map_err(|e| no_openssh("ssh-keygen", &e))?.success();
        if !reads || line.starts_with("ssh-rsa ") {
            let detail = format!("{} is no key that is certified", public.display());
            let hint = match self.own {
                Some(_) => "name one of `ssh-keygen -t ed25519`, `-t ecdsa` or `-t ed25519-sk`".into(),
                None => format!("remove {} and {}: a new pair is made", key.display(), public.display()),
            };
            return Err(Failure::usage(detail, hint));
        }
        Ok(line)
    }
}

impl OwnKey {
    fn file(&self) -> PathBuf {
        beside(&self.key, "-cert.pub")
    }

    /// Whether what was written is still there.
    fn is_in_place(&self) -> bool {
        fs::read_to_string(self.file()).is_ok_and(|there| there == self.certificate)
    }
}

/// ssh-keygen asks before it replaces: half of a pair is none.
fn make_pair(key: &Path, public: &Path) -> Result<(), Failure> {
    for file in [key, public] {
        let _ = fs::remove_file(file);
    }
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "warren", "-f"]).arg(key);
    let made = keygen.status().map_err(|e| no_openssh("ssh-keygen", &e))?;
    if made.success() { Ok(()) } else { Err(unwritable(key, &format!("ssh-keygen ended with {made}"))) }
}

/// The file of a key, whichever half of it was named; whole, as ssh is started elsewhere.
fn private_half(named: &Path) -> Result<PathBuf, Failure> {
    let whole = std::path::absolute(named).map_err(|e| unwritable(named, &e))?;
    Ok(if whole.extension().is_some_and(|extension| extension == "pub") {
        whole.with_extension("")
    } else {
        whole
    })
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// What the agent says of whom to trust.
#[derive(Default)]
pub(super) struct Trust {
    /// Whose certificates hosts take; `None` if nobody knows.
    keys: Option<Vec<CaKey>>,
    pub(super) revoked_hosts: Option<PathBuf>,
    held_revoked: bool,
    /// The device's own; empty if nobody knows.
    pub(super) addresses: Vec<IpAddr>,
}

impl Trust {
    /// An agent that is away says nothing, and one of before nothing of the certificate at hand.
    pub(super) async fn ask(args: &Args, profile: &Label, held: Option<&Held>) -> Self {
        let held = held.map(|held| HeldCertificate { serial: held.serial, identity: held.identity.clone() });
        let ask = async |held| {
            let request = Request::SshTrusted { profile: profile.clone(), held };
            ask_once(&args.agent_socket, &request, Duration::ZERO).await
        };
        let mut answer = ask(held.clone()).await;
        if answer.is_err() && held.is_some() {
            answer = ask(None).await;
        }
        match answer {
            Ok(Answer::Trusted { keys, revoked_hosts, held_revoked, addresses }) => {
                Self { keys: Some(keys), revoked_hosts, held_revoked, addresses }
            }
            _ => Self::default(),
        }
    }

    /// Whether hosts still take a certificate. If nobody knows, they do.
    pub(super) fn takes(&self, held: &Held) -> bool {
        let signer_trusted = self.keys.as_ref().is_none_or(|keys| keys.contains(&held.signer));
        let moved = !self.addresses.is_empty() && self.addresses != held.addresses;
        signer_trusted && !moved && !self.held_revoked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(of: &str) -> Digest {
        Digest::of("test", &[of.as_bytes()])
    }

    fn label(text: &str) -> Label {
        text.parse().expect("a label")
    }

    const NOW: Timestamp = Timestamp::from_unix_micros(1_000_000_000);

    fn held() -> Held {
        Held {
            valid_until: NOW + Duration::from_secs(3600),
            profile: label("default"),
            tenant: None,
            session: session("ada"),
            serial: SshSerial::from_number(5).expect("a serial"),
            identity: "u:ada".parse().expect("an identity"),
            signer: CaKey::from_bytes([1; 32]),
            public_key: "ssh-ed25519 AAAA warren\n".into(),
            addresses: vec!["100.64.0.2".parse().expect("an address")],
            own: None,
        }
    }

    fn place() -> (tempfile::TempDir, Place) {
        let folder = tempfile::tempdir().expect("a folder");
        let place = Place::of(folder.path());
        fs::create_dir(&place.folder).expect("made");
        place.note(&held()).expect("written");
        put(&place, "", "key");
        put(&place, "-cert.pub", "certificate");
        put(&place, ".pub", &held().public_key);
        (folder, place)
    }

    /// A file of the key.
    fn put(place: &Place, ending: &str, text: &str) {
        place.write(&beside(&place.key(), ending), text.as_bytes()).expect("written");
    }

    fn wanted() -> Wanted {
        Wanted { profile: label("default"), tenant: None, session: session("ada"), now: NOW }
    }

    #[test]
    fn a_certificate_serves_whom_it_was_given_to_and_nobody_else() {
        let (_folder, place) = place();
        for (what, wanted, expect) in [
            ("the same", wanted(), true),
            ("another login or server", Wanted { session: session("cyd"), ..wanted() }, false),
            ("another profile", Wanted { profile: label("work"), ..wanted() }, false),
            ("another tenant", Wanted { tenant: Some(label("lab")), ..wanted() }, false),
            ("it ends", Wanted { now: NOW + Duration::from_secs(3500), ..wanted() }, false),
        ] {
            assert_eq!(place.held(&wanted).is_some(), expect, "{what}");
        }
        put(&place, ".pub", "ssh-ed25519 BBBB warren\n");
        assert!(place.held(&wanted()).is_none(), "another key");
    }

    #[test]
    fn what_hosts_refuse_is_not_used_again() {
        let trust = |signer: u8, held_revoked: bool, address: &str| Trust {
            keys: Some(vec![CaKey::from_bytes([signer; 32])]),
            revoked_hosts: None,
            held_revoked,
            addresses: vec![address.parse().expect("an address")],
        };
        for (what, trust, expect) in [
            ("nobody knows", Trust::default(), true),
            ("as it was", trust(1, false, "100.64.0.2"), true),
            ("another signer", trust(2, false, "100.64.0.2"), false),
            ("revoked", trust(1, true, "100.64.0.2"), false),
            ("enrolled anew", trust(1, false, "100.64.0.9"), false),
        ] {
            assert_eq!(trust.takes(&held()), expect, "{what}");
        }
    }

    #[test]
    fn a_key_that_nobody_certifies_is_named() {
        let (_folder, place) = place();
        for bad in ["ssh-ed25519 AAAA warren\n", "ssh-rsa AAAA warren\n", ""] {
            put(&place, ".pub", bad);
            let refused = place.public_key().expect_err(bad);
            assert!(refused.detail().contains("id_ed25519.pub is no key"), "{}", refused.detail());
        }
        fs::remove_file(place.file(KEY)).expect("removed");
        assert!(place.public_key().expect("a new pair").starts_with("ssh-ed25519 "));
    }

    #[test]
    fn a_login_takes_the_certificate_away_and_leaves_the_key() {
        let (_folder, place) = place();
        place.drop_certificate(Some(&label("work"))).expect("nothing to do");
        assert!(place.held(&wanted()).is_some(), "another profile's logout");
        place.drop_certificate(None).expect("dropped");
        assert!(place.held(&wanted()).is_none());
        assert!(!place.certificate().exists() && place.key().exists());
        place.drop_certificate(None).expect("again");
    }

    #[test]
    fn a_key_of_the_persons_own_is_certified_and_neither_made_nor_taken_away() {
        let (folder, mut place) = place();
        let key = folder.path().join("mine key");
        assert_eq!(private_half(&beside(&key, ".pub")).expect("a path"), key);
        place.own = Some(key.clone());
        assert!(place.held(&wanted()).is_none(), "the certificate at hand is of another key");
        assert!(place.public_key().is_err() && !key.exists(), "nobody makes it");
        put(&place, "", "private");
        put(&place, ".pub", "ssh-rsa AAAA mine\n");
        let refused = place.public_key().expect_err("RSA");
        assert!(refused.detail().contains("mine key.pub is no key"), "{}", refused.detail());
        put(&place, ".pub", &held().public_key);
        put(&place, "-cert.pub", "of somebody else");
        let refused = place.check_certificate().expect_err("it is not ours");
        assert!(refused.detail().contains("did not write"), "{}", refused.detail());

        place.drop_certificate(None).expect("the former one is dropped");
        assert!(place.certificate().exists(), "of somebody else");
        fs::remove_file(place.certificate()).expect("moved away");
        place.check_certificate().expect("there is room");
        put(&place, "-cert.pub", "ours");
        let own = Some(OwnKey { key: key.clone(), certificate: "ours".into() });
        place.note(&Held { own, ..held() }).expect("written");
        place.check_certificate().expect("it may be replaced");
        assert!(place.held(&wanted()).is_some());
        assert_eq!(place.known().and_then(|held| held.own).map(|own| own.key), Some(key.clone()));
        place.drop_certificate(None).expect("dropped");
        assert!(!place.certificate().exists() && key.exists() && beside(&key, ".pub").exists());
    }

    #[test]
    fn a_certificate_that_a_program_of_before_noted_is_of_warrens_key() {
        let mut noted = serde_json::to_value(held()).expect("JSON");
        noted.as_object_mut().expect("an object").remove("own");
        let read: Held = serde_json::from_value(noted).expect("reads");
        assert_eq!(read.own, None);
    }
}
