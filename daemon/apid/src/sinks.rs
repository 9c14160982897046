//! Where the audit log is told besides the database: a file, a webhook. In order, at least once, from where each was.

use std::io::SeekFrom;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::http::Uri;
use data_encoding::HEXLOWER;
use hmac::{Hmac, Mac as _};
use link::https::{self, Bounds, Method, Request, Server, header};
use link::tls::HttpsTrust;
use model::Digest;
use model::api::SCHEMA_VERSION;
use model::api::audit::{AuditCheckpoint, AuditEntry};
use serde_json::{Value, json};
use sha2::Sha256;
use store::{AuditRow, Store};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use crate::audit::form;
use crate::clock::wall;
use crate::config::Settings;
use crate::desk::Desk;
use crate::keys::Keys;
use crate::lease::Lease;
use crate::report;

/// Entries that are told at once: some hundred kilobytes.
const BATCH_MAX: u32 = 200;
/// How often new entries are looked for.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The first pause after a failure; it doubles.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// The longest.
const RETRY_MAX: Duration = Duration::from_secs(300);
/// A sink is told where the log ends at least so often: then it knows that nothing is kept from it.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// A webhook has this long to answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// Of a webhook's answer nothing is read but the status.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// One place.
pub enum Sink {
    /// Lines of JSON are appended.
    File(PathBuf),
    /// Batches are posted.
    Webhook(Webhook),
}

/// What a sink is told at once.
enum Word<'a> {
    /// Some entries.
    Batch {
        /// In order.
        entries: &'a [AuditEntry],
        /// Numbers of the first and the last.
        numbers: (u64, u64),
    },
    /// Where the log ends.
    End(&'a AuditCheckpoint),
}

impl Word<'_> {
    /// The same for the same word.
    fn key(&self) -> String {
        match self {
            Self::Batch { numbers: (first, last), .. } => format!("warren-audit-{first}-{last}"),
            Self::End(end) => format!("warren-audit-end-{}-{}", end.sequence, end.at.unix_micros()),
        }
    }
}

/// What sinks are told of.
#[derive(Clone)]
pub struct Log {
    /// Where it is kept.
    pub store: Store,
    /// Who knows the names of tenants.
    pub desk: Desk,
    /// What seals and signs its end.
    pub keys: Keys,
}

/// A webhook over HTTPS.
pub struct Webhook {
    server: Server,
    path: String,
    /// What the signature is made with.
    secret: Zeroizing<Vec<u8>>,
}

/// Those of the settings.
pub fn of(settings: &Settings) -> anyhow::Result<Vec<Sink>> {
    let file = settings.audit_file.clone().map(Sink::File);
    let webhook = settings.audit_webhook.as_ref().map(|url| {
        let secret = settings.audit_webhook_secret_file.as_ref();
        let secret = secret.context("a webhook needs --audit-webhook-secret-file")?;
        let secret = std::fs::read(secret)
            .with_context(|| format!("the webhook's secret {} cannot be read", secret.display()))?;
        let secret = Zeroizing::new(secret.trim_ascii_end().to_vec());
        anyhow::ensure!(!secret.is_empty(), "the webhook's secret is empty");
        Webhook::new(url, settings.audit_webhook_ca_file.as_deref(), secret).map(Sink::Webhook)
    });
    Ok(file.into_iter().chain(webhook.transpose()?).collect())
}

impl Webhook {
    fn new(url: &str, ca: Option<&Path>, secret: Zeroizing<Vec<u8>>) -> anyhow::Result<Self> {
        // It may have a token in it, and goes into the log.
        let bad = || "the URL of --audit-webhook is none: one looks like https://log.example.org/warren";
        let url: Uri = url.parse().with_context(bad)?;
        let (Some("https"), Some(host)) = (url.scheme_str(), url.host()) else { anyhow::bail!(bad()) };
        let address =
            format!("https://{host}:{}", url.port_u16().unwrap_or(443)).parse().with_context(bad)?;
        let trust = HttpsTrust::Authorities { extra_ca_file: ca.map(Into::into) };
        let path = url.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { server: Server::Https { address, trust }, path, secret })
    }

    /// Tells it. Whoever was told before knows it by its key.
    async fn post(&self, word: &Word<'_>) -> anyhow::Result<()> {
        let body = serde_json::to_vec(&match word {
            Word::Batch { entries, .. } => json!({"schema_version": SCHEMA_VERSION, "items": entries}),
            Word::End(end) => json!({"schema_version": SCHEMA_VERSION, "items": [], "checkpoint": end}),
        })?;
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret)?;
        mac.update(&body);
        let signature = format!("sha256={}", HEXLOWER.encode(&mac.finalize().into_bytes()));
        let request = Request::builder()
            .method(Method::POST)
            .uri(&self.path)
            .header(header::CONTENT_TYPE, "application/json")
            .header("idempotency-key", word.key())
            .header("warren-signature", signature)
            .body(body.into())?;
        let bounds = Bounds { time_max: ANSWER_TIME_MAX, body_bytes_max: ANSWER_BYTES_MAX };
        let response = https::request(&self.server, request, bounds).await?;
        anyhow::ensure!(response.status().is_success(), "the webhook answers {}", response.status());
        Ok(())
    }
}

