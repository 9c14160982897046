//! One installation, from what is there to what is wanted, or back. Decides neither when nor what.

use std::net::IpAddr;
use std::time::Duration;

use ca::HostCertificate;
use engine::SshState;
use model::{CaKey, HostKey, Timestamp};

use super::conf::InForce;
use super::programs::Programs;
use super::revoked::WriteError;
use crate::files::{self, FileError, PUBLIC};
use crate::resolver::tool::ToolError;

/// Keywords of our drop-in that only connections over the mesh may see.
const OVER_MESH: [&str; 3] = ["trustedusercakeys", "authorizedprincipalsfile", "revokedkeys"];
/// The one that every connection sees.
const CERTIFICATE: &str = "hostcertificate";
/// sshd is back from reading its configuration in a fraction of a second; a machine that is busy takes longer.
const SELF_TESTS_MAX: u32 = 10;
const SELF_TEST_PAUSE: Duration = Duration::from_millis(300);

/// Why nothing was installed. What sshd reads is then as it was.
#[derive(Debug, thiserror::Error)]
pub(super) enum InstallError {
    #[error(transparent)]
    Tool(#[from] ToolError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(
        "sshd has {keyword} {value} for the mesh address already: take it away there (Match LocalAddress), or run with \
         --ssh off and add the keys of `warren ca status` to yours"
    )]
    Taken { keyword: &'static str, value: String },
    #[error("the drop-in would change {0} besides what it is for")]
    Besides(String),
    #[error("sshd does not follow the drop-in: {0} is another")]
    Ignored(&'static str),
    #[error("sshd: {0}")]
    Reload(String),
    #[error("after reading the drop-in sshd does not answer any more")]
    Mute,
    #[error(
        "sshd does not show the host certificate; people's certificates are taken, its plain key is known to them"
    )]
    NotShown,
    #[error("sshd has no host key that can be certified")]
    NoKey,
}

/// What is installed, as read back.
#[derive(Debug)]
pub(super) struct Installed {
    pub(super) key: HostKey,
    pub(super) people: Vec<CaKey>,
    /// The one that sshd shows.
    pub(super) shown: Option<HostCertificate>,
    /// The one that is kept, shown or not.
    pub(super) held: Option<HostCertificate>,
    /// What is not as it should be all the same.
    pub(super) problem: Option<InstallError>,
}

/// What sshd reads at each login, whatever became of its configuration since it was started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Left {
    /// Whose certificates it takes.
    pub(super) people: Vec<CaKey>,
    /// Who signed the certificate that it was told to show.
    pub(super) presents: Option<CaKey>,
}

/// What is in place for an sshd that was told of the drop-in; `None` if there is none.
pub(super) fn left(programs: &Programs) -> Option<Left> {
    let places = &programs.places;
    let text = places.read_drop_in()?;
    let shows = text.contains(&places.certificate().display().to_string());
    let certificate = shows.then(|| places.read_certificate()).flatten();
    let certificate = certificate.and_then(|line| HostCertificate::read(&line).ok());
    Some(Left {
        people: places.read_trusted().unwrap_or_default(),
        presents: certificate.map(|certificate| certificate.signer),
    })
}

