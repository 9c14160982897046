//! What the server stands on: its settings and its machine, as they were at the start. Decides nothing.

use std::path::PathBuf;
use std::time::Duration;

use link::ServerAddress;
use link::tls::Certificate;
use model::relay::RelayPlace;
use model::{Fingerprint, Timestamp};

use crate::clock::{self, Clock};
use crate::config::{Settings, StunListen};
use crate::redact::Redactor;
use crate::{certificate, stun};

/// The machine and the settings.
pub struct Site {
    /// Where the database, the sealing key and the TLS key live.
    pub state_dir: PathBuf,
    /// How devices and people reach the server.
    pub public: ServerAddress,
    /// Of the TLS key.
    pub fingerprint: Fingerprint,
    /// When the certificate of HTTPS ends.
    pub certificate_end: Timestamp,
    /// Relays on other machines.
    pub relays: Vec<RelayPlace>,
    /// Ports at which STUN is answered; `None` if nobody wanted that.
    pub stun: Option<Vec<u16>>,
    /// How long a key of an SSH authority signs until it is due to be replaced.
    pub ssh_ca_key_life: Duration,
    /// When the process started.
    pub started_at: Timestamp,
    /// All settings in force, secrets masked.
    pub settings: String,
    /// What takes secrets out of texts that leave the server.
    pub redactor: Redactor,
}

impl Site {
    /// As the settings say, and the machine.
    ///
    /// # Errors
    /// The certificate or a setting cannot be read.
    pub fn of(
        settings: &Settings,
        certificate: &Certificate,
        clock: Clock,
        answers: &stun::Doors,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            state_dir: settings.state_dir.clone(),
            public: settings.public()?,
            fingerprint: certificate.fingerprint(),
            certificate_end: certificate::end(certificate.own())?,
            relays: settings.relays()?,
            stun: (settings.stun_listen != StunListen::Off).then(|| answers.ports()),
            ssh_ca_key_life: settings.ssh_ca_key_life,
            started_at: clock::wall() - clock.uptime(),
            settings: settings.printed.clone(),
            redactor: Redactor::new(settings.secrets()),
        })
    }
}
