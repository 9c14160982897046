//! The door to signing: one trait, so that the keys may live in another process or a token. What it refuses, it refuses
//! by itself, whoever asks.

use std::time::Duration;

use model::{CaKey, CaKind, Code, Now, Refusal, Timestamp};

use crate::limits::{
    BACKDATED, HOST_LIFE, NAMES_MAX, PACE_BURST, PACE_PER_SECOND, RSA_BITS_MIN, USER_LIFE_MAX,
};
use crate::order::{Holder, KeyName, Order};

/// Signs certificates with keys that it shows nobody.
pub trait Signer {
    /// The public half of a key, if the signer has it open.
    fn public(&self, key: KeyName) -> Option<CaKey>;

    /// Signs what is ordered, after its own checks, and notes it in its own log first.
    ///
    /// # Errors
    /// `signer-sealed`: the key is not open. `key-type-refused`, `principal-invalid`, `life-invalid`: the order breaks a
    /// cap. `rate-limited`: too fast. `internal`: the log cannot be written.
    fn sign(&mut self, order: &Order, now: Now) -> Result<Certificate, Refusal>;
}

/// A certificate as OpenSSH reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// One line: type, base64, and the certificate's id as comment.
    pub openssh: String,
}

/// What a signer signs at most, however it is asked.
#[derive(Debug, Clone)]
pub struct Caps {
    /// Whether RSA keys of at least [`RSA_BITS_MIN`] bits are certified.
    pub rsa: bool,
    /// Life of a user certificate from now.
    pub user_life_max: Duration,
    /// Life of a host certificate from now.
    pub host_life_max: Duration,
    /// Signatures a second in the long run.
    pub per_second: u32,
    /// Signatures at once.
    pub burst: u32,
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            rsa: false,
            user_life_max: USER_LIFE_MAX,
            host_life_max: HOST_LIFE,
            per_second: PACE_PER_SECOND,
            burst: PACE_BURST,
        }
    }
}

impl Caps {
    /// Whether the order keeps to the caps.
    ///
    /// # Errors
    /// Names the first that it breaks.
    pub fn check(&self, order: &Order, now: Timestamp) -> Result<(), Refusal> {
        if order.key.kind != order.holder.kind() {
            let detail = format!("a {} key does not sign for a {}", order.key.kind, order.holder.kind());
            return Err(Refusal::new(Code::PrincipalInvalid, detail));
        }
        self.check_subject(order)?;
        check_names(&order.holder)?;
        self.check_life(order, now)
    }

    fn check_subject(&self, order: &Order) -> Result<(), Refusal> {
        match order.subject.rsa_bits() {
            Some(_) if !self.rsa => {
                Err(Refusal::new(Code::KeyTypeRefused, "ssh-rsa keys are not certified here"))
            }
            Some(bits) if bits < RSA_BITS_MIN => {
                Err(Refusal::new(Code::KeyTypeRefused, format!("an ssh-rsa key of {bits} bits is too short")))
            }
            _ => Ok(()),
        }
    }

    fn check_life(&self, order: &Order, now: Timestamp) -> Result<(), Refusal> {
        let life_max = match order.key.kind {
            CaKind::User => self.user_life_max,
            CaKind::Host => self.host_life_max,
        };
        let (from, until) = (order.valid_from, order.valid_until);
        // An order that waited a little is still as it was made.
        let from_min = now - BACKDATED * 2;
        if from < until && from >= from_min && until > now && until <= now + life_max {
            return Ok(());
        }
        let detail = format!("{from} to {until} is no life of a {} certificate", order.key.kind);
        Err(Refusal::new(Code::LifeInvalid, detail))
    }
}

fn check_names(holder: &Holder) -> Result<(), Refusal> {
    let Holder::Host { names, .. } = holder else { return Ok(()) };
    if names.is_empty() || names.len() > NAMES_MAX {
        let detail = format!("a host has 1 to {NAMES_MAX} names, not {}", names.len());
        return Err(Refusal::new(Code::PrincipalInvalid, detail));
    }
    match names.iter().find(|name| name.is_wildcard()) {
        Some(name) => Err(Refusal::new(Code::PrincipalInvalid, format!("{name} is a wildcard"))),
        None => Ok(()),
    }
}

/// What a signer notes of one order, granted or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When.
    pub at: Timestamp,
    /// With which key.
    pub key: KeyName,
    /// Of the certificate.
    pub serial: String,
    /// What it is called.
    pub id: String,
    /// Of the key that is certified.
    pub fingerprint: String,
    /// The principals.
    pub principals: Vec<String>,
    /// Until when it is valid.
    pub valid_until: Timestamp,
    /// Why it was refused, if it was.
    pub refused: Option<Code>,
}

impl LogLine {
    pub(crate) fn new(order: &Order, now: Timestamp, refused: Option<Code>) -> Self {
        Self {
            at: now,
            key: order.key,
            serial: order.serial.to_string(),
            id: order.id().to_string(),
            fingerprint: order.subject.fingerprint(),
            principals: order.holder.principals(),
            valid_until: order.valid_until,
            refused,
        }
    }
}

/// One line, without its end. No field has a space of its own: each was parsed to a type that has none.
impl std::fmt::Display for LogLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let outcome = self.refused.map_or("signed", Code::as_str);
        let (at, key, principals) = (self.at, self.key, self.principals.join(","));
        let (serial, id, print, until) = (&self.serial, &self.id, &self.fingerprint, self.valid_until);
        write!(f, "{at} {outcome} {key} serial={serial} id={id} for={principals} until={until} {print}")
    }
}

/// Where a signer notes what it does. Only ever appended to.
pub trait SignerLog {
    /// Notes one line.
    ///
    /// # Errors
    /// It could not be written; the signer keeps the signature to itself then.
    fn note(&mut self, line: &LogLine) -> Result<(), String>;
}
