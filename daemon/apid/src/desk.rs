//! The desk: the one task that owns the control machine, and the handle by which others ask it.
//!
//! It turns each output of the machine into one call: a frame into a send, a commit into a transaction. Everything slow
//! runs in a task of its own and comes back as a message, so that the desk never waits for anything but its inbox.

mod commands;
mod hosts;
mod hub_key;
mod links;
mod looks;
mod pace;
mod saving;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use control::{Actor, Answer, AuditEntry, By, Control, Edit, Input, LinkId, Origin, Output, RequestId};
use link::Sender;
use model::wire::{Channel, Frame, Remark};
use model::{Code, Refusal, TenantId};
use store::Store;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::audit::{AuditWriter, Written};
use crate::clock::Clock;
use crate::keys::Keys;
use crate::limiters::{Asker, Limiters};
use crate::metrics::Metrics;
use crate::relay::Switchboard;
use crate::report;
use crate::signing::Signing;

/// Messages that wait for the desk. Links and requests wait behind them when it is full.
const INBOX_MAX: usize = 1024;

type Reply = oneshot::Sender<Result<Answer, Refusal>>;

/// An edit that is not answered yet.
struct Waiting {
    action: &'static str,
    since: Instant,
    reply: Reply,
}

enum Message {
    Opened(Box<Opened>),
    Input(Box<Input>),
    Edit(Box<Wanted>),
    SealHubKey { recipient: Remark, reply: hub_key::Reply },
    Read(Box<dyn FnOnce(&Control) + Send>),
    Stop(oneshot::Sender<()>),
}

struct Wanted {
    tenant: Option<TenantId>,
    edit: Edit,
    by: By,
    reply: Reply,
}

struct Opened {
    link: LinkId,
    channel: Channel,
    from: Origin,
    writer: Writer,
}

/// The way to the desk. Clones lead to the same.
#[derive(Clone)]
pub struct Desk {
    inbox: mpsc::Sender<Message>,
    links: Arc<AtomicU64>,
    loaded: watch::Receiver<bool>,
    switchboard: Switchboard,
    limiters: Limiters,
}

/// What the desk works with.
pub struct Works {
    /// Where directories are kept.
    pub store: Store,
    /// What seals and opens anchors.
    pub keys: Keys,
    /// Signs certificates of hosts.
    pub signing: Signing,
    /// Time.
    pub clock: Clock,
    /// Counters.
    pub metrics: Metrics,
    /// Where links that may relay are told.
    pub switchboard: Switchboard,
}

impl Desk {
    /// Starts the desk. It reads the store first; until then nodes are asked to come back.
    /// The second part ends when the desk does: after [`Self::stop`], or by a bug.
    pub fn start(control: Control, works: Works, limiters: Limiters) -> (Self, JoinHandle<()>) {
        let (inbox, messages) = mpsc::channel(INBOX_MAX);
        let (loaded, is_loaded) = watch::channel(false);
        let desk = Self {
            inbox: inbox.clone(),
            links: Arc::default(),
            loaded: is_loaded,
            switchboard: works.switchboard.clone(),
            limiters: limiters.clone(),
        };
        let audit = AuditWriter::start(works.store.clone(), works.metrics.audit_lost.clone());
        let Works { store, keys, signing, clock, metrics, switchboard } = works;
        let run = Run {
            control,
            store,
            keys,
            signing,
            clock,
            metrics,
            audit,
            inbox,
            loaded,
            switchboard,
            limiters,
        };
        let running = tokio::spawn(run.until_stopped(messages));
        (desk, running)
    }

    /// Asks for an edit, and waits until it is in the store or refused, which is written down here.
    pub async fn edit(
        &self,
        tenant: Option<TenantId>,
        edit: Edit,
        by: impl Into<By>,
    ) -> Result<Answer, Written> {
        let gone = || Written(Code::Draining.into());
        let by = by.into();
        let (reply, answer) = oneshot::channel();
        if !self.say(Message::Edit(Box::new(Wanted { tenant, edit, by, reply }))).await {
            return Err(gone());
        }
        answer.await.map_err(|_| gone())?.map_err(Written)
    }

