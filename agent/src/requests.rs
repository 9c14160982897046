//! What each wish of the socket does. Knows no bytes.

use std::time::{Duration, SystemTime};

use engine::status::LinkState;
use model::api::Problem;
use model::api::local::{Answer, Request};
use model::{Code, Label, Refusal, Timestamp};
use tokio::sync::mpsc;

use crate::profiles::{Profiles, Wish};
use crate::{doctor, netcheck, ping, ssh, told, view};

/// Who waits longer asks again.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// Does what is wished; every answer goes to `answers`.
pub async fn fulfil(profiles: &Profiles, request: Request, answers: &mpsc::Sender<Answer>) {
    let last = match request {
        Request::Ping { profile, target, count, timeout_millis } => {
            let wish = ping::Wish { target, count, patience: Duration::from_millis(timeout_millis) };
            match pinged(profiles, &profile, &wish, answers).await {
                Ok(()) => return,
                Err(refusal) => Err(refusal),
            }
        }
        other => answer(profiles, other).await,
    };
    // Whoever asked may have gone away.
    let _ = answers.send(last.unwrap_or_else(|refusal| refused(&refusal))).await;
}

/// The answer that something is not done.
pub fn refused(refusal: &Refusal) -> Answer {
    Answer::Refused(Problem::new(refusal, ""))
}

async fn pinged(
    profiles: &Profiles,
    name: &Label,
    wish: &ping::Wish,
    answers: &mpsc::Sender<Answer>,
) -> Result<(), Refusal> {
    ping::run(&*profiles.running(name).await?, wish, answers).await
}

async fn answer(profiles: &Profiles, request: Request) -> Result<Answer, Refusal> {
    match request {
        Request::Up { profile, server, token, hostname, timeout_millis } => {
            let wish = Wish {
                server: server.map(|text| parsed("server", &text)).transpose()?,
                token: token.map(|text| parsed("token", &text)).transpose()?,
                hostname,
                patience: Duration::from_millis(timeout_millis).min(WAIT_MAX),
            };
            profiles.up(&profile, wish).await?;
            Ok(Answer::Status(Box::new(view::status(profiles, &profile).await)))
        }
        Request::Down { profile } => profiles.down(&profile).await.map(|()| Answer::Done),
        Request::Status { profile } => Ok(Answer::Status(Box::new(view::status(profiles, &profile).await))),
        Request::WaitSettled { profile, timeout_millis } => {
            wait_settled(profiles, &profile, Duration::from_millis(timeout_millis).min(WAIT_MAX)).await?;
            Ok(Answer::Status(Box::new(view::status(profiles, &profile).await)))
        }
        Request::DoctorDns { profile, name } => {
            let findings = doctor::dns(&*profiles.running(&profile).await?, name.as_deref()).await?;
            Ok(Answer::Findings { findings })
        }
        Request::DoctorPaths { profile } => {
            let findings = netcheck::doctor(&*profiles.running(&profile).await?).await?;
            Ok(Answer::Findings { findings })
        }
        Request::Netcheck { profile } => {
            let checked = netcheck::run(&*profiles.running(&profile).await?).await?;
            Ok(Answer::Netcheck(Box::new(checked)))
        }
        Request::DnsQuery { profile, name, kind } => {
            let told = told::about(&*profiles.running(&profile).await?, &name, kind.as_deref()).await?;
            Ok(Answer::Told(Box::new(told)))
        }
        Request::DoctorSsh { profile } => {
            let findings = ssh::doctor(&*profiles.running(&profile).await?, &profile).await?;
            Ok(Answer::Findings { findings })
        }
        Request::SshKnown { profile, host } => {
            let lines =
                ssh::known_hosts(&*profiles.running(&profile).await?, &profile, &host, wall()).await?;
            Ok(Answer::Known { lines })
        }
        Request::SshTrusted { profile, held } => {
            ssh::trusted(&*profiles.running(&profile).await?, &profile, held.as_ref(), wall()).await
        }
        Request::SshVouch { profile, public_key } => {
            let vouch = profiles.running(&profile).await?.vouch(&public_key, wall()).await?;
            Ok(Answer::Vouched { vouch })
        }
        Request::Logout { profile } => profiles.logout(&profile).await.map(|()| Answer::Done),
        Request::Ping { .. } => unreachable!("answered line by line"),
        Request::Connect { .. } => unreachable!("its socket becomes the connection"),
    }
}

/// Waits until a device takes part; one that will not without somebody's help on this machine is told at once.
async fn wait_settled(profiles: &Profiles, name: &Label, patience: Duration) -> Result<(), Refusal> {
    let profile = profiles.running(name).await?;
    let report = profile
        .wait(patience, |report| match view::state(report) {
            "active" => report.node.settled && report.node.link == LinkState::Attached,
            "revoked" | "down" => true,
            _ => false,
        })
        .await?;
    match (&report.join_refused, view::state(&report)) {
        (Some(refusal), "down") => Err(refusal.clone()),
        (_, "revoked" | "down") => Err(view::inactive(&report)),
        _ => Ok(()),
    }
}

fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

fn parsed<T>(field: &str, text: &str) -> Result<T, Refusal>
where
    T: std::str::FromStr<Err: std::error::Error>,
{
    text.parse().map_err(|error| Refusal::new(Code::BadRequest, format!("{field}: {error}")))
}
