//! The life of a link: when to dial, whom to trust, when to hang up. Knows no snapshot and no host.
//!
//! ```text
//!  Idle ─▶ Dialing ─▶ Greeting ─▶ Proving ─▶ Claiming ─▶ Attached
//!            ▲  │         │           │           │          │
//!            │  └─────────┴────┬──────┴───────────┴──────────┘ LinkDown, or Hangup ─▶ Closing
//!            └── Waiting ◀─────┴──────────────────────────────────────────────────────────┘
//! ```

use std::time::Duration;

use model::limits::{HANDSHAKE_TIME_MAX, LINK_ANSWER_MAX, LINK_SILENCE_MAX};
use model::time::Deadline;
use model::wire::{Channel, Frame, Hello, Remark, Transcript, VERSION, Welcome};
use model::{AnchorKey, Fingerprint, Mono, Nonce, PublicKey};
use rand_core::Rng as _;

use crate::backoff::{Backoff, Schedule, fraction};
use crate::config::Role;
use crate::event::Event;
use crate::output::Output;
use crate::status::LinkState;
use crate::turn::Turn;

/// After a link that broke or could not be made. All of it is chance: a thousand nodes come back spread out.
const RECONNECTS: Schedule =
    Schedule { first: Duration::from_millis(200), max: Duration::from_secs(30), full_jitter: true };
/// After a dial that nobody took where the server is on the same machine: one more costs nothing, and who enrols meanwhile waits for
/// it.
const DIALS_BESIDE: Schedule = Schedule { max: Duration::from_secs(2), ..RECONNECTS };
/// After a server that says no, or that is not to be trusted: only a person can mend that.
const REFUSALS: Schedule =
    Schedule { first: Duration::from_secs(5), max: Duration::from_secs(600), full_jitter: false };
/// After a revocation.
const REVOKED_WAIT: Duration = Duration::from_secs(3600);
/// A revoked device hears that long whether there is more, and tells that it knows.
const REVOKED_LINGER: Duration = Duration::from_secs(30);
/// The shell tries several carriers with deadlines of their own.
const DIAL_TIME_MAX: Duration = Duration::from_secs(60);
/// A shell that does not say that a link is down is not waited for.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(5);
/// A link that held so long was a good one: the next failure counts as the first.
const STEADY_AFTER: Duration = Duration::from_secs(10);
/// The shortest wait when a server sends a node away, and as much again is chance: no server makes nodes spin.
const RETRY_WAIT_MIN: Duration = Duration::from_secs(1);
/// The longest that a server may send a node away.
const RETRY_WAIT_MAX: Duration = Duration::from_secs(600);
/// The same for one that has not proven the anchor: anybody on the way can say so, and gains no more than by cutting
/// the link.
const RETRY_WAIT_MAX_UNPROVEN: Duration = RECONNECTS.max;
/// Between two dials because the machine moved: a network that comes and goes makes no node spin.
const MOVED_DIAL_INTERVAL: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(crate) struct Session {
    state: State,
    /// After dials that nobody took, where they are counted apart: to try again soon troubles nobody.
    dials: Option<Backoff>,
    reconnects: Backoff,
    refusals: Backoff,
    /// The device is revoked: there is little to say.
    revoked: bool,
    /// When a revoked device hangs up.
    leave_at: Option<Mono>,
    /// What is waited for is a way to the server, which another network may be.
    awaits_way: bool,
    /// When it was or will be dialled last because the machine moved.
    moved_dial_at: Option<Mono>,
}

#[derive(Debug)]
enum State {
    Idle,
    Waiting {
        until: Mono,
    },
    Dialing {
        until: Mono,
    },
    Greeting {
        until: Mono,
        hello: Box<Hello>,
        channel: Channel,
    },
    Proving {
        until: Mono,
        proven: Proven,
    },
    Claiming {
        until: Mono,
        proven: Proven,
    },
    /// `asked_at`: when the server was or will be asked whether it is still there.
    Attached {
        since: Mono,
        heard_at: Mono,
        asked_at: Option<Mono>,
    },
    Closing {
        until: Mono,
        dial_at: Mono,
    },
}

/// What the server's welcome gave, once checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Proven {
    pub(crate) transcript: Transcript,
    pub(crate) ephemeral: PublicKey,
    /// Whose fingerprint the hello named, and whose signature is good. `None` for a hub.
    pub(crate) anchor: Option<AnchorKey>,
}

/// When to dial again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// At once.
    None,
    /// As after any break.
    Reconnect,
    /// As after a refusal.
    Refusal,
    /// As the server says.
    Server(Duration),
}

