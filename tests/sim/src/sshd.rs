//! A machine's own sshd as its agent keeps it: what is installed outlives the program. Knows no link and signs nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use engine::{SshInput, SshOutput, SshState};
use model::{CaKey, CaKind, HostKey, Mono, Revoked, SshSerial, Version};

/// A certificate that was asked for and did not come is asked for again.
pub const ASK_INTERVAL: Duration = Duration::from_secs(30);

/// A certificate of a host. Nobody forges one here, so it is no more than this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// Its number.
    pub serial: SshSerial,
    /// Who signed it.
    pub signer: CaKey,
}

impl Shown {
    /// As it travels.
    pub fn line(&self) -> String {
        format!("{} {}", self.serial, self.signer)
    }

    fn read(line: &str) -> Option<Self> {
        let (serial, signer) = line.split_once(' ')?;
        Some(Self { serial: serial.parse().ok()?, signer: signer.parse().ok()? })
    }
}

/// What sshd goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// Of the snapshot that says so.
    pub version: Version,
    /// Whose certificates of people it takes.
    pub people: BTreeSet<CaKey>,
    /// Which of those it refuses all the same.
    pub revoked: BTreeSet<Revoked>,
}

impl Installed {
    /// What a state says, and what is revoked already and a restored server may have forgotten.
    fn of(state: &SshState, before: Option<&Self>) -> Self {
        let people = state.trust.trusted(CaKind::User).map(|key| key.key).collect();
        let of_people = state.trust.revoked.keys().filter(|(kind, _)| *kind == CaKind::User);
        let mut revoked: BTreeSet<Revoked> = of_people.map(|(_, what)| what.clone()).collect();
        let forgotten = before.filter(|before| before.version.epoch < state.version.epoch);
        revoked.extend(forgotten.into_iter().flat_map(|before| before.revoked.iter().cloned()));
        Self { version: state.version, people, revoked }
    }
}

/// A machine's sshd.
pub struct Sshd {
    /// Whether there is one that an agent can keep.
    pub there: bool,
    /// The host's key.
    pub key: HostKey,
    /// What it goes by, unless nothing of the mesh is there.
    pub installed: Option<Installed>,
    /// The certificate that it shows.
    pub shows: Option<Shown>,
    /// What the program was told last.
    told: Option<Option<SshState>>,
    /// What the program said last.
    said: Option<SshInput>,
    /// A certificate that came and is not installed yet.
    fresh: Option<Shown>,
    asked_at: Option<Mono>,
}

impl Sshd {
    /// As the machine was set up.
    pub fn new(there: bool, key: [u8; 32]) -> Self {
        let key = CaKey::from_bytes(key).to_string().parse().expect("a key of a host");
        let (installed, shows, told, said, fresh) = (None, None, None, None, None);
        Self { there, key, installed, shows, told, said, fresh, asked_at: None }
    }

    /// The program ends: sshd goes on.
    pub fn program_ends(&mut self) {
        (self.told, self.said, self.fresh, self.asked_at) = (None, None, None, None);
    }

    /// The program says something.
    pub fn hear(&mut self, output: SshOutput) {
        match output {
            SshOutput::State(state) => self.told = Some(state.map(|state| *state)),
            SshOutput::Certified(answer) => {
                if let Some(shown) = answer.certificate.as_deref().and_then(Shown::read) {
                    (self.fresh, self.asked_at) = (Some(shown), None);
                }
            }
        }
    }

    /// Installs what was told last. Says what the program is to hear of it.
    pub fn install(&mut self, at: Mono) -> Vec<SshInput> {
        let Some(told) = &self.told else { return Vec::new() };
        match told {
            Some(state) if self.there => {
                self.installed = Some(Installed::of(state, self.installed.as_ref()));
                self.shows = self.fresh.take().or(self.shows);
            }
            _ => (self.installed, self.shows) = (None, None),
        }
        let mut news = Vec::new();
        let installed = self.word(self.installed.as_ref());
        if self.said.as_ref() != Some(&installed) {
            self.said = Some(installed.clone());
            news.push(installed);
        }
        if self.wants_certificate() && self.asked_at.is_none_or(|asked| at.since(asked) >= ASK_INTERVAL) {
            self.asked_at = Some(at);
            news.push(SshInput::Certify(self.key.clone()));
        }
        news
    }

    /// What a program would say that takes for installed what it was told.
    pub fn boast(&self) -> Option<SshInput> {
        let state = self.told.as_ref()?.as_ref().filter(|_| self.there)?;
        Some(self.word(Some(&Installed::of(state, None))))
    }

    fn word(&self, installed: Option<&Installed>) -> SshInput {
        SshInput::Installed {
            people: installed.map(|installed| installed.people.iter().copied().collect()),
            presents: self.shows.map(|shown| shown.signer),
            problem: None,
        }
    }

    fn wants_certificate(&self) -> bool {
        let Some(Some(state)) = self.told.as_ref().filter(|_| self.there) else { return false };
        let Some(signer) = state.trust.trusted(CaKind::Host).find(|key| key.signs) else { return false };
        self.shows.is_none_or(|shown| {
            let entry = (CaKind::Host, Revoked::Serial(shown.serial));
            shown.signer != signer.key || state.trust.revoked.contains_key(&entry)
        })
    }
}
