//! A thousand wrong logins a second, from one address and from a thousand: what others wait for meanwhile.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use link::https::{Bounds, Method, Request, Server, StatusCode, header, request};
use link::tls::HttpsTrust;
use model::token::SessionToken;
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::series::{Bound, Series, Unit};
use crate::server::{ADDRESS, ADMIN_PASSWORD, Apid, alone};
use crate::usage::{milliseconds, process_cpu};

/// How much is measured.
#[derive(Debug)]
pub struct Scale {
    /// Logins in a second.
    rate: u32,
    time: Duration,
}

/// As promised.
pub const FULL: Scale = Scale { rate: 1_000, time: Duration::from_secs(20) };
/// To see that it works.
pub const CHECK: Scale = Scale { rate: 50, time: Duration::from_secs(2) };

/// What others may wait for.
const OTHERS: Bound = Bound::P99Below(100.0);
/// Of the logins that are wanted, so many are offered and answered: with fewer it is no flood.
const FLOOD_LEAST: f64 = 0.8;
/// Of 100 logins.
const MISSED: Bound = Bound::AllBelow(5.0);
/// Between two pairs of requests of the others: below what one person may ask in a minute.
const PAUSE: Duration = Duration::from_millis(110);
/// Logins are begun so often, some at a time.
const TICK: Duration = Duration::from_millis(10);
/// Logins that are not answered yet: a flood that the server does not take piles up no further.
const UNANSWERED_MAX: usize = 2_000;
/// Addresses of the flood that comes from everywhere.
const ADDRESSES: u64 = 1_000;

/// Who logs in.
#[derive(Debug, Clone, Copy)]
enum From {
    Nobody,
    One,
    Many,
}

/// Others alone, then beside either flood.
pub fn measure(scale: &'static Scale) -> Vec<Series> {
    alone(move |runtime, apid| {
        let floods = [
            ("no login", From::Nobody),
            ("logins from one address", From::One),
            ("logins from a thousand addresses", From::Many),
        ];
        let reader = Arc::new(reader(runtime, &apid));
        let rounds = floods.map(|(what, from)| one_flood(scale, what, from, runtime, &apid, &reader));
        rounds.into_iter().flatten().collect()
    })
}

/// The server over the network, and a person's session with it.
struct Reader {
    server: Server,
    token: String,
}

fn reader(runtime: &Runtime, apid: &Apid) -> Reader {
    runtime.block_on(async {
        let form = json!({"user": "admin", "password": ADMIN_PASSWORD});
        let session = apid.ask(Method::POST, "/api/v1/login", &form).await;
        let token = session["secret"].as_str().expect("a session has a secret").to_owned();
        let secret: SessionToken = token.parse().expect("a session");
        let address = SocketAddr::from(ADDRESS).into();
        let trust = HttpsTrust::Pinned(secret.server);
        Reader { server: Server::Https { address, trust }, token }
    })
}

