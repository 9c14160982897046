//! Signing certificates: serial, signature, record with its audit entry, and only then the certificate. Who may have which,
//! its callers decide; the signer's own caps hold all the same.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ca::limits::{HOLDER_BURST, HOLDER_PER_SECOND, HOLDERS_KEPT_MAX, LIVING_PER_HOLDER_MAX};
use ca::profile::Basis;
use ca::{Caps, KeyGeneration, KeyName, KeyRing, LogLine, Order, Paces, Signer as _, SignerLog, Subject};
use control::{AuditEntry, By, Directory};
use model::id::UserId;
use model::{CaKey, CaKind, Code, DeviceId, Epoch, Label, Refusal, SshSerial, TenantId};
use store::{CertificateRow, RecordError, Store};

use crate::accounts::entry;
use crate::clock::Clock;
use crate::keys::Keys;
use crate::metrics::Metrics;
use crate::report;

/// What the signer did, one line each: its own record, beside the database's.
const LOG_FILE: &str = "signer.log";
/// Serials that are reserved at once: a start or a crash loses so many of 2^47.
const SERIALS_AT_ONCE: u32 = 256;

/// The signer's own log: appended to, never read.
struct LogFile(File);

impl SignerLog for LogFile {
    fn note(&mut self, line: &LogLine) -> Result<(), String> {
        self.0.write_all(format!("{line}\n").as_bytes()).map_err(|e| e.to_string())
    }
}

/// Which key is to sign, and what the directory says of it.
#[derive(Debug, Clone)]
pub struct SigningKey {
    name: KeyName,
    public: CaKey,
    /// The authority's keys that are still needed; others are forgotten.
    trusted: BTreeSet<KeyGeneration>,
}

impl SigningKey {
    /// The key that signs for an authority now.
    pub fn of(directory: &Directory, kind: CaKind) -> Result<Self, Refusal> {
        let absent =
            || Refusal::new(Code::StoreUnavailable, format!("the {kind} authority is not founded yet"));
        let key = directory.signing_key(kind).ok_or_else(absent)?;
        Ok(Self {
            name: KeyName { tenant: directory.tenant().id, kind, generation: key.generation },
            public: key.public,
            trusted: directory.trusted_keys(kind).map(|key| key.generation).collect(),
        })
    }

    /// Its public half.
    pub const fn public(&self) -> CaKey {
        self.public
    }
}

/// A certificate that somebody may have.
pub struct Wish {
    /// The key that is to sign.
    pub key: SigningKey,
    /// The tenant's name.
    pub tenant: Label,
    /// The key that is certified.
    pub subject: Subject,
    /// The person that it is for; `None` for a host.
    pub user: Option<UserId>,
    /// The device that proved itself.
    pub device: DeviceId,
    /// Who asks.
    pub by: By,
}

/// A certificate that was recorded.
#[derive(Debug, Clone)]
pub struct Issued {
    /// One line of OpenSSH.
    pub certificate: String,
    /// As it was recorded.
    pub row: CertificateRow,
}

/// Who has a pace of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    /// Whoever is logged in.
    Person(UserId),
    /// The host itself.
    Host(DeviceId),
}

/// Somebody who asked for a certificate and got none.
pub struct Denied {
    /// Who has the pace; `None` for somebody who can have no certificate at all.
    pub holder: Option<Holder>,
    /// The tenant, as far as it is known.
    pub tenant: Option<TenantId>,
    /// The person's name, or the device.
    pub target: String,
    /// Who asked.
    pub by: By,
}

/// Serials that are this process's alone.
#[derive(Default)]
struct Serials {
    epoch: Epoch,
    left: Range<u64>,
}

/// The way to signatures. Clones share the keys.
#[derive(Clone)]
pub struct Signing {
    ring: Arc<Mutex<KeyRing<LogFile>>>,
    serials: Arc<tokio::sync::Mutex<Serials>>,
    paces: Arc<Mutex<Paces<Holder>>>,
    /// Who is too fast, and in the audit log as such.
    hasty: Arc<Mutex<BTreeSet<Holder>>>,
    store: Store,
    keys: Keys,
    clock: Clock,
    metrics: Metrics,
}

