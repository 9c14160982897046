//! What a device's own sshd and ssh are told of the mesh, and what the server is told of them. Installs nothing: the shell
//! does, and says what it read back.

use std::collections::{BTreeSet, VecDeque};

use model::limits::SSH_LOGINS_MAX;
use model::patch::ZonePatch;
use model::wire::{
    CertifyHost, Frame, HostCertified, Remark, SshInstalled, SshLogin, SshLogins, SshLoginsNoted,
};
use model::{
    Block, CaKey, CaKind, HostKey, Label, MeshAddresses, Name, OwnSsh, Record, RecordData, Snapshot,
    SshSerial, SshTrust, Standing, Version,
};

/// Logins that wait to be noted; of more the oldest are dropped, as sshd's own log has them.
const LOGINS_MAX: usize = 256;

/// What a snapshot says to sshd and ssh of a device that takes part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshState {
    /// Of the snapshot.
    pub version: Version,
    /// The device's name.
    pub name: Label,
    /// The tenant's zone.
    pub zone: Name,
    /// Other names that lead to it.
    pub aliases: BTreeSet<Name>,
    /// The device's addresses.
    pub addresses: MeshAddresses,
    /// The tenant's addresses: only connections to those are ours.
    pub block: Block,
    /// Who may be whom here.
    pub own: OwnSsh,
    /// Whose certificates are trusted.
    pub trust: SshTrust,
}

impl SshState {
    /// What a snapshot says, unless the device takes no part or the server says nothing of SSH.
    fn of(snapshot: &Snapshot, version: Version) -> Option<Self> {
        let own = &snapshot.own;
        let addresses = own.addresses.filter(|_| own.standing == Standing::Active)?;
        Some(Self {
            version,
            name: own.name.clone(),
            zone: snapshot.zone.origin.clone(),
            aliases: snapshot
                .zone
                .origin
                .child(&own.name)
                .map(|name| snapshot.zone.aliases_of(&name))
                .unwrap_or_default(),
            addresses,
            block: own.block,
            own: own.ssh.clone().unwrap_or_default(),
            trust: snapshot.ssh.clone()?,
        })
    }
}

/// What the shell says of SSH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SshInput {
    /// This key of the host is to be certified. Asked for until a certificate or a refusal comes.
    Certify(HostKey),
    /// What is installed and was read back.
    Installed {
        /// Whose certificates sshd takes. `None`: sshd is not ours to keep, or fails.
        people: Option<Vec<CaKey>>,
        /// Who signed the host certificate that it shows.
        presents: Option<CaKey>,
        /// What is wrong, for people.
        problem: Option<String>,
    },
    /// sshd let somebody in by a certificate of the mesh.
    Login {
        /// Of the certificate.
        serial: SshSerial,
        /// What the certificate is called.
        id: Remark,
        /// As whom.
        login: Remark,
        /// From which address.
        from: Remark,
    },
}

/// What the shell is told of SSH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SshOutput {
    /// Be like this from now on; `None`: let go of everything.
    State(Option<Box<SshState>>),
    /// The answer to [`SshInput::Certify`].
    Certified(HostCertified),
}

/// What was said on either side.
#[derive(Debug, Default)]
pub(crate) struct Ssh {
    asks: Option<CertifyHost>,
    asked: bool,
    installed: SshInstalled,
    problem: Option<String>,
    /// What the server was told on this link.
    told: Option<SshInstalled>,
    /// Whether a snapshot speaks of SSH: only then is anything said of it.
    speaks: bool,
    /// Names that lead to the device, as they were said last.
    aliases: BTreeSet<Name>,
    /// Who was let in, and is not noted yet.
    logins: VecDeque<SshLogin>,
    /// Logins so far.
    counted: u64,
    /// Some of them were said on this link, and are not noted yet.
    logins_said: bool,
}

impl Ssh {
    /// A snapshot is in force, or none any more.
    pub(crate) fn take(&mut self, snapshot: Option<(&Snapshot, Version)>) -> SshOutput {
        let state = snapshot.and_then(|(snapshot, version)| SshState::of(snapshot, version));
        self.speaks = state.is_some();
        self.aliases = state.iter().flat_map(|state| state.aliases.clone()).collect();
        let trusted = state.iter().flat_map(|state| state.trust.trusted(CaKind::Host));
        self.installed.hosts = trusted.map(|key| key.key).collect();
        SshOutput::State(state.map(Box::new))
    }

    /// Whether a name that changed may lead to the device, or did.
    pub(crate) fn minds(&self, changed: &ZonePatch) -> bool {
        let leads = |record: &Record| matches!(record.data, RecordData::Cname(_));
        let mut set = changed.set.iter();
        let gone = |name| self.aliases.contains(name);
        self.speaks
            && (changed.gone.iter().any(gone)
                || set.any(|(name, records)| gone(name) || records.records.iter().any(leads)))
    }

    pub(crate) fn hear(&mut self, input: SshInput) {
        match input {
            SshInput::Certify(key) => (self.asks, self.asked) = (Some(CertifyHost { key }), false),
            SshInput::Installed { people, presents, problem } => {
                (self.installed.people, self.installed.presents) = (people, presents);
                self.problem = problem;
            }
            SshInput::Login { serial, id, login, from } => {
                self.counted += 1;
                if self.logins.len() == LOGINS_MAX {
                    self.logins.pop_front();
                }
                self.logins.push_back(SshLogin { number: self.counted, serial, id, login, from });
            }
        }
    }

    pub(crate) fn certified(&mut self, answer: HostCertified) -> SshOutput {
        self.asks = None;
        SshOutput::Certified(answer)
    }

    /// The server has them in its log: the next may follow.
    pub(crate) fn noted(&mut self, noted: &SshLoginsNoted) {
        self.logins.retain(|login| login.number > noted.through);
        self.logins_said = false;
    }

    /// The next server was told nothing yet.
    pub(crate) fn link_down(&mut self) {
        (self.told, self.asked, self.logins_said) = (None, false, false);
    }

    /// What the attached server has not heard yet.
    pub(crate) fn news(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        if !self.speaks {
            return frames;
        }
        if self.told.as_ref() != Some(&self.installed) {
            self.told = Some(self.installed.clone());
            frames.push(self.installed.clone().into());
        }
        if let Some(asks) = self.asks.as_ref().filter(|_| !self.asked) {
            self.asked = true;
            frames.push(asks.clone().into());
        }
        if !self.logins_said && !self.logins.is_empty() {
            self.logins_said = true;
            let logins = self.logins.iter().take(SSH_LOGINS_MAX).cloned().collect();
            frames.push(SshLogins { logins }.into());
        }
        frames
    }

    pub(crate) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }
}
