//! Devices of many tenants: some tenants have one pair, the others a hundred devices each.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lab::wait_for;
use link::https::Method;
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, mpsc};

use super::device::{self, Device};
use crate::report::say;
use crate::server::Apid;

/// Tenants of two devices, which edits take in turns.
pub const PAIRS: u32 = 10;
/// Devices of any other tenant.
const TENANT_DEVICES: u32 = 100;
/// Devices that enrol at the same time.
const ENROLLING_MAX: usize = 128;
/// All of them are there by then, on a slow machine too.
const PATIENCE: Duration = Duration::from_secs(900);

/// A device holds a snapshot.
#[derive(Debug, Clone, Copy)]
pub struct News {
    pub device: u32,
    pub at: Instant,
}

/// What all devices count.
#[derive(Debug, Default)]
pub struct Fleet {
    links: Mutex<Links>,
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct Links {
    /// Counts what was done to the server.
    round: u64,
    /// That hold, since whenever.
    all: usize,
    /// Of those, the ones that began in this round. A device has one at a time.
    of_round: usize,
}

/// One attached device, and in which round it attached.
#[derive(Debug)]
pub struct Up(Arc<Fleet>, u64);

impl Drop for Up {
    fn drop(&mut self) {
        let mut links = self.0.links();
        links.all -= 1;
        if links.round == self.1 {
            links.of_round -= 1;
        }
    }
}

impl Fleet {
    /// One more is attached.
    pub fn up(self: &Arc<Self>) -> Up {
        let mut links = self.links();
        links.all += 1;
        links.of_round += 1;
        Up(self.clone(), links.round)
    }

    /// From now on a device is back when it attached anew: one that has not noticed yet is not.
    pub fn begin_round(&self) {
        let mut links = self.links();
        links.round += 1;
        links.of_round = 0;
    }

    /// Devices that attached since the round began, and still are.
    pub fn back(&self) -> usize {
        self.links().of_round
    }

    fn links(&self) -> MutexGuard<'_, Links> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One was told no.
    pub fn refused(&self, why: &str) {
        if self.refused.fetch_add(1, Relaxed) == 0 {
            say(&format!("a device was refused: {why}\n"));
        }
    }

    /// Devices that are attached.
    pub fn attached(&self) -> usize {
        self.links().all
    }

    /// How often a device was told no: a person sees that.
    pub fn refusals(&self) -> u64 {
        self.refused.load(Relaxed)
    }
}

/// All devices of one server, and its hub.
pub struct Population<'a> {
    runtime: &'a Runtime,
    pub fleet: Arc<Fleet>,
    enrolling: Arc<Semaphore>,
    news: mpsc::UnboundedSender<News>,
    heard: mpsc::UnboundedReceiver<News>,
    devices: u32,
    tenants: u32,
}

impl<'a> Population<'a> {
    /// A hub and nobody else.
    pub fn new(runtime: &'a Runtime, apid: &Apid) -> Self {
        runtime.spawn(device::hub(apid.socket()));
        let (news, heard) = mpsc::unbounded_channel();
        let enrolling = Arc::new(Semaphore::new(ENROLLING_MAX));
        Self { runtime, fleet: Arc::default(), enrolling, news, heard, devices: 0, tenants: 0 }
    }

    /// Enrols devices until there are so many, and waits until all are attached.
    pub fn grow(&mut self, apid: &Apid, devices: u32) {
        while self.devices < devices {
            let is_pair = self.tenants < PAIRS;
            let size = if is_pair { 2 } else { TENANT_DEVICES.min(devices - self.devices) };
            self.add_tenant(apid, size, is_pair);
        }
        let all = devices as usize;
        wait_for("all devices are attached", PATIENCE, || self.fleet.attached() == all);
    }

    fn add_tenant(&mut self, apid: &Apid, size: u32, tells: bool) {
        let name = tenant(self.tenants);
        let block = format!("10.{}.0.0/16", self.tenants);
        self.tenants += 1;
        let token = self.runtime.block_on(async {
            apid.ask(Method::POST, "/api/v1/tenants", &json!({"name": name, "block_v4": block})).await;
            apid.token_of(&name, size as usize).await
        });
        let token = Arc::new(token.parse().expect("a token"));
        for _ in 0..size {
            let turn = self.runtime.block_on(self.enrolling.clone().acquire_owned());
            let turn = turn.expect("it is never closed");
            let news = tells.then(|| self.news.clone());
            let device = Device::new(self.devices, Arc::clone(&token), Arc::clone(&self.fleet), turn, news);
            self.runtime.spawn(device.live());
            self.devices += 1;
        }
    }

    /// Makes an edit of a pair's tenant, and says when each of the two came to hold it.
    pub fn edit_pair(&mut self, apid: &Apid, pair: u32, path: &str, form: &serde_json::Value) -> Edited {
        while self.heard.try_recv().is_ok() {}
        let path = format!("{path}?tenant={}", tenant(pair));
        let begun = Instant::now();
        let heard = &mut self.heard;
        let (answered, held) = self.runtime.block_on(async {
            let answer = async {
                apid.ask(Method::POST, &path, form).await;
                Instant::now()
            };
            let both = async {
                let mut held: BTreeMap<u32, Instant> = BTreeMap::new();
                while held.len() < 2 {
                    let news =
                        tokio::time::timeout(PATIENCE, heard.recv()).await.expect("devices hear of edits");
                    let News { device, at, .. } = news.expect("devices live for ever");
                    if device / 2 == pair {
                        held.insert(device, at);
                    }
                }
                held.into_values().max().expect("two")
            };
            tokio::join!(answer, both)
        });
        Edited { answered: answered - begun, in_force: held - begun }
    }
}

/// How long an edit took.
#[derive(Debug, Clone, Copy)]
pub struct Edited {
    pub answered: Duration,
    pub in_force: Duration,
}

fn tenant(number: u32) -> String {
    format!("t{number}")
}
