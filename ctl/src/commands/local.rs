//! What a person does at a device: `warren up|down|status|ping|wait|doctor|logout`.

use std::time::{Duration, Instant};

use model::api::local::{Answer, Netcheck, Peer, Pong, Request, Status};
use model::{Code, Label, Refusal};

use super::confirm;
use crate::agent::{Agent, ask_once};
use crate::args::{Args, Check, Command, Condition, Subject};
use crate::failure::{Exit, Failure};
use crate::output::Output;

/// Echoes of a ping that nobody counted: a direct path is found within a second, and this takes two.
const ECHOES: u32 = 10;
/// The agent asks STUN servers of both families, each question three times if it must.
const CHECK_TIME: Duration = Duration::from_secs(20);
/// One echo while waiting for somebody to become reachable.
const PROBE_TIME: Duration = Duration::from_millis(500);

pub(super) async fn run(args: &Args, output: &Output) -> Result<Exit, Failure> {
    let socket = args.agent_socket.as_path();
    let no_wait = Duration::ZERO;
    match &args.command {
        Command::Up { server, token, hostname, profile, timeout } => {
            let profile = profile.profile.clone();
            let token = token.as_deref().map(read_token).transpose()?;
            let request = Request::Up {
                profile: profile.clone(),
                server: server.clone(),
                token,
                hostname: hostname.clone(),
                timeout_millis: millis_of(*timeout),
            };
            let deadline = Instant::now() + *timeout;
            let status = status_of(ask_once(socket, &request, *timeout).await?)?;
            if status.state == "pending" {
                return Ok(pending(&status, output));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            wait_settled(args, &profile, left, output).await
        }
        Command::Down { profile } => {
            ask_once(socket, &Request::Down { profile: profile.profile.clone() }, no_wait).await?;
            output.say("down; the identity is kept: `warren up` brings it back");
            Ok(Exit::Done)
        }
        Command::Status { profile, check } => {
            let status = status_of(
                ask_once(socket, &Request::Status { profile: profile.profile.clone() }, no_wait).await?,
            )?;
            Ok(match check {
                None => {
                    show(&status, output);
                    Exit::Done
                }
                Some(Check::Live) => Exit::Done,
                Some(Check::Ready) if ready(&status) => Exit::Done,
                Some(Check::Ready) => Exit::Degraded,
            })
        }
        Command::Ping { target, count, timeout, profile } => {
            ping(args, &profile.profile, target, *count, *timeout, output).await
        }
        Command::Wait { condition: Condition::Settled, timeout, profile } => {
            wait_settled(args, &profile.profile, *timeout, output).await
        }
        Command::Wait { condition: Condition::Reachable(name), timeout, profile } => {
            wait_reachable(args, &profile.profile, name, *timeout, output).await
        }
        Command::Doctor { subject, name, profile } => {
            doctor(args, *subject, name.clone(), &profile.profile, output).await
        }
        Command::Netcheck { profile } => netcheck(args, &profile.profile, output).await,
        Command::Logout { profile, yes } => {
            confirm("Forget this device's identity? It must enrol again with a new token.", *yes)?;
            ask_once(socket, &Request::Logout { profile: profile.profile.clone() }, no_wait).await?;
            super::ssh::drop_held(Some(&profile.profile))?;
            output.say("the identity is gone");
            Ok(Exit::Done)
        }
        _ => Err(Failure::bug("this command is not for the agent")),
    }
}

async fn doctor(
    args: &Args,
    subject: Subject,
    name: Option<String>,
    profile: &Label,
    output: &Output,
) -> Result<Exit, Failure> {
    let profile = profile.clone();
    let (request, patience) = match subject {
        Subject::Dns => (Request::DoctorDns { profile, name }, Duration::ZERO),
        Subject::Ssh => (Request::DoctorSsh { profile }, Duration::ZERO),
        Subject::Paths => (Request::DoctorPaths { profile }, CHECK_TIME),
    };
    findings(ask_once(&args.agent_socket, &request, patience).await?, output)
}

async fn netcheck(args: &Args, profile: &Label, output: &Output) -> Result<Exit, Failure> {
    let request = Request::Netcheck { profile: profile.clone() };
    let Answer::Netcheck(checked) = ask_once(&args.agent_socket, &request, CHECK_TIME).await? else {
        return Err(Failure::bug("the agent answered something else"));
    };
    show_network(&checked, output);
    Ok(Exit::Done)
}

fn read_token(token: &str) -> Result<String, Failure> {
    if token != "-" {
        return Ok(token.into());
    }
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .map_err(|e| Failure::usage(format!("no token on standard input: {e}"), "give it with --token"))?;
    Ok(line.trim().into())
}

fn ready(status: &Status) -> bool {
    status.state == "active" && status.settled && status.connected
}

fn status_of(answer: Answer) -> Result<Status, Failure> {
    match answer {
        Answer::Status(status) => Ok(*status),
        other => Err(Failure::bug(format!("the agent answered {other:?}"))),
    }
}

fn pending(status: &Status, output: &Output) -> Exit {
    if output.json() {
        output.json_line(status);
    }
    let name = status.fqdn.as_ref().map_or_else(|| "it".into(), ToString::to_string);
    output.say(format!("enrolled; {name} waits for an administrator: `warren device approve`"));
    Exit::Done
}

async fn wait_settled(
    args: &Args,
    profile: &Label,
    timeout: Duration,
    output: &Output,
) -> Result<Exit, Failure> {
    let request = Request::WaitSettled { profile: profile.clone(), timeout_millis: millis_of(timeout) };
    let status = status_of(ask_once(&args.agent_socket, &request, timeout).await?)?;
    if output.json() {
        output.json_line(&status);
    }
    match status.state.as_str() {
        "active" if ready(&status) => {
            let addresses: Vec<String> = status.addresses.iter().map(ToString::to_string).collect();
            let name = status.fqdn.as_ref().map(ToString::to_string).unwrap_or_default();
            output.say(format!("{name} is up at {} ({})", addresses.join(" and "), status.link));
            Ok(Exit::Done)
        }
        state => {
            let mut detail =
                format!("still {state} after {}: {}", humantime::format_duration(timeout), status.link);
            for problem in &status.problems {
                detail.push_str(&format!("; {problem}"));
            }
            Err(Failure::new(Exit::TimedOut, "timed-out", detail, "see `warren status` and the agent's log"))
        }
    }
}

async fn ping(
    args: &Args,
    profile: &Label,
    target: &str,
    count: Option<u32>,
    timeout: Duration,
    output: &Output,
) -> Result<Exit, Failure> {
    let wish = echo(profile, target, count.unwrap_or(ECHOES), timeout);
    let mut agent = Agent::ask(&args.agent_socket, &wish).await?;
    let mut pongs = Vec::new();
    while let Some(Answer::Pong(pong)) = agent.answer(timeout).await? {
        output.say(match pong.round_trip_micros {
            Some(micros) => {
                format!("{} ({}): {} ms, {}", pong.name, pong.address, millis(micros), pong.path)
            }
            None => format!(
                "{} ({}): no reply in {}",
                pong.name,
                pong.address,
                humantime::format_duration(timeout)
            ),
        });
        let is_enough =
            count.is_none() && pong.round_trip_micros.is_some() && pong.path.starts_with("direct");
        pongs.push(pong);
        if is_enough {
            break;
        }
    }
    if output.json() {
        output.json_line(&model::api::Page::whole(pongs.clone()));
    }
    let replies = pongs.iter().filter(|pong| pong.round_trip_micros.is_some()).count();
    if replies > 0 {
        return Ok(Exit::Done);
    }
    let detail = format!("{target} does not answer");
    Err(Failure::new(
        Exit::Unreachable,
        "no-reply",
        detail,
        "see `warren status` here and `warren device show` for it",
    ))
}

async fn wait_reachable(
    args: &Args,
    profile: &Label,
    name: &str,
    timeout: Duration,
    output: &Output,
) -> Result<Exit, Failure> {
    let end = Instant::now() + timeout;
    loop {
        let started = Instant::now();
        let reply = one_echo(args, profile, name).await;
        match reply {
            Ok(Some(pong)) if pong.round_trip_micros.is_some() => {
                output.say(format!("{} is reachable, {}", pong.name, pong.path));
                if output.json() {
                    output.object(&pong);
                }
                return Ok(Exit::Done);
            }
            // A name that is not there yet and a peer that does not answer yet are both worth waiting for.
            Ok(_) | Err(_) if Instant::now() < end => {
                tokio::time::sleep(PROBE_TIME.saturating_sub(started.elapsed())).await;
            }
            Err(failure) => return Err(failure),
            Ok(_) => {
                let detail = format!("{name} did not answer within {}", humantime::format_duration(timeout));
                return Err(Failure::new(Exit::TimedOut, "timed-out", detail, "see `warren status`"));
            }
        }
    }
}

async fn one_echo(args: &Args, profile: &Label, name: &str) -> Result<Option<Pong>, Failure> {
    let mut agent = Agent::ask(&args.agent_socket, &echo(profile, name, 1, PROBE_TIME)).await?;
    match agent.answer(PROBE_TIME).await? {
        Some(Answer::Pong(pong)) => Ok(Some(pong)),
        _ => Ok(None),
    }
}

fn echo(profile: &Label, target: &str, count: u32, timeout: Duration) -> Request {
    Request::Ping {
        profile: profile.clone(),
        target: target.into(),
        count,
        timeout_millis: millis_of(timeout),
    }
}

fn millis_of(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn millis(micros: u64) -> String {
    format!("{}.{:02}", micros / 1000, micros % 1000 / 10)
}

fn findings(answer: Answer, output: &Output) -> Result<Exit, Failure> {
    let Answer::Findings { findings } = answer else {
        return Err(Refusal::new(Code::Internal, "the agent answered something else").into());
    };
    Ok(super::findings::show(findings, output))
}

fn show_network(checked: &Netcheck, output: &Output) {
    if output.json() {
        return output.json_line(checked);
    }
    let mapped = checked.port_mapping.map_or_else(|| "none".into(), |at| at.to_string());
    let mut facts =
        vec![("IPv4", checked.ipv4.clone()), ("IPv6", checked.ipv6.clone()), ("port mapping", mapped)];
    facts.push(("keepalive", keepalive(checked.keepalive_seconds)));
    for server in &checked.servers {
        facts.push(("asked", server.to_string()));
    }
    for candidate in &checked.candidates {
        facts.push(("reach", format!("{} {}", candidate.address, candidate.kind)));
    }
    for relay in &checked.relays {
        let far =
            relay.round_trip_micros.map_or_else(|| "not measured".into(), |us| format!("{} ms", millis(us)));
        facts.push(("relay", format!("{} {far}{}", relay.name, if relay.is_home { ", home" } else { "" })));
    }
    output.facts(&facts);
}

/// How often the device says something only to stay in reach.
fn keepalive(seconds: Option<u16>) -> String {
    match seconds {
        None => "as the server says, until it is learnt how long it is remembered here".into(),
        Some(0) => "none, as nothing here forgets".into(),
        Some(seconds) => format!("every {seconds} s, as was learnt here"),
    }
}

/// How packets reach a peer, since when, how fast, and why not better.
fn path(peer: &Peer) -> String {
    let mut text = peer.path.clone();
    if let Some(seconds) = peer.path_seconds {
        text.push_str(&format!(" for {}", humantime::format_duration(Duration::from_secs(seconds))));
    }
    if let Some(micros) = peer.round_trip_micros {
        text.push_str(&format!(", {} ms", millis(micros)));
    }
    if let Some(why) = &peer.why_not_direct {
        text.push_str(&format!(", not direct: {why}"));
    }
    text
}

fn show(status: &Status, output: &Output) {
    if output.json() {
        return output.json_line(status);
    }
    let addresses: Vec<String> = status.addresses.iter().map(ToString::to_string).collect();
    let mut facts = vec![
        ("state", status.state.clone()),
        ("name", status.fqdn.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("addresses", addresses.join(" and ")),
        ("server", format!("{} ({})", status.server.as_deref().unwrap_or("none"), status.link)),
        ("interface", status.interface.clone()),
        ("holds", status.holds.clone().unwrap_or_else(|| "nothing yet".into())),
        ("settled", if status.settled { "yes" } else { "no" }.into()),
        ("drift", format!("{} repaired", status.drift_total)),
    ];
    if status.state == "active" {
        facts.push(("keepalive", keepalive(status.keepalive_seconds)));
    }
    facts.extend(status.problems.iter().map(|problem| ("problem", problem.clone())));
    for peer in &status.peers {
        let handshake =
            peer.handshake_at.map_or_else(|| "no handshake yet".into(), |at| format!("handshake {at}"));
        let traffic = format!("{} B in, {} B out", peer.received_bytes, peer.sent_bytes);
        facts.push(("peer", format!("{} {}, {handshake}, {traffic}", peer.name, path(peer))));
    }
    facts.extend(status.names.iter().map(|(name, address)| ("reach", format!("{name} {address}"))));
    output.facts(&facts);
}