/// Brings sshd to what the state says. Costs a few runs of sshd's own check when all is so already. `tries`: whether a
/// certificate that sshd does not show yet is put before it, which costs two reloads where it shows none.
pub(super) fn install(
    programs: &Programs,
    state: &SshState,
    fresh: Option<&str>,
    tries: bool,
    now: Timestamp,
) -> Result<Installed, InstallError> {
    let address = IpAddr::V4(state.addresses.v4);
    let write = || programs.places.write(state, now, |list| programs.check_list(list));
    // An sshd that was told of the files reads them at each login, though its configuration may not be read any more: whom
    // nobody trusts any more stays out whatever else fails.
    let written = if programs.places.read_drop_in().is_some() { write() } else { Ok(()) };
    let current = programs.over_mesh(address)?;
    check_free(programs, &current)?;
    let key = programs.host_key(&current).ok_or(InstallError::NoKey)?;
    written.and_then(|()| write())?;
    let usable = |line: &String| HostCertificate::read(line).is_ok_and(|read| read.key == key);
    let there = programs.places.read_certificate().filter(usable);
    let fresh = fresh.map(str::to_owned).filter(|line| usable(line) && there.as_ref() != Some(line));
    if let Some(line) = &fresh {
        programs.places.write_certificate(line)?;
    }
    let read = |line: &str| HostCertificate::read(line).ok();
    let certificate = fresh.as_deref().or(there.as_deref()).and_then(read);
    let text = |certificate| programs.places.drop_in_text(state.block, certificate);
    let shows = certificate.is_some() && tries;
    let full = text(shows);
    let before = files::read(&programs.places.drop_in)?;
    let rewrite = before.as_deref() != Some(full.as_bytes());
    let mut problem = (certificate.is_some() && !tries).then_some(InstallError::NotShown);
    if rewrite || (shows && fresh.is_some()) {
        // Only then: each look at what it shows is a line in its log.
        let answered = !programs.shown(address, &current, false).is_empty();
        let wanted =
            Wanted { programs, address, certificate: certificate.as_ref().filter(|_| shows), answered };
        let done = match rewrite {
            true => wanted.put(&full, before.as_deref()),
            false => wanted.show(&current, there.as_deref()),
        };
        match done {
            // People are let in all the same: only the host's own certificate waits.
            Err(error @ InstallError::NotShown) if rewrite => {
                let bare = text(false);
                if before.as_deref() != Some(bare.as_bytes()) {
                    Wanted { certificate: None, ..wanted }.put(&bare, before.as_deref())?;
                }
                problem = Some(error);
            }
            done => done?,
        }
    }
    let is_shown = shows && problem.is_none();
    let after = programs.over_mesh(address)?;
    check_ours(programs, &after, is_shown)?;
    let held = programs.places.read_certificate().and_then(|line| HostCertificate::read(&line).ok());
    Ok(Installed {
        key,
        people: programs.places.read_trusted().ok_or(InstallError::Ignored(OVER_MESH[0]))?,
        shown: held.clone().filter(|_| is_shown),
        held,
        problem,
    })
}

/// Takes everything away: sshd does without before the files go that it names.
pub(super) fn remove(programs: &Programs) -> Result<(), InstallError> {
    if !programs.places.are_there() {
        return Ok(());
    }
    let drop_in = &programs.places.drop_in;
    if let Some(text) = files::read(drop_in)? {
        files::remove(drop_in)?;
        if let Err(error) = tell_without(programs) {
            // A running sshd still names the files: without them it would let nobody in by the mesh.
            files::replace(drop_in, &text, PUBLIC)?;
            return Err(error);
        }
    }
    Ok(programs.places.remove_data()?)
}

fn tell_without(programs: &Programs) -> Result<(), InstallError> {
    programs.check()?;
    programs.reload(&programs.elsewhere()?).map_err(InstallError::Reload)
}

/// A drop-in that is to be in force.
struct Wanted<'a> {
    programs: &'a Programs,
    address: IpAddr,
    /// What it must show then.
    certificate: Option<&'a HostCertificate>,
    /// sshd answers at the mesh address now: then it must afterwards.
    answered: bool,
}

