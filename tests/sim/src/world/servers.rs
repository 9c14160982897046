//! Servers in the world: what their outputs do, what the store answers, how they start and end.

use std::time::Duration;

use control::{Commit, CommitError, Event, Input, LinkId, Output};
use model::wire::Frame;

use super::{Call, Happening, Who, World};
use crate::link::{Item, Server, Way};
use crate::store::Ailment;

/// Things that one server may do in a minute, for each machine of the run and at least.
const WORK_PER_MACHINE: usize = 400;
const WORK_FLOOR: usize = 20_000;
/// Words between servers that nobody hears, in thousandths.
const RUMOURS_LOST_PER_MILLE: usize = 100;
/// A server that could not read the store at start tries again.
const LOAD_RETRY: Duration = Duration::from_secs(1);

impl World {
    pub(super) fn start_replica(&mut self, index: usize, life: u64) {
        let shared = self.replicas.len() > 1;
        let replica = &mut self.replicas[index];
        if replica.life != life || replica.control.is_some() {
            return;
        }
        replica.start(self.at, shared, &mut self.dice.store);
        let (name, life) = (replica.name.clone(), replica.life);
        self.trace.event(self.at, "start server", index as u64, &[]);
        self.trace.tell(self.at, || format!("{name} starts"));
        let delay = self.store_delay();
        self.soon(delay, Happening::Ask { replica: index, life, call: Call::Load });
        self.drive_replica(index, None);
    }

    /// The process ends without a word; its links end when the network says so, or never.
    pub(super) fn stop_replica(&mut self, index: usize, silently: bool) {
        let life = self.replicas[index].life;
        self.replicas[index].stop();
        let is_its = |server: Option<Server>| server == Some(Server::Replica(index, life));
        let links: Vec<LinkId> =
            self.links.iter().filter(|(_, link)| is_its(link.server)).map(|(id, _)| *id).collect();
        for id in links {
            if !silently {
                self.send(id, Way::Down, Item::End);
            }
            if let Some(link) = self.links.get_mut(&id) {
                link.server = None;
            }
            self.sweep(id);
        }
    }

    pub(super) fn wake_replica(&mut self, index: usize, stamp: u64) {
        let replica = &mut self.replicas[index];
        if replica.timer.stamp != stamp {
            return;
        }
        replica.timer.at = None;
        let deadline = replica.control.as_ref().and_then(control::Control::poll_timeout);
        let why = deadline.map_or("", |deadline| deadline.why);
        self.judge.woken(self.at, &self.replicas[index].name, why);
        self.drive_replica(index, None);
    }

    pub(super) fn tell_replica(&mut self, index: usize, life: u64, input: Input) {
        if self.replicas[index].life == life {
            self.drive_replica(index, Some(input));
        }
    }

    pub(super) fn written(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.unwritten = link.unwritten.saturating_sub(1);
        if link.unwritten == 0
            && let Some(Server::Replica(replica, life)) = link.server
        {
            self.tell_replica(replica, life, Input::Drained { link: id });
        }
    }

    /// Tells a server something, or that time has passed; then does what it wants.
    pub(super) fn drive_replica(&mut self, index: usize, input: Option<Input>) {
        let replica = &mut self.replicas[index];
        let now = replica.now(self.at, self.jumped);
        let Some(control) = &mut replica.control else { return };
        match input {
            Some(input) => control.handle(input, now),
            None => control.handle_timeout(now),
        }
        let outputs: Vec<Output> = std::iter::from_fn(|| control.poll_output()).collect();
        let life = replica.life;
        if !outputs.is_empty() {
            let bound = WORK_FLOOR + WORK_PER_MACHINE * self.machines.len();
            self.judge.worked(self.at, &self.replicas[index].name, outputs.len(), bound);
        }
        for output in outputs {
            if self.replicas[index].life != life || self.replicas[index].control.is_none() {
                return;
            }
            self.server_does(index, life, output);
            self.count_server_down(index);
        }
        let replica = &mut self.replicas[index];
        if replica.draining && replica.control.as_ref().is_some_and(control::Control::is_drained) {
            return self.restart_replica(index, "has drained", false);
        }
        self.arm_replica(index);
    }

