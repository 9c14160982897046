//! What every path of a server shares: the names, who forwards, what is counted and logged. Knows no socket.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::time::timeout;

use super::Options;
use super::counters::{Code, Counters, Path, Way};
use super::forward::Forward;
use super::limits::{FORWARD_TIME_MAX, FORWARDED_MAX, FORWARDED_PER_SOURCE_MAX};
use super::places::Places;
use super::querylog::{self, QueryLog};
use super::question::{Brief, write_brief};
use crate::answer::{Answer, Transport};
use crate::away::Away;
use crate::limits::UDP_PAYLOAD_BYTES_MAX;
use crate::names::Names;
use crate::rcode::Rcode;

/// What a question gets.
pub(super) enum Told {
    /// This.
    Now(Reply),
    /// What comes of this, in [`FORWARD_TIME_MAX`] at most.
    Later(BoxFuture<'static, Reply>),
    /// Nothing: it was none.
    Nothing,
}

/// A whole message, without the length that TCP puts in front.
pub(super) struct Reply {
    pub(super) bytes: Vec<u8>,
    pub(super) code: Code,
    pub(super) path: Path,
}

/// Shared by the threads and tasks of a server.
pub(super) struct Answerer {
    pub(super) names: Arc<Names>,
    pub(super) counters: Arc<Counters>,
    pub(super) log: QueryLog,
    forward: RwLock<Option<Arc<dyn Forward>>>,
    forwarded: Arc<Places>,
}

impl fmt::Debug for Answerer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answerer").field("names", &self.names).finish_non_exhaustive()
    }
}

impl Answerer {
    pub(super) fn new(names: Arc<Names>, options: &Options) -> Self {
        Self {
            names,
            counters: Arc::default(),
            log: QueryLog::new(options.log_sample),
            forward: RwLock::default(),
            forwarded: Places::new(FORWARDED_MAX, FORWARDED_PER_SOURCE_MAX),
        }
    }

    pub(super) fn set_forward(&self, forward: Arc<dyn Forward>) {
        *self.forward.write().unwrap_or_else(PoisonError::into_inner) = Some(forward);
        self.names.hand_over_aliases();
    }

    /// What a forwarder has at hand for the query in the first `length` bytes, written over it.
    pub(super) fn cached(&self, buffer: &mut [u8], length: usize, asker: IpAddr) -> Option<usize> {
        let forward = self.forward.read().unwrap_or_else(PoisonError::into_inner);
        forward.as_ref().filter(|forward| forward.serves(asker))?.cached(buffer, length)
    }

    /// Answers a question by the slow path, or has it forwarded.
    pub(super) fn ask(&self, query: &[u8], asker: IpAddr, transport: Transport) -> Told {
        match self.names.answer(query, asker, transport) {
            Answer::Reply { bytes, code } => Told::Now(Reply { bytes, code: code.into(), path: Path::Slow }),
            Answer::Foreign { refusal } => self.forward(query, refusal, asker, transport),
            Answer::Away(away) => self.complete(query, away, asker),
            Answer::Drop => Told::Nothing,
        }
    }

    fn forward(&self, query: &[u8], refusal: Vec<u8>, asker: IpAddr, transport: Transport) -> Told {
        let refused = |path| Reply { bytes: refusal, code: Rcode::Refused.into(), path };
        let Some(forward) = self.forwarder(asker) else { return Told::Now(refused(Path::Slow)) };
        let Some(place) = self.forwarded.take(asker) else { return self.crowded(query) };
        let query = query.to_vec();
        Told::Later(
            async move {
                let _place = place;
                let answer = timeout(FORWARD_TIME_MAX, forward.forward(query.clone(), transport)).await;
                match answer {
                    Ok(Some(bytes)) if transport == Transport::Tcp || fits(&bytes) => forwarded(bytes),
                    Ok(Some(_)) => forwarded(brief(query, Brief::ByTcp)),
                    Ok(None) => refused(Path::Forwarded),
                    Err(_) => forwarded(brief(query, Brief::Failed)),
                }
            }
            .boxed(),
        )
    }

    /// Has it looked up where aliases lead to. They are given alone where nobody is to be asked.
    fn complete(&self, query: &[u8], away: Away, asker: IpAddr) -> Told {
        let bare = |away: Away, path| Reply { bytes: away.into_bare(), code: Rcode::NoError.into(), path };
        let Some(forward) = self.forwarder(asker) else { return Told::Now(bare(away, Path::Slow)) };
        let Some(place) = self.forwarded.take(asker) else { return self.crowded(query) };
        Told::Later(
            async move {
                let _place = place;
                // Whole: it is cut, if at all, with what stands before it.
                let answer = forward.forward(away.question().to_vec(), Transport::Tcp);
                match timeout(FORWARD_TIME_MAX, answer).await {
                    Ok(Some(bytes)) => forwarded(away.complete(&bytes)),
                    Ok(None) => bare(away, Path::Forwarded),
                    Err(_) => forwarded(away.fail()),
                }
            }
            .boxed(),
        )
    }

    /// Who forwards for this asker, if anybody does.
    fn forwarder(&self, asker: IpAddr) -> Option<Arc<dyn Forward>> {
        let forward = self.forward.read().unwrap_or_else(PoisonError::into_inner).clone();
        forward.filter(|forward| forward.serves(asker))
    }

    /// What a question gets for which there is no room: SERVFAIL at once, so that the asker tries elsewhere.
    pub(super) fn crowded(&self, query: &[u8]) -> Told {
        self.counters.count_crowded();
        let (bytes, code) = (brief(query.to_vec(), Brief::Failed), Rcode::ServFail.into());
        if bytes.is_empty() { Told::Nothing } else { Told::Now(Reply { bytes, code, path: Path::Slow }) }
    }

    /// Counts an answer that was not part of a batch, and logs it if it is drawn. `message` is it, or its query.
    pub(super) fn note(&self, asker: SocketAddr, way: Way, code: Code, message: &[u8], took: Duration) {
        self.counters.count_answer(way, code, took);
        if self.log.draws() {
            querylog::write(asker, message, code, way, took);
        }
    }
}

fn fits(answer: &[u8]) -> bool {
    answer.len() <= UDP_PAYLOAD_BYTES_MAX.into()
}

fn forwarded(bytes: Vec<u8>) -> Reply {
    Reply { code: Code::of_message(&bytes), bytes, path: Path::Forwarded }
}

/// An answer without a record, made of the query; empty if that is none.
fn brief(mut query: Vec<u8>, brief: Brief) -> Vec<u8> {
    let length = query.len();
    let written = write_brief(&mut query, length, brief);
    query.truncate(written.unwrap_or(0));
    query
}