impl Signing {
    /// A signer without open keys: each is opened when it is needed first.
    pub fn start(
        state_dir: &Path,
        store: Store,
        keys: Keys,
        clock: Clock,
        metrics: Metrics,
    ) -> anyhow::Result<Self> {
        use anyhow::Context as _;
        let path = state_dir.join(LOG_FILE);
        let file = File::options().append(true).create(true).mode(0o600).open(&path);
        let log =
            LogFile(file.with_context(|| format!("the signer's log {} cannot be used", path.display()))?);
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).context("the kernel has no random bytes")?;
        let ring = Arc::new(Mutex::new(KeyRing::new(Caps::default(), seed, log)));
        let paces = Paces::new(HOLDER_PER_SECOND, HOLDER_BURST, HOLDERS_KEPT_MAX);
        let paces = Arc::new(Mutex::new(paces));
        let (serials, hasty) = (Arc::default(), Arc::default());
        Ok(Self { ring, serials, paces, hasty, store, keys, clock, metrics })
    }

    /// Makes a certificate; `order` says what is in it.
    pub async fn issue(
        &self,
        wish: Wish,
        order: impl FnOnce(Basis) -> Result<Order, Refusal>,
    ) -> Result<Issued, Refusal> {
        let kind = wish.key.name.kind;
        let result = self.issue_uncounted(wish, order).await;
        self.metrics.certificate(kind, result.as_ref().err().map_or("done", |refusal| refusal.code.as_str()));
        result
    }

    async fn issue_uncounted(
        &self,
        wish: Wish,
        order: impl FnOnce(Basis) -> Result<Order, Refusal>,
    ) -> Result<Issued, Refusal> {
        // Before anything is spent on it.
        let holder = wish.user.map_or(Holder::Host(wish.device), Holder::Person);
        let in_time = held(&self.paces).take(holder, self.clock.now().mono);
        if !in_time {
            return Err(Refusal::new(
                Code::RateLimited,
                "too many certificates at once for one person or host",
            ));
        }
        self.open(&wish.key).await?;
        let Wish { key, tenant, subject, user, device, by } = wish;
        let serial = self.serial().await?;
        let order = order(Basis { key: key.name, tenant, serial, subject })?;
        self.check_room(&order).await?;
        let now = self.clock.now();
        let certificate = self.ring().sign(&order, now)?.openssh;
        let row = CertificateRow {
            tenant: key.name.tenant,
            kind: key.name.kind,
            serial,
            generation: key.name.generation,
            id: order.id(),
            fingerprint: order.subject.fingerprint(),
            principals: order.holder.principals(),
            user,
            device,
            issued_at: now.wall,
            valid_from: order.valid_from,
            valid_until: order.valid_until,
            revoked_at: None,
        };
        let By { actor, trace } = by;
        let entry = AuditEntry {
            at: now.wall,
            tenant: Some(row.tenant),
            actor,
            action: "certificate.issue".into(),
            target: row.id.to_string(),
            refused: None,
            detail: format!("{} {serial} on {device} until {}", row.kind, row.valid_until),
            trace,
        };
        match self.store.record_certificate(&row, &entry).await {
            Ok(()) => {
                held(&self.hasty).remove(&holder);
                Ok(Issued { certificate, row })
            }
            Err(RecordError::Withdrawn) => Err(Refusal::new(
                Code::Conflict,
                "the device, the person or the key changed meanwhile: the certificate is void",
            )),
            Err(error @ RecordError::Database(_)) => Err(unavailable(&error)),
        }
    }

    /// Whoever asks without end would fill the lists of all hosts on the day that the certificates are taken back.
    async fn check_room(&self, order: &Order) -> Result<(), Refusal> {
        let (KeyName { tenant, kind, .. }, id) = (order.key, order.id());
        let living = self.store.living_of(tenant, kind, &id, self.clock.now().wall).await;
        if living.map_err(|e| unavailable(&e))? < LIVING_PER_HOLDER_MAX {
            return Ok(());
        }
        let detail = format!("{LIVING_PER_HOLDER_MAX} certificates of {id} live: wait until some end");
        Err(Refusal::new(Code::QuotaReached, detail))
    }

    /// Writes down why somebody got no certificate. Whoever asks too often fills no log: that is written once, until the
    /// next certificate.
    pub async fn note_refusal(&self, denied: Denied, refusal: &Refusal) -> Result<(), Refusal> {
        let Denied { holder, tenant, target, by } = denied;
        if refusal.code == Code::RateLimited && !holder.is_some_and(|holder| self.is_first(holder)) {
            return Ok(());
        }
        let mut refused = entry(by, "certificate.issue", &target, Some(refusal.code));
        (refused.tenant, refused.detail) = (tenant, refusal.detail.clone());
        self.store.append_audit(&refused).await.map_err(|e| unavailable(&e))
    }

    /// Whether it is not written down yet that somebody is too fast. Beyond so many nobody more is: they are strangers to
    /// the log, not to the limiter.
    fn is_first(&self, holder: Holder) -> bool {
        let mut hasty = held(&self.hasty);
        hasty.len() < HOLDERS_KEPT_MAX && hasty.insert(holder)
    }

    /// Whether anything opens the keys in the database.
    ///
    /// # Errors
    /// `signer-sealed`: nothing does.
    pub fn check_seal(&self) -> Result<(), Refusal> {
        self.keys.check().map_err(|error| Refusal::new(Code::SignerSealed, error.to_string()))
    }

    /// Opens a key, unless it is open; forgets the authority's keys that nobody trusts any more.
    ///
    /// # Errors
    /// `signer-sealed`: it does not unseal. `store-unavailable`: it cannot be read.
    pub async fn open(&self, key: &SigningKey) -> Result<(), Refusal> {
        let name = key.name;
        {
            let mut ring = self.ring();
            ring.keep(|open| {
                (open.tenant, open.kind) != (name.tenant, name.kind) || key.trusted.contains(&open.generation)
            });
            if ring.public(name) == Some(key.public) {
                return Ok(());
            }
        }
        let sealed = self.store.sealed_key(name.tenant, name.kind, name.generation).await;
        let sealed = sealed.map_err(|e| unavailable(&e))?;
        let sealed = sealed.ok_or_else(|| Refusal::new(Code::Conflict, format!("key {name} was erased")))?;
        let secret = self.keys.open_authority(name, &sealed).map_err(|error| {
            tracing::error!(key = %name, error = %report::chain(&error), "an SSH authority's key does not unseal");
            Refusal::new(Code::SignerSealed, error.to_string())
        })?;
        if secret.public() != key.public {
            return Err(Refusal::new(Code::Internal, format!("key {name} is not the one that is trusted")));
        }
        self.ring().open(name, &secret)
    }

    async fn serial(&self) -> Result<SshSerial, Refusal> {
        let mut serials = self.serials.lock().await;
        if serials.left.is_empty() {
            let reserved = self.store.reserve_serials(SERIALS_AT_ONCE).await.map_err(|e| unavailable(&e))?;
            (serials.epoch, serials.left) = reserved;
        }
        let counter = serials.left.next().ok_or(Code::Internal)?;
        SshSerial::new(serials.epoch, counter)
            .ok_or_else(|| Refusal::new(Code::QuotaReached, "no serial is left"))
    }

    /// Signing takes microseconds, so whoever holds the ring holds it without waiting for anything else.
    fn ring(&self) -> MutexGuard<'_, KeyRing<LogFile>> {
        held(&self.ring)
    }
}

fn held<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unavailable(error: &(dyn std::error::Error + 'static)) -> Refusal {
    tracing::error!(error = %report::chain(error), "store is unavailable");
    Refusal::new(Code::StoreUnavailable, error.to_string())
}