    /// Tells the machine something. False: the desk is gone.
    pub async fn tell(&self, input: Input) -> bool {
        self.say(Message::Input(Box::new(input))).await
    }

    async fn say(&self, message: Message) -> bool {
        self.inbox.send(message).await.is_ok()
    }

    /// Sends every node away in order, and ends the desk.
    pub async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        if self.inbox.send(Message::Stop(done)).await.is_ok() {
            // An error is a desk that ended already.
            let _ = stopped.await;
        }
    }
}

/// A link as the desk writes to it.
struct Writer {
    sender: Sender,
    /// Something was queued: whoever watches says when it is written.
    queued: Arc<Notify>,
}

struct Run {
    control: Control,
    store: Store,
    keys: Keys,
    signing: Signing,
    clock: Clock,
    metrics: Metrics,
    audit: AuditWriter,
    inbox: mpsc::Sender<Message>,
    loaded: watch::Sender<bool>,
    switchboard: Switchboard,
    limiters: Limiters,
}

/// What the desk has under way.
#[derive(Default)]
struct Open {
    writers: BTreeMap<LinkId, Writer>,
    requests: BTreeMap<RequestId, Waiting>,
    requests_made: u64,
    hub_key: hub_key::Waiting,
    /// Links that are writing their last frames.
    closing: JoinSet<()>,
    /// Presence on its way to the store.
    saving: saving::Saving,
}

impl Run {
    async fn until_stopped(mut self, mut messages: mpsc::Receiver<Message>) {
        let mut open = Open::default();
        self.load();
        loop {
            self.drain_outputs(&mut open);
            let deadline = self.control.poll_timeout();
            let wake = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(self.clock.instant(deadline.at)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                message = messages.recv() => match message {
                    Some(Message::Stop(done)) => return self.stop(open, messages, done).await,
                    Some(message) => self.take(message, &mut open),
                    None => return,
                },
                () = wake => self.control.handle_timeout(self.clock.now()),
            }
        }
    }

    fn take(&mut self, message: Message, open: &mut Open) {
        let now = self.clock.now();
        match message {
            Message::Opened(opened) => {
                let Opened { link, channel, from, writer } = *opened;
                open.writers.insert(link, writer);
                self.metrics.links.set(i64::try_from(open.writers.len()).unwrap_or(i64::MAX));
                self.control.handle(Input::Opened { link, channel, from }, now);
            }
            Message::Input(input) => {
                self.count(&input);
                if let Input::Closed { link } = &*input {
                    open.writers.remove(link);
                    self.metrics.links.set(i64::try_from(open.writers.len()).unwrap_or(i64::MAX));
                }
                let loaded = matches!(*input, Input::Loaded { .. });
                self.control.handle(*input, now);
                self.loaded.send_if_modified(|l| loaded && !std::mem::replace(l, true));
            }
            Message::Edit(wanted) => {
                let Wanted { tenant, edit, by, reply } = *wanted;
                let request = RequestId(open.requests_made);
                open.requests_made += 1;
                open.requests
                    .insert(request, Waiting { action: edit.action(), since: Instant::now(), reply });
                self.control.handle(Input::Edit { request, tenant, edit, by }, now);
            }
            Message::SealHubKey { recipient, reply } => self.ask_hub_key(recipient, reply, &mut open.hub_key),
            Message::Read(look) => look(&self.control),
            // Taken by the loop.
            Message::Stop(_) => {}
        }
    }

    fn count(&self, input: &Input) {
        if let Input::Received { link, frame: Frame::Heartbeat(heartbeat) } = input {
            self.metrics.heartbeats.inc();
            tracing::debug!(
                link = link.0,
                sequence = heartbeat.sequence,
                drift = heartbeat.drift_total,
                "heartbeat"
            );
        }
    }

