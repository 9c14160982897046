//! The signer that has its keys in memory. Knows not where they are kept sealed.

use std::collections::BTreeMap;

use model::{CaKey, CaKind, Code, Now, Refusal, Timestamp};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};
use ssh_key::PrivateKey;
use ssh_key::certificate::{Builder, CertType};

use crate::order::{Holder, KeyName, Order};
use crate::pace::Pace;
use crate::secret::CaSecret;
use crate::signer::{Caps, Certificate, LogLine, Signer, SignerLog};

/// PROTOCOL.certkeys: the nonce keeps an attacker from choosing what is hashed.
const NONCE_BYTES: usize = 32;

struct Held {
    public: CaKey,
    signing: PrivateKey,
}

/// Keys that are open in this process.
pub struct KeyRing<L> {
    keys: BTreeMap<KeyName, Held>,
    caps: Caps,
    pace: Pace,
    nonces: ChaCha20Rng,
    log: L,
}

impl<L: SignerLog> KeyRing<L> {
    /// A ring without keys. `seed` is for nonces.
    pub fn new(caps: Caps, seed: [u8; 32], log: L) -> Self {
        let pace = Pace::new(caps.per_second, caps.burst);
        Self { keys: BTreeMap::new(), caps, pace, nonces: ChaCha20Rng::from_seed(seed), log }
    }

    /// Opens a key, after it signed and the signature was checked.
    ///
    /// # Errors
    /// What it signs does not verify: the key is damaged.
    pub fn open(&mut self, key: KeyName, secret: &CaSecret) -> Result<(), Refusal> {
        let held = Held { public: secret.public(), signing: secret.signing() };
        let probe = probe(&held.signing)?;
        if probe.verify_signature().is_err() || probe.signature_key() != held.signing.public_key().key_data()
        {
            return Err(Refusal::new(Code::Internal, format!("key {key} signs what does not verify")));
        }
        self.keys.insert(key, held);
        Ok(())
    }

    /// Forgets the keys that are not to be kept.
    pub fn keep(&mut self, kept: impl Fn(KeyName) -> bool) {
        self.keys.retain(|key, _| kept(*key));
    }

    fn granted(&mut self, order: &Order, now: Now) -> Result<Certificate, Refusal> {
        self.caps.check(order, now.wall)?;
        let Some(held) = self.keys.get(&order.key) else {
            return Err(Refusal::new(Code::SignerSealed, format!("key {} is not open", order.key)));
        };
        if !self.pace.take(now.mono) {
            return Err(Refusal::new(Code::RateLimited, "too many certificates are signed at once"));
        }
        let mut nonce = [0; NONCE_BYTES];
        self.nonces.fill_bytes(&mut nonce);
        let openssh = build(order, &nonce).and_then(|builder| builder.sign(&held.signing)?.to_openssh());
        let openssh = openssh.map_err(|e| internal(&e))?;
        Ok(Certificate { openssh })
    }
}

impl<L: SignerLog> Signer for KeyRing<L> {
    fn public(&self, key: KeyName) -> Option<CaKey> {
        self.keys.get(&key).map(|held| held.public)
    }

    fn sign(&mut self, order: &Order, now: Now) -> Result<Certificate, Refusal> {
        let result = self.granted(order, now);
        let line = LogLine::new(order, now.wall, result.as_ref().err().map(|refusal| refusal.code));
        self.log
            .note(&line)
            .map_err(|e| Refusal::new(Code::Internal, format!("the signer's log cannot be written: {e}")))?;
        result
    }
}

fn build(order: &Order, nonce: &[u8]) -> ssh_key::Result<Builder> {
    let (from, until) = (seconds(order.valid_from), seconds(order.valid_until));
    let mut builder = Builder::new(nonce, order.subject.key_data().clone(), from, until)?;
    let id = order.id().to_string();
    builder.serial(order.serial.number())?.key_id(id.as_str())?.comment(id)?;
    builder.cert_type(match order.key.kind {
        CaKind::User => CertType::User,
        CaKind::Host => CertType::Host,
    })?;
    for principal in order.holder.principals() {
        builder.valid_principal(principal)?;
    }
    if let Holder::User { source, permits, .. } = &order.holder {
        let nets = source.host_nets().map(|net| net.to_string()).join(",");
        builder.critical_option("source-address", nets)?;
        for permit in permits {
            builder.extension(permit.as_str(), "")?;
        }
    }
    Ok(builder)
}

/// A certificate that no sshd takes: it ended in 1970.
fn probe(key: &PrivateKey) -> Result<ssh_key::Certificate, Refusal> {
    let mut builder = Builder::new([0; NONCE_BYTES], key.public_key().key_data().clone(), 0, 1)
        .map_err(|e| internal(&e))?;
    builder.cert_type(CertType::Host).map_err(|e| internal(&e))?;
    builder.key_id("self-test").and_then(|b| b.valid_principal("self-test")).map_err(|e| internal(&e))?;
    builder.sign(key).map_err(|e| internal(&e))
}

fn internal(error: &ssh_key::Error) -> Refusal {
    Refusal::new(Code::Internal, format!("a certificate cannot be made: {error}"))
}

/// Whole seconds after 1970, as certificates count.
fn seconds(at: Timestamp) -> u64 {
    at.unix_millis() / 1000
}