    fn count_server_down(&mut self, index: usize) {
        let Some(left) = &mut self.replicas[index].crash_after else { return };
        *left = left.saturating_sub(1);
        if *left == 0 {
            let silently = self.dice.chaos.chance(300);
            self.restart_replica(index, "crashes", silently);
        }
    }

    /// The process ends and comes back.
    pub(super) fn restart_replica(&mut self, index: usize, how: &str, silently: bool) {
        let name = &self.replicas[index].name;
        self.trace.event(self.at, "stop server", index as u64, &[]);
        self.trace.tell(self.at, || format!("{name} {how}"));
        self.stop_replica(index, silently);
        let down = self.dice.chaos.millis(50, 20_000);
        let life = self.replicas[index].life;
        self.soon(down, Happening::Start { who: Who::Replica(index), life });
    }

    fn arm_replica(&mut self, index: usize) {
        let replica = &mut self.replicas[index];
        let deadline = replica.control.as_ref().and_then(control::Control::poll_timeout);
        let at = deadline.map(|deadline| replica.clock.when(deadline.at).max(self.at));
        if at == replica.timer.at && at.is_some() {
            return;
        }
        replica.timer.stamp += 1;
        replica.timer.at = at;
        let stamp = replica.timer.stamp;
        if let Some(at) = at {
            self.queue.at(at, Happening::Wake { who: Who::Replica(index), stamp });
        }
    }

    fn server_does(&mut self, index: usize, life: u64, output: Output) {
        match output {
            Output::Send { link, frame } => self.server_sends(index, link, &frame),
            Output::Close { link } => {
                self.send(link, Way::Down, Item::End);
                if let Some(link) = self.links.get_mut(&link) {
                    link.server = None;
                }
                self.sweep(link);
            }
            Output::Commit(commit) => self.ask(index, life, Call::Commit(commit)),
            Output::Refresh { tenant, since } => self.ask(index, life, Call::Refresh { tenant, since }),
            Output::Poll => self.ask(index, life, Call::Poll),
            Output::Answer { request, result } => self.answered(index, request, result),
            Output::CommandDone { device, done, .. } => self.command_done(device, &done),
            Output::Certify { link, tenant, device, .. } => self.certify(index, link, tenant, device),
            Output::SaveInstalled(rows) => {
                let delay = self.store_delay();
                self.soon(delay, Happening::SaveInstalled { replica: index, life, rows });
            }
            Output::Audit(_)
            | Output::Pass(_)
            | Output::TellSighting(_)
            | Output::SavePresence(_)
            | Output::HubKey(_)
            | Output::NoteLogins { .. }
            | Output::Admit { .. }
            | Output::HubAt { .. }
            | Output::Dismiss { .. } => {}
            Output::Event(event) => self.server_says(index, &event),
        }
    }

    fn ask(&mut self, replica: usize, life: u64, call: Call) {
        let delay = self.store_delay();
        self.soon(delay, Happening::Ask { replica, life, call });
    }

    pub(super) fn store_delay(&mut self) -> Duration {
        let slow = if self.store.ailment.slow { 400 } else { 1 };
        self.dice.store.millis(0, 3) * slow
    }

    fn server_sends(&mut self, index: usize, id: LinkId, frame: &Frame) {
        let name = &self.replicas[index].name;
        self.judge.published(self.at, name, frame);
        let bytes = model::wire::encode(frame);
        self.judge.frame(self.at, name, &bytes);
        self.trace.detail(self.at, || format!("{name} sends {} of {} bytes", frame.name(), bytes.len()));
        let Some(link) = self.links.get_mut(&id) else { return };
        link.unwritten += 1;
        link.written_at = link.written_at.max(self.at) + link.writes_in;
        let at = link.written_at;
        self.queue.at(at, Happening::Written { link: id });
        self.send(id, Way::Down, Item::Frame(bytes));
    }