    fn drain_outputs(&mut self, open: &mut Open) {
        while let Some(output) = self.control.poll_output() {
            match output {
                Output::Send { link, frame } => self.send(link, &frame, open),
                Output::Close { link } => self.close(link, None, open),
                Output::Admit { link, realm, device } => self.switchboard.admit(link.0, realm, device),
                Output::HubAt { realm, place } => self.switchboard.hub_at(realm, place),
                Output::Dismiss { link } => self.switchboard.dismiss(link.0),
                Output::Answer { request, result } => {
                    if let Some(Waiting { action, since, reply }) = open.requests.remove(&request) {
                        let outcome = result.as_ref().err().map_or("done", |refusal| refusal.code.as_str());
                        self.metrics.edit(action, outcome, since.elapsed());
                        // The asker may have gone; the edit is in the store all the same.
                        let _ = reply.send(result);
                    }
                }
                Output::Commit(commit) => self.commit(commit),
                Output::Refresh { tenant, since } => self.refresh(tenant, since),
                Output::Poll => self.poll(),
                Output::Pass(hint) => self.pass(hint),
                Output::TellSighting(sighting) => self.tell_sighting(sighting),
                Output::Audit(entry) => self.write_down(entry),
                Output::SavePresence(rows) => open.saving.save(rows, &self.store),
                Output::Certify { link, tenant, device, key } => self.certify(link, tenant, device, &key),
                Output::NoteLogins { link, tenant, device, logins } => {
                    self.note_logins(link, tenant, device, logins);
                }
                Output::HubKey(sealed) => hub_key::answer(&mut open.hub_key, sealed),
                Output::SaveInstalled(rows) => self.save_installed(rows),
                Output::CommandDone { tenant, device, done } => self.command_done(tenant, device, done),
                Output::Event(event) => {
                    self.metrics.event(&event);
                    report::event(&event);
                }
            }
        }
    }

    /// What was done always, what was refused as often as whoever asks may fill the log.
    fn write_down(&self, entry: AuditEntry) {
        let asker = match &entry.actor {
            // Whoever does not administer the server comes no further than the API.
            Actor::Local(_) => None,
            actor => Asker::of(actor),
        };
        if entry.refused.is_none() || self.limiters.may_write(asker) {
            self.audit.write(entry);
        }
    }

    fn send(&mut self, link: LinkId, frame: &Frame, open: &mut Open) {
        let Some(writer) = open.writers.get(&link) else { return };
        match writer.sender.try_send(frame) {
            // Who was told already looks after this frame too.
            Ok(()) => writer.queued.notify_one(),
            Err(error) => {
                tracing::debug!(link = link.0, %error, "frame not queued");
                self.close(link, Some(error.to_string()), open);
                self.control.handle(Input::Closed { link }, self.clock.now());
            }
        }
    }

    /// Lets the link write what is queued, then ends it. Its reader says when it is over.
    fn close(&self, link: LinkId, why: Option<String>, open: &mut Open) {
        let Some(writer) = open.writers.remove(&link) else { return };
        while open.closing.try_join_next().is_some() {}
        open.closing.spawn(async move {
            if let Err(error) = writer.sender.close(None).await {
                tracing::debug!(link = link.0, %error, reason = why, "link did not end in order");
            }
        });
    }

    /// Runs something slow elsewhere; what comes of it is the machine's next input.
    fn elsewhere(&self, work: impl Future<Output = Input> + Send + 'static) {
        let inbox = self.inbox.clone();
        tokio::spawn(async move {
            let input = work.await;
            // The desk is gone only when the process ends.
            let _ = inbox.send(Message::Input(Box::new(input))).await;
        });
    }

