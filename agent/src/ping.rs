//! `warren ping`: echoes to a name or address of the mesh, one answer each.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use model::api::local::{Answer, Pong};
use model::{Code, Refusal};
use stack::Stack;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::echo::Echo;
use crate::lookup::{self, Found};
use crate::profile::Profile;
use crate::reach;
use crate::view;

/// More is a flood, not a question.
const COUNT_MAX: u32 = 1000;
/// Nobody waits longer for one reply.
const PATIENCE_MAX: Duration = Duration::from_secs(60);
/// Where this machine answers for a device that has no interface.
const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// ping(8) lets nobody but root go faster than this.
const INTERVAL: Duration = Duration::from_millis(200);

/// What to ask for.
pub struct Wish {
    /// A name in the zone or a mesh address.
    pub target: String,
    /// How many.
    pub count: u32,
    /// Wait so long for each reply.
    pub patience: Duration,
}

/// Sends echoes one after the other; each has its answer. Ends early when nobody listens any more.
pub async fn run(profile: &Profile, wish: &Wish, answers: &mpsc::Sender<Answer>) -> Result<(), Refusal> {
    if !(1..=COUNT_MAX).contains(&wish.count) {
        return Err(Refusal::new(Code::BadRequest, format!("count is 1 to {COUNT_MAX}")));
    }
    let zone = reach::zone(profile).await?;
    let found = lookup::find(&zone, &wish.target)?;
    let echo = open(profile, &found)?;
    for sequence in 1..=wish.count {
        let next_at = Instant::now() + INTERVAL;
        let pong = send(profile, &echo, &found, sequence, wish.patience.min(PATIENCE_MAX)).await;
        // By which it came: before, the peer may have been idle.
        let pong = Pong { path: view::path(profile, &zone, found.address).await?, ..pong };
        if answers.send(Answer::Pong(pong)).await.is_err() {
            return Ok(());
        }
        if sequence < wish.count {
            sleep_until(next_at).await;
        }
    }
    Ok(())
}

/// What sends echoes: the machine, or the stack that stands for it.
enum Sender<'a> {
    Machine(Echo),
    Stack(&'a Stack),
}

fn open<'a>(profile: &'a Profile, found: &Found) -> Result<Sender<'a>, Refusal> {
    match profile.stack() {
        // Nobody but this device has this address.
        Some(stack) if !stack.addresses().contains(&found.address) => Ok(Sender::Stack(stack)),
        Some(_) => open_echo(LOCALHOST),
        None => open_echo(found.address),
    }
}

fn open_echo<'a>(address: IpAddr) -> Result<Sender<'a>, Refusal> {
    Echo::open(address)
        .map(Sender::Machine)
        .map_err(|error| Refusal::new(Code::HostFailed, format!("no echo to {address}: {error}")))
}

async fn send(
    profile: &Profile,
    echo: &Sender<'_>,
    found: &Found,
    sequence: u32,
    patience: Duration,
) -> Pong {
    // 1 to COUNT_MAX.
    let number = u16::try_from(sequence).unwrap_or(u16::MAX);
    let trip = match echo {
        Sender::Machine(echo) => echo.send(number, patience).await,
        Sender::Stack(stack) => stack.echo(found.address, patience).await,
    };
    let trip = match trip {
        Ok(trip) => trip,
        Err(error) => {
            tracing::debug!(interface = %profile.interface(), address = %found.address, %error, "an echo failed");
            None
        }
    };
    Pong {
        sequence,
        address: found.address,
        name: found.name.clone(),
        round_trip_micros: trip.map(|trip| u64::try_from(trip.as_micros()).unwrap_or(u64::MAX)),
        path: String::new(),
    }
}