fn one_flood(
    scale: &Scale,
    what: &str,
    from: From,
    runtime: &Runtime,
    apid: &Apid,
    reader: &Arc<Reader>,
) -> Vec<Series> {
    let mut read = Series::new(format!("{what}: another reads"), Unit::Milliseconds).must(OTHERS);
    let mut write = Series::new(format!("{what}: another edits"), Unit::Milliseconds).must(OTHERS);
    let [answered, missed, begun_logins] = std::array::from_fn(|_| Arc::new(AtomicU64::new(0)));
    let cpu = process_cpu(apid.id());
    let begun = Instant::now();
    runtime.block_on(async {
        let counters =
            Counters { begun: begun_logins.clone(), answered: answered.clone(), missed: missed.clone() };
        let flood = tokio::spawn(flood(scale.rate, from, reader.clone(), counters));
        let mut pause = interval(PAUSE);
        pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut number = 0u32;
        while begun.elapsed() < scale.time {
            pause.tick().await;
            number += 1;
            let record = json!({"name": "printer", "type": "A", "value": "192.0.2.7"});
            let path = if number.is_multiple_of(2) { "/api/v1/dns/remove" } else { "/api/v1/dns" };
            let asked = Instant::now();
            reader.ask(Method::GET, "/api/v1/devices", None).await;
            read.push(milliseconds(asked.elapsed()));
            let asked = Instant::now();
            reader.ask(Method::POST, path, Some(record.to_string())).await;
            write.push(milliseconds(asked.elapsed()));
        }
        flood.abort();
    });
    let seconds = begun.elapsed().as_secs_f64();
    let one = |text: &str, unit, value: f64| Series::one(format!("{what}: {text}"), unit, value);
    let mut series = vec![read, write];
    if !matches!(from, From::Nobody) {
        let (answered, missed) = (answered.load(Relaxed) as f64, missed.load(Relaxed) as f64);
        let offered = begun_logins.load(Relaxed) as f64 + missed;
        let least = Bound::AllAtLeast(f64::from(scale.rate) * FLOOD_LEAST);
        series.push(one("logins offered in a second", Unit::Count, offered / seconds).must(least));
        series.push(one("logins answered in a second", Unit::Count, answered / seconds).must(least));
        let share = 100.0 * missed / offered.max(1.0);
        series.push(one("of 100 logins not begun, for want of an answer", Unit::Count, share).must(MISSED));
    }
    let cpu = milliseconds(process_cpu(apid.id()) - cpu) / seconds;
    series.push(one("processor time of warren-apid in a second", Unit::Milliseconds, cpu));
    series
}

impl Reader {
    /// One request that must succeed.
    async fn ask(&self, method: Method, path: &str, body: Option<String>) {
        let wish = Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(header::CONTENT_TYPE, "application/json")
            .body(body.unwrap_or_default().into_bytes().into())
            .expect("paths of ours are well-formed");
        let answer = request(&self.server, wish, Bounds::default()).await.expect("an answer");
        let text = String::from_utf8_lossy(answer.body());
        assert!(answer.status().is_success(), "{path}: {} {text}", answer.status());
    }

    /// A wrong login from an address, as a proxy tells it. Whether it was refused in order.
    async fn guess(&self, number: u64, address: Ipv4Addr) -> bool {
        let form = json!({"user": "admin", "password": format!("a wrong guess {number}")});
        let wish = Request::builder()
            .method(Method::POST)
            .uri("/api/v1/login")
            .header("x-forwarded-for", address.to_string())
            .header(header::CONTENT_TYPE, "application/json")
            .body(form.to_string().into_bytes().into())
            .expect("paths of ours are well-formed");
        let answer = request(&self.server, wish, Bounds::default()).await;
        let refusals = [StatusCode::UNAUTHORIZED, StatusCode::TOO_MANY_REQUESTS];
        answer.is_ok_and(|answer| refusals.contains(&answer.status()))
    }
}

/// What becomes of logins.
struct Counters {
    begun: Arc<AtomicU64>,
    answered: Arc<AtomicU64>,
    missed: Arc<AtomicU64>,
}

async fn flood(rate: u32, from: From, reader: Arc<Reader>, counters: Counters) {
    if matches!(from, From::Nobody) {
        return std::future::pending().await;
    }
    let each = (f64::from(rate) * TICK.as_secs_f64()).ceil() as u32;
    let mut ticks = interval(TICK);
    // What a busy machine missed is not made up for in a burst.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut under_way = JoinSet::new();
    let mut number = 0;
    loop {
        ticks.tick().await;
        while under_way.try_join_next().is_some() {}
        for _ in 0..each {
            number += 1;
            if under_way.len() >= UNANSWERED_MAX {
                counters.missed.fetch_add(1, Relaxed);
                continue;
            }
            let low = if matches!(from, From::One) { 1 } else { number % ADDRESSES };
            let address = Ipv4Addr::from_bits(0xc633_0000 | u32::try_from(low).expect("a thousand"));
            counters.begun.fetch_add(1, Relaxed);
            let (reader, answered) = (reader.clone(), counters.answered.clone());
            under_way.spawn(async move {
                if reader.guess(number, address).await {
                    answered.fetch_add(1, Relaxed);
                }
            });
        }
    }
}