impl Session {
    pub(crate) const fn new(role: &Role) -> Self {
        let dials = match role {
            Role::Device { .. } => None,
            Role::Hub { .. } => Some(Backoff::new(DIALS_BESIDE)),
        };
        Self {
            state: State::Idle,
            dials,
            reconnects: Backoff::new(RECONNECTS),
            refusals: Backoff::new(REFUSALS),
            revoked: false,
            leave_at: None,
            awaits_way: false,
            moved_dial_at: None,
        }
    }

    /// There is something new to say to the server: dial now, or again.
    pub(crate) fn restart(&mut self, turn: &mut Turn<'_>) {
        self.reconnects.succeed();
        self.refusals.succeed();
        match self.state {
            State::Idle | State::Waiting { .. } => self.dial(turn),
            State::Closing { until, .. } => self.state = State::Closing { until, dial_at: turn.mono() },
            State::Dialing { .. } => {}
            State::Greeting { .. }
            | State::Proving { .. }
            | State::Claiming { .. }
            | State::Attached { .. } => self.hang_up(Wait::None, turn),
        }
    }

    /// The connection is there: introduces the node.
    pub(crate) fn link_up(
        &mut self,
        channel: Channel,
        anchor: Option<Fingerprint>,
        software: Remark,
        turn: &mut Turn<'_>,
    ) {
        match self.state {
            State::Dialing { .. } => {}
            // Too late: it is not wanted any more.
            State::Idle | State::Waiting { .. } => return turn.push(Output::Hangup),
            State::Greeting { .. }
            | State::Proving { .. }
            | State::Claiming { .. }
            | State::Attached { .. }
            | State::Closing { .. } => return,
        }
        self.dials.iter_mut().for_each(Backoff::succeed);
        let mut nonce = [0; 32];
        turn.rng.fill_bytes(&mut nonce);
        let nonce = Nonce::from_bytes(nonce);
        let hello = Hello { version_min: VERSION, version_max: VERSION, nonce, anchor, software };
        turn.push(Output::Send(hello.clone().into()));
        let until = turn.mono() + HANDSHAKE_TIME_MAX;
        self.state = State::Greeting { until, hello: Box::new(hello), channel };
    }

    /// There is no connection any more.
    pub(crate) fn link_down(&mut self, turn: &mut Turn<'_>) {
        let now = turn.mono();
        self.state = match self.state {
            State::Idle | State::Waiting { .. } => return,
            State::Closing { dial_at, .. } => State::Waiting { until: dial_at },
            State::Dialing { .. }
            | State::Greeting { .. }
            | State::Proving { .. }
            | State::Claiming { .. }
            | State::Attached { .. } => State::Waiting { until: now + self.wait(Wait::Reconnect, turn) },
        };
    }