async fn append(path: &Path, word: &Word<'_>) -> anyhow::Result<()> {
    let mut lines = Vec::new();
    let values: Vec<Value> = match word {
        Word::Batch { entries, .. } => entries.iter().map(serde_json::to_value).collect::<Result<_, _>>()?,
        Word::End(end) => vec![json!({"schema_version": SCHEMA_VERSION, "checkpoint": end})],
    };
    for value in values {
        serde_json::to_writer(&mut lines, &value)?;
        lines.push(b'\n');
    }
    let mut file = File::options().append(true).read(true).create(true).mode(0o640).open(path).await?;
    if !ends_with_line(&mut file).await? {
        // A full disk, or a server that was killed, left half of one.
        file.write_all(b"\n").await?;
    }
    file.write_all(&lines).await?;
    Ok(file.sync_data().await?)
}

async fn ends_with_line(file: &mut File) -> std::io::Result<bool> {
    if file.metadata().await?.len() == 0 {
        return Ok(true);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1)).await?;
    file.read_exact(&mut last).await?;
    Ok(last == *b"\n")
}

/// What telling one sink has come to.
#[derive(Default)]
struct Progress {
    /// Whether the database knows it by its key.
    renamed: bool,
    /// The last number of a batch that was begun.
    failed: Option<u64>,
    /// The end that it was told last, and when.
    signed: Option<(u64, Instant)>,
    /// Whether it was said that the end is not to be signed.
    forged: bool,
}

impl Sink {
    /// How people know it: of a webhook where it is, as the rest of its URL may be a token.
    fn name(&self) -> String {
        match self {
            Self::File(path) => format!("file {}", path.display()),
            Self::Webhook(Webhook { server, .. }) => format!("webhook {}", server.place()),
        }
    }

    /// How the database knows it: another path is another webhook.
    fn key(&self) -> String {
        let name = self.name();
        match self {
            Self::File(_) => name,
            Self::Webhook(Webhook { path, .. }) => {
                format!("{name} {}", Digest::of("warren audit sink 1", &[path.as_bytes()]))
            }
        }
    }

    /// How it knew it before it was told no more than that.
    fn former_key(&self) -> Option<String> {
        match self {
            Self::File(_) => None,
            Self::Webhook(webhook) => Some(format!("webhook {:?} {}", webhook.server, webhook.path)),
        }
    }

    async fn tell(&self, word: &Word<'_>) -> anyhow::Result<()> {
        match self {
            Self::File(path) => append(path, word).await,
            Self::Webhook(webhook) => webhook.post(word).await,
        }
    }