impl Wanted<'_> {
    fn put(&self, text: &str, before: Option<&[u8]>) -> Result<(), InstallError> {
        let drop_in = &self.programs.places.drop_in;
        // sshd looks at it only when it is told to: what it says without ours is compared with what it says with it.
        files::remove(drop_in)?;
        let accepted = self.in_force().and_then(|without| {
            files::replace(drop_in, text.as_bytes(), PUBLIC)?;
            self.programs.check()?;
            self.compare(&without, &self.in_force()?)?;
            Ok(without.0)
        });
        let in_force = accepted.inspect_err(|_| self.put_back(before))?;
        let reloaded = self.programs.reload(&in_force).map_err(InstallError::Reload);
        reloaded.and_then(|()| self.test(&in_force)).inspect_err(|_| {
            self.put_back(before);
            self.read_again();
        })
    }

    /// Has sshd read another certificate of the same name.
    fn show(&self, in_force: &InForce, before: Option<&str>) -> Result<(), InstallError> {
        let reload = || self.programs.reload(in_force).map_err(InstallError::Reload);
        let shown = reload().and_then(|()| self.test(in_force));
        if shown.is_err() {
            before.map_or(Ok(()), |line| self.programs.places.write_certificate(line))?;
            reload()?;
        }
        shown
    }

    fn in_force(&self) -> Result<(InForce, InForce), InstallError> {
        Ok((self.programs.over_mesh(self.address)?, self.programs.elsewhere()?))
    }

    fn compare(&self, without: &(InForce, InForce), with: &(InForce, InForce)) -> Result<(), InstallError> {
        check_free(self.programs, &without.0)?;
        let over = without.0.changed(&with.0).into_iter();
        let over = over.filter(|key| !OVER_MESH.contains(key) && *key != CERTIFICATE);
        let elsewhere = without.1.changed(&with.1).into_iter().filter(|key| *key != CERTIFICATE);
        let besides: Vec<&str> = over.chain(elsewhere).collect();
        if !besides.is_empty() {
            return Err(InstallError::Besides(besides.join(", ")));
        }
        check_ours(self.programs, &with.0, self.certificate.is_some())
    }

    fn test(&self, in_force: &InForce) -> Result<(), InstallError> {
        if !self.answered {
            return Ok(());
        }
        for _ in 0..SELF_TESTS_MAX {
            let shown = self.programs.shown(self.address, in_force, self.certificate.is_some());
            let is_it = |line: &String| match self.certificate {
                Some(wanted) => HostCertificate::read(line).is_ok_and(|read| read == *wanted),
                None => true,
            };
            if shown.iter().any(is_it) {
                return Ok(());
            }
            std::thread::sleep(SELF_TEST_PAUSE);
        }
        let answers = !self.programs.shown(self.address, in_force, false).is_empty();
        Err(if answers { InstallError::NotShown } else { InstallError::Mute })
    }

    /// The drop-in as it was before, whatever failed.
    fn put_back(&self, before: Option<&[u8]>) {
        let drop_in = &self.programs.places.drop_in;
        let back = match before {
            Some(bytes) => files::replace(drop_in, bytes, PUBLIC),
            None => files::remove(drop_in),
        };
        self.log_failure(back.map_err(|error| crate::chain(&error)));
    }

    /// A running sshd that was told of a drop-in which failed is told of the former one.
    fn read_again(&self) {
        let in_force = self.programs.elsewhere().map_err(|e| crate::chain(&e));
        self.log_failure(in_force.and_then(|in_force| self.programs.reload(&in_force)));
    }

    fn log_failure(&self, done: Result<(), String>) {
        if let Err(reason) = done {
            let file = self.programs.places.drop_in.display();
            tracing::error!(code = "ssh-put-back-failed", reason, %file, "sshd is not as it was");
        }
    }
}

/// Nobody else's word is in force where ours is to be.
fn check_free(programs: &Programs, in_force: &InForce) -> Result<(), InstallError> {
    for keyword in OVER_MESH {
        let ours = value_of(programs, keyword);
        if let Some(value) = in_force.values(keyword).find(|value| *value != ours) {
            return Err(InstallError::Taken { keyword, value: value.to_owned() });
        }
    }
    Ok(())
}

fn check_ours(programs: &Programs, in_force: &InForce, certificate: bool) -> Result<(), InstallError> {
    let is = |keyword: &'static str| {
        let ours = value_of(programs, keyword);
        in_force.values(keyword).any(|value| value == ours)
    };
    match OVER_MESH.into_iter().chain(certificate.then_some(CERTIFICATE)).find(|keyword| !is(keyword)) {
        Some(keyword) => Err(InstallError::Ignored(keyword)),
        None => Ok(()),
    }
}

fn value_of(programs: &Programs, keyword: &str) -> String {
    let places = &programs.places;
    match keyword {
        "trustedusercakeys" => places.trusted().display().to_string(),
        "authorizedprincipalsfile" => format!("{}/%u", places.principals().display()),
        "revokedkeys" => places.revoked().display().to_string(),
        _ => places.certificate().display().to_string(),
    }
}