    /// Checks the server's proof.
    ///
    /// # Errors
    /// Why the server is not to be trusted.
    pub(crate) fn take_welcome(&mut self, welcome: &Welcome) -> Result<(), &'static str> {
        let State::Greeting { until, hello, channel } = &self.state else {
            return Err("a welcome that was not waited for");
        };
        if welcome.version != VERSION {
            return Err("it picked a version that was not offered");
        }
        let transcript = Transcript::new(hello, welcome, channel);
        let anchor = match (hello.anchor, welcome.anchor) {
            (None, _) if *channel != Channel::Local => return Err("a hub speaks over a local socket only"),
            (None, _) => None,
            (Some(_), None) => return Err("it proves no anchor"),
            (Some(expected), Some((anchor, _))) if anchor.fingerprint() != expected => {
                return Err("it has another anchor");
            }
            (Some(_), Some((anchor, signature))) => {
                transcript
                    .verify_welcome(&anchor, &signature)
                    .map_err(|_| "its proof of the anchor is bad")?;
                Some(anchor)
            }
        };
        let proven = Proven { transcript, ephemeral: welcome.ephemeral, anchor };
        self.state = State::Proving { until: *until, proven };
        Ok(())
    }

    /// What a claim would be made over now.
    pub(crate) const fn proving(&self) -> Option<Proven> {
        match &self.state {
            State::Proving { proven, .. } => Some(*proven),
            _ => None,
        }
    }

    /// Sends the claim.
    pub(crate) fn claim(&mut self, frame: Frame, turn: &mut Turn<'_>) {
        if let State::Proving { until, proven } = self.state {
            self.state = State::Claiming { until, proven };
            turn.push(Output::Send(frame));
        }
    }

    /// The server took the claim. What it had proven, if a claim was made.
    pub(crate) fn attach(&mut self, turn: &mut Turn<'_>) -> Option<Proven> {
        let State::Claiming { proven, .. } = self.state else { return None };
        let now = turn.mono();
        self.state = State::Attached { since: now, heard_at: now, asked_at: None };
        self.leave_at = self.revoked.then(|| now + REVOKED_LINGER);
        self.refusals.succeed();
        turn.event(Event::Attached);
        Some(proven)
    }

    /// The server lives.
    pub(crate) const fn heard(&mut self, now: Mono) {
        if let State::Attached { heard_at, .. } = &mut self.state {
            *heard_at = now;
        }
    }

    /// The machine is on another network, or woke up: what was begun before may lead nowhere, and what was given up before may not.
    /// Of a link that stands the server [is asked](Self::ask).
    pub(crate) fn moved(&mut self, turn: &mut Turn<'_>) {
        let now = turn.mono();
        let mut dial_at = self.moved_dial_at.map_or(now, |at| (at + MOVED_DIAL_INTERVAL).max(now));
        match &mut self.state {
            State::Idle | State::Attached { .. } => return,
            State::Waiting { until } | State::Closing { dial_at: until, .. } if self.awaits_way => {
                dial_at = dial_at.min(*until);
                *until = dial_at;
            }
            State::Waiting { .. } | State::Closing { .. } => return,
            State::Dialing { .. }
            | State::Greeting { .. }
            | State::Proving { .. }
            | State::Claiming { .. } => {
                self.awaits_way = true;
                self.close(dial_at, turn);
            }
        }
        self.moved_dial_at = Some(dial_at);
    }

    /// The server is asked at that time whether it is still there, unless it is being asked.
    pub(crate) fn ask(&mut self, at: Mono) {
        if let State::Attached { asked_at, .. } = &mut self.state {
            asked_at.get_or_insert(at);
        }
    }

    /// It is asked now if it was to be later: what is sent now is a question as well, and nothing else may be sent for long.
    pub(crate) fn asks_now(&mut self, now: Mono) {
        if let State::Attached { asked_at: Some(at), .. } = &mut self.state {
            *at = now.min(*at);
        }
    }

    /// The server is asked, and has not answered yet.
    pub(crate) const fn is_asking(&self) -> bool {
        matches!(self.state, State::Attached { asked_at: Some(_), .. })
    }

    /// The server answered what it was asked then.
    pub(crate) fn answered(&mut self, sent_at: Mono) {
        if let State::Attached { asked_at, .. } = &mut self.state {
            asked_at.take_if(|at| *at <= sent_at);
        }
    }

    /// Whether frames are exchanged.
    pub(crate) const fn is_open(&self) -> bool {
        matches!(
            self.state,
            State::Greeting { .. } | State::Proving { .. } | State::Claiming { .. } | State::Attached { .. }
        )
    }

    pub(crate) const fn is_dialing(&self) -> bool {
        matches!(self.state, State::Dialing { .. })
    }

    /// Whether a server that proved the anchor was told who the node is, and has not answered.
    pub(crate) const fn is_claiming(&self) -> bool {
        matches!(self.state, State::Claiming { .. })
    }

    pub(crate) const fn is_attached(&self) -> bool {
        matches!(self.state, State::Attached { .. })
    }

    /// Ends the link, whatever its state.
    pub(crate) fn hang_up(&mut self, wait: Wait, turn: &mut Turn<'_>) {
        let now = turn.mono();
        let dial_at = now + self.wait(wait, turn);
        self.state = match self.state {
            State::Idle | State::Waiting { .. } => State::Waiting { until: dial_at },
            State::Closing { until, .. } => State::Closing { until, dial_at },
            State::Dialing { .. }
            | State::Greeting { .. }
            | State::Proving { .. }
            | State::Claiming { .. }
            | State::Attached { .. } => return self.close(dial_at, turn),
        };
    }

    fn close(&mut self, dial_at: Mono, turn: &mut Turn<'_>) {
        turn.push(Output::Hangup);
        self.state = State::Closing { until: turn.mono() + CLOSE_TIME_MAX, dial_at };
    }

    /// Whether the device is revoked: then it leaves once it has said so, and comes back seldom.
    pub(crate) fn set_revoked(&mut self, revoked: bool, now: Mono) {
        self.revoked = revoked;
        self.leave_at = revoked.then(|| self.leave_at.unwrap_or(now + REVOKED_LINGER));
    }

    /// Does what is due. `wanted`: the node has something to say to a server. Says why it gave a server up.
    pub(crate) fn advance(&mut self, wanted: bool, turn: &mut Turn<'_>) -> Option<&'static str> {
        let now = turn.mono();
        if let State::Closing { until, dial_at } = self.state
            && until <= now
        {
            self.state = State::Waiting { until: dial_at };
        }
        match self.state {
            State::Idle if wanted => self.dial(turn),
            State::Waiting { .. } if !wanted => self.state = State::Idle,
            State::Waiting { until } if until <= now => self.dial(turn),
            State::Dialing { until }
            | State::Greeting { until, .. }
            | State::Proving { until, .. }
            | State::Claiming { until, .. }
                if until <= now =>
            {
                self.hang_up(Wait::Reconnect, turn);
                return Some("the server takes too long");
            }
            State::Attached { heard_at, .. } if heard_at + LINK_SILENCE_MAX <= now => {
                self.hang_up(Wait::Reconnect, turn);
                return Some("the server is silent");
            }
            State::Attached { heard_at, asked_at: Some(at), .. }
                if at.max(heard_at) + LINK_ANSWER_MAX <= now =>
            {
                self.hang_up(Wait::None, turn);
                return Some("the server does not answer where this machine is now");
            }
            State::Attached { .. } if self.leave_at.is_some_and(|at| at <= now) => {
                self.leave_at = None;
                self.hang_up(Wait::Reconnect, turn);
            }
            _ => {}
        }
        None
    }

    pub(crate) fn deadline(&self) -> Option<Deadline> {
        let (at, why) = match self.state {
            State::Idle => return None,
            State::Waiting { until } => (until, "dial"),
            State::Dialing { until } => (until, "dialing takes too long"),
            State::Greeting { until, .. } | State::Proving { until, .. } | State::Claiming { until, .. } => {
                (until, "the server takes too long")
            }
            State::Attached { heard_at, asked_at, .. } => {
                let silent = Deadline { at: heard_at + LINK_SILENCE_MAX, why: "the server is silent" };
                let leave = self.leave_at.map(|at| Deadline { at, why: "revoked" });
                let asked = asked_at.map(|at| at.max(heard_at) + LINK_ANSWER_MAX);
                let asked = asked.map(|at| Deadline { at, why: "the server was asked" });
                return leave.into_iter().chain(asked).chain([silent]).min();
            }
            State::Closing { until, .. } => (until, "hang up"),
        };
        Some(Deadline { at, why })
    }

    pub(crate) fn link_state(&self, now: Mono) -> LinkState {
        match self.state {
            State::Idle => LinkState::Idle,
            State::Waiting { until } => LinkState::Waiting(until.since(now)),
            State::Dialing { .. } => LinkState::Dialing,
            State::Greeting { .. } | State::Proving { .. } | State::Claiming { .. } => LinkState::Greeting,
            State::Attached { .. } => LinkState::Attached,
            State::Closing { .. } => LinkState::Closing,
        }
    }

    fn dial(&mut self, turn: &mut Turn<'_>) {
        self.state = State::Dialing { until: turn.mono() + DIAL_TIME_MAX };
        turn.push(Output::Dial);
    }

    fn wait(&mut self, wait: Wait, turn: &mut Turn<'_>) -> Duration {
        if let State::Attached { since, .. } = self.state
            && turn.mono().since(since) >= STEADY_AFTER
        {
            self.reconnects.succeed();
        }
        self.awaits_way = matches!(wait, Wait::None | Wait::Reconnect) && !self.revoked;
        match wait {
            Wait::None => Duration::ZERO,
            Wait::Reconnect | Wait::Refusal if self.revoked => {
                REVOKED_WAIT + fraction(REVOKED_WAIT / 10, turn.rng)
            }
            Wait::Reconnect => {
                let dials = self.dials.as_mut().filter(|_| matches!(self.state, State::Dialing { .. }));
                dials.unwrap_or(&mut self.reconnects).fail(turn.rng)
            }
            Wait::Refusal => self.refusals.fail(turn.rng),
            Wait::Server(duration) => {
                let floor = RETRY_WAIT_MIN + fraction(RETRY_WAIT_MIN, turn.rng);
                let max = if self.is_proven() { RETRY_WAIT_MAX } else { RETRY_WAIT_MAX_UNPROVEN };
                duration.min(max).max(floor).max(self.reconnects.fail(turn.rng))
            }
        }
    }

    /// Whether the server at the other end has proven the anchor, where there is one to prove.
    const fn is_proven(&self) -> bool {
        matches!(self.state, State::Proving { .. } | State::Claiming { .. } | State::Attached { .. })
    }
}