    /// Tells everything, for as long as it is polled. While another replica holds the lease, that one does.
    async fn run(self, log: Log, mut lease: Lease) {
        let name = self.name();
        let (mut pause, mut progress) = (RETRY_FIRST, Progress::default());
        loop {
            lease.held().await;
            let wait = match self.next(&log, &mut progress).await {
                Ok(true) => {
                    pause = RETRY_FIRST;
                    continue;
                }
                Ok(false) => {
                    pause = RETRY_FIRST;
                    LOOK_INTERVAL
                }
                Err(error) => {
                    let error = report::chain(error.as_ref());
                    tracing::warn!(sink = name, error, "the audit log is not told; tried again");
                    let wait = pause;
                    pause = (pause * 2).min(RETRY_MAX);
                    wait
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Tells one batch; `false` if there is nothing to tell. One that failed comes again as it was, whatever is newer.
    async fn next(&self, log: &Log, progress: &mut Progress) -> anyhow::Result<bool> {
        let Log { store, desk, .. } = log;
        let key = self.key();
        if let Some(former) = self.former_key().filter(|_| !progress.renamed) {
            store.rename_audit_sink(&former, &key).await?;
            progress.renamed = true;
        }
        let told = store.audit_sink(&key).await?;
        let mut rows = store.audit_after(None, told, BATCH_MAX).await?;
        let number = |row: Option<&AuditRow>| row.and_then(|row| row.link).map(|(sequence, _)| sequence);
        if let Some(failed) = progress.failed.filter(|failed| *failed > told) {
            rows.retain(|row| number(Some(row)).is_some_and(|number| number <= failed));
        }
        let (Some(first), Some(last)) = (number(rows.first()), number(rows.last())) else {
            return self.end(log, progress).await.map(|()| false);
        };
        let tenants = desk.tenant_names().await?;
        let batch: Vec<AuditEntry> = rows.into_iter().map(|row| form(row, &tenants)).collect();
        progress.failed = Some(last);
        self.tell(&Word::Batch { entries: &batch, numbers: (first, last) }).await?;
        store.audit_told(&key, told, last).await?;
        Ok(true)
    }

    /// Tells where the log ends, whenever that is elsewhere, and every day: who changes the database cannot change what a sink has.
    /// An end that the server did not seal is not signed.
    async fn end(&self, log: &Log, progress: &mut Progress) -> anyhow::Result<()> {
        let Ok(secret) = log.keys.checkpoint_secret() else { return Ok(()) };
        let Some((ends, sealed)) = log.store.audit_ends(&log.keys).await? else { return Ok(()) };
        if !sealed {
            // Entries are told all the same.
            if !std::mem::replace(&mut progress.forged, true) {
                tracing::error!(
                    "the end of the audit log is not what the server sealed: warren audit verify"
                );
            }
            return Ok(());
        }
        let is_told =
            |(sequence, at): (u64, Instant)| sequence == ends.sequence && at.elapsed() < CHECKPOINT_INTERVAL;
        if progress.signed.is_some_and(is_told) {
            return Ok(());
        }
        self.tell(&Word::End(&AuditCheckpoint::sign(ends.sequence, ends.hash, wall(), &secret))).await?;
        progress.signed = Some((ends.sequence, Instant::now()));
        Ok(())
    }
}

/// Tells all sinks, in tasks of their own.
pub fn start(sinks: Vec<Sink>, log: &Log, lease: &Lease) -> JoinSet<()> {
    let mut running = JoinSet::new();
    for sink in sinks {
        running.spawn(sink.run(log.clone(), lease.clone()));
    }
    running
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn half_a_line_of_a_full_disk_spoils_no_other() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("audit.jsonl");
        let secret = model::CheckpointSecret::from_seed([1; 32]);
        let end = AuditCheckpoint::sign(7, Digest::from_bytes([2; 32]), wall(), &secret);
        append(&path, &Word::End(&end)).await.expect("a new file");
        let whole = std::fs::read_to_string(&path).expect("text");
        std::fs::write(&path, &whole[..20]).expect("written");
        append(&path, &Word::End(&end)).await.expect("there is room again");
        append(&path, &Word::End(&end)).await.expect("and again");
        let text = std::fs::read_to_string(&path).expect("text");
        assert_eq!(text, format!("{}\n{whole}{whole}", &whole[..20]));
    }

    #[test]
    fn a_webhook_is_a_url_with_tls() {
        let read = |url: &str| Webhook::new(url, None, Zeroizing::new(b"x".to_vec()));
        let webhook = read("https://log.example.org/warren?x=1").expect("a URL");
        assert_eq!(webhook.path, "/warren?x=1");
        let (one, other) =
            (Sink::Webhook(webhook), read("https://log.example.org/warren?x=2").expect("a URL"));
        assert_eq!(one.name(), "webhook https://log.example.org:443");
        assert!(one.key().starts_with(&one.name()) && !one.key().contains("warren"), "{}", one.key());
        assert_ne!(one.key(), Sink::Webhook(other).key());
        assert!(read("https://log.example.org:8443").is_ok());
        for bad in ["http://log.example.org/T0KEN", "log.example.org/T0KEN", "https://", "", "https:///T0KEN"]
        {
            let error = read(bad).err().unwrap_or_else(|| panic!("{bad:?} is one"));
            assert!(!format!("{error:#}").contains("T0KEN"), "{error:#}");
        }
    }
}