    fn load(&self) {
        let (store, keys) = (self.store.clone(), self.keys.clone());
        self.elsewhere(async move {
            loop {
                match store.load().await {
                    Ok(loaded) => {
                        let anchors = keys.open_anchors(&loaded);
                        return Input::Loaded { loaded, anchors };
                    }
                    Err(error) => {
                        tracing::error!(error = %report::chain(&error), "the store cannot be read; tried again");
                        tokio::time::sleep(LOAD_RETRY_INTERVAL).await;
                    }
                }
            }
        });
    }

    fn commit(&self, commit: Box<control::Commit>) {
        let (store, keys) = (self.store.clone(), self.keys.clone());
        let durations = self.metrics.db_commit_durations.clone();
        self.elsewhere(async move {
            let begun = Instant::now();
            let result = match keys.seal(&commit) {
                Ok(sealed) => store.commit(&commit, &sealed).await,
                Err(error) => Err(control::CommitError::Unavailable(report::chain(&error))),
            };
            durations.observe(begun.elapsed().as_secs_f64());
            if result.is_ok() {
                tokio::spawn(async move {
                    if let Err(error) = store.tell_others().await {
                        tracing::debug!(
                            error = error.chain(),
                            "other replicas were not told; they look by themselves"
                        );
                    }
                });
            }
            Input::Committed { commit: commit.id, result }
        });
    }

    fn refresh(&self, tenant: TenantId, since: control::Since) {
        let (store, keys) = (self.store.clone(), self.keys.clone());
        self.elsewhere(async move {
            let result = store.refresh(tenant, since).await.map_err(|e| report::chain(&e));
            let anchor = match &result {
                Ok(control::Refresh::Whole(rows)) => keys.open_anchor(tenant, &rows.sealed_anchor),
                Ok(control::Refresh::Facts { .. }) | Err(_) => None,
            };
            Input::Refreshed { tenant, result, anchor }
        });
    }

    fn poll(&self) {
        let store = self.store.clone();
        self.elsewhere(async move { Input::Polled(store.standings().await.map_err(|e| report::chain(&e))) });
    }

    /// As many at once as [`control::limits::HINTS_PASSED_PER_SECOND`] allows while the database may be waited for.
    fn pass(&self, hint: control::PassedHint) {
        let store = self.store.clone();
        tokio::spawn(async move { untold("a hint", store.pass(&hint).await) });
    }

    fn tell_sighting(&self, sighting: control::Sighting) {
        let store = self.store.clone();
        tokio::spawn(async move { untold("who attached", store.tell_sighting(&sighting).await) });
    }

    /// Tells every node when to come back, and waits until they have read it and what was under way is answered.
    async fn stop(
        mut self,
        mut open: Open,
        mut messages: mpsc::Receiver<Message>,
        done: oneshot::Sender<()>,
    ) {
        self.control.handle(Input::Drain, self.clock.now());
        self.drain_outputs(&mut open);
        let answered = async {
            while !self.control.is_drained() {
                let Some(message) = messages.recv().await else { return };
                self.take(message, &mut open);
                self.drain_outputs(&mut open);
            }
            open.saving.done().await;
        };
        if tokio::time::timeout(DRAIN_TIME_MAX, answered).await.is_err() {
            tracing::warn!("the store did not answer everything before the end");
        }
        let rest: Vec<LinkId> = open.writers.keys().copied().collect();
        for link in rest {
            self.close(link, None, &mut open);
        }
        open.closing.join_all().await;
        self.audit.finish().await;
        // Whoever asked may have gone.
        let _ = done.send(());
    }
}

/// Edits that are under way at the end have this long to be answered.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);
/// The store is asked again this often while it cannot be read at start: /healthz says so meanwhile.
const LOAD_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Other replicas do without it: devices say hints again, and who attached is read later.
fn untold(what: &'static str, told: Result<(), store::DatabaseError>) {
    if let Err(error) = told {
        tracing::debug!(what, error = error.chain(), "other replicas were not told");
    }
}