    pub(super) fn asked(&mut self, replica: usize, life: u64, call: Call) {
        let input = match call {
            Call::Load => match self.store.load() {
                Ok((loaded, anchors)) => Input::Loaded { loaded, anchors },
                Err(_) if self.replicas[replica].life != life => return,
                Err(_) => {
                    return self.soon(LOAD_RETRY, Happening::Ask { replica, life, call: Call::Load });
                }
            },
            Call::Commit(commit) => {
                let result = self.commit(&commit);
                Input::Committed { commit: commit.id, result }
            }
            Call::Refresh { tenant, since } => match self.store.refresh(tenant, since) {
                Ok((refresh, anchor)) => Input::Refreshed { tenant, result: Ok(refresh), anchor },
                Err(reason) => Input::Refreshed { tenant, result: Err(reason), anchor: None },
            },
            Call::Poll => Input::Polled(self.store.standings()),
        };
        let delay = self.store_delay();
        self.soon(delay, Happening::Answer { replica, life, input: Box::new(input) });
    }

    fn commit(&mut self, commit: &Commit) -> Result<(), CommitError> {
        let before = self.store.tenant(commit.tenant).map(|stored| stored.rows.clone());
        let result = self.store.commit(commit, self.at);
        let outcome = result.as_ref().map_or_else(ToString::to_string, |()| "done".to_owned());
        let (action, version) = (&commit.audit.action, commit.result());
        let text = format!("{action} {} makes {version}: {outcome}", commit.audit.target);
        self.trace.event(self.at, "commit", 0, text.as_bytes());
        self.trace.tell(self.at, || format!("store: {text}"));
        result?;
        self.judge.committed(self.at, commit, before.as_ref());
        self.store.ssh.follow(commit, self.at);
        if let Some(before) = &before {
            self.judge_ssh(commit, before);
        }
        if let Some(stored) = self.store.tenant(commit.tenant) {
            self.judge.rows(self.at, commit, &stored.rows);
        }
        let Ailment { answers_lost_per_mille, .. } = self.store.ailment;
        if self.dice.store.chance(answers_lost_per_mille) {
            self.trace.tell(self.at, || "store: the answer is lost".to_owned());
            return Err(CommitError::Unavailable("connection reset by peer".into()));
        }
        self.spread_rumour();
        Ok(())
    }

    /// Servers hear that one of them wrote, itself too; some words are lost.
    fn spread_rumour(&mut self) {
        if self.replicas.len() == 1 {
            return;
        }
        for replica in 0..self.replicas.len() {
            let delay = self.store_delay();
            if !self.dice.store.chance(RUMOURS_LOST_PER_MILLE) {
                let (life, input) = (self.replicas[replica].life, Box::new(Input::Rumoured));
                self.soon(delay, Happening::Answer { replica, life, input });
            }
        }
    }

    fn server_says(&mut self, index: usize, event: &Event) {
        let name = self.replicas[index].name.clone();
        match event {
            Event::DirectoryWithheld { tenant, reason } => {
                let detail = format!("{name} withholds {tenant}: {reason}");
                self.judge.accuse(self.at, "rows-are-complete", detail);
            }
            Event::NodeForked { node, version, .. } => {
                let detail = format!("{name}: node {node} holds {version} with other contents");
                self.judge.accuse(self.at, "generations-never-fork", detail);
            }
            _ => {}
        }
        let told = matches!(
            event,
            Event::NodeAhead { .. }
                | Event::StoreUnavailable { .. }
                | Event::StoreBehind { .. }
                | Event::TenantLost { .. }
                | Event::LinkRefused { .. }
                | Event::ResyncAsked { .. }
                | Event::HoldingOverdue { .. }
                | Event::IdentityCloned { .. }
        );
        let line = || format!("{name}: {event:?}");
        if told { self.trace.tell(self.at, line) } else { self.trace.detail(self.at, line) }
    }
}
