//! Tells that whoever resolves names on this machine may have forgotten what it was told: it was started again, the
//! machine slept, somebody wrote the file. Says "look again", never what to do.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::future::pending;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::time::sleep;
use zbus::message::Type;
use zbus::{Connection, MatchRule, Message, MessageStream};

use super::bus::connect;
use super::{ResolverConfig, ResolverMode, networkmanager, resolved};

/// A bus that is not there may come: at boot, or when it is started again. Looks come anyway now and then.
const BUS_RETRY: Duration = Duration::from_secs(10);
/// A directory that cannot be watched is tried again.
const FILE_RETRY: Duration = Duration::from_secs(60);

const BUS: &str = "org.freedesktop.DBus";
const BUS_PATH: &str = "/org/freedesktop/DBus";
const LOGIN: &str = "org.freedesktop.login1";
const LOGIN_MANAGER: &str = "org.freedesktop.login1.Manager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// Notifies for ever; never where nobody is told.
pub(crate) async fn watch(config: ResolverConfig, changed: Arc<Notify>) -> Infallible {
    if config.mode == ResolverMode::Off {
        pending::<()>().await;
    }
    join(watch_bus(&changed), watch_file(&config.file, &changed)).await.0
}

async fn watch_bus(changed: &Notify) -> Infallible {
    loop {
        // What happened before the subscription, or while there was no bus, is seen by looking.
        if let Err(error) = listen(changed).await {
            tracing::debug!(%error, "the system bus is not listened to");
        }
        sleep(BUS_RETRY).await;
    }
}

async fn listen(changed: &Notify) -> Result<(), zbus::Error> {
    let connection = connect().await.map_err(|error| zbus::Error::Failure(error.to_string()))?;
    let mut messages = MessageStream::from(&connection);
    for rule in rules()? {
        subscribe(&connection, &rule).await?;
    }
    changed.notify_one();
    while let Some(message) = messages.next().await {
        if is_news(&message?) {
            changed.notify_one();
        }
    }
    Ok(())
}

/// Of all that is said on the bus, only this is heard.
fn rules() -> Result<Vec<MatchRule<'static>>, zbus::Error> {
    let signal = |sender| MatchRule::builder().msg_type(Type::Signal).sender(sender);
    let owner_of = |name| signal(BUS).interface(BUS).member("NameOwnerChanged").arg(0, name).build();
    Ok(vec![
        owner_of(resolved::SERVICE)?,
        owner_of(networkmanager::SERVICE)?,
        signal(LOGIN).interface(LOGIN_MANAGER).member("PrepareForSleep").build()?,
        signal(networkmanager::SERVICE).path(networkmanager::DNS_PATH).interface(PROPERTIES).build()?,
    ])
}

async fn subscribe(connection: &Connection, rule: &MatchRule<'_>) -> Result<(), zbus::Error> {
    let rule = rule.to_string();
    connection.call_method(Some(BUS), BUS_PATH, Some(BUS), "AddMatch", &(rule,)).await.map(drop)
}

/// A name that somebody has now, the end of a sleep, other settings of NetworkManager's.
fn is_news(message: &Message) -> bool {
    let header = message.header();
    if header.message_type() != Type::Signal {
        return false;
    }
    let body = message.body();
    match header.member().map(|member| member.as_str().to_owned()).as_deref() {
        Some("NameOwnerChanged") => {
            body.deserialize::<(String, String, String)>().is_ok_and(|(_, _, owner)| !owner.is_empty())
        }
        Some("PrepareForSleep") => body.deserialize::<bool>().is_ok_and(|begins| !begins),
        Some("PropertiesChanged") => true,
        _ => false,
    }
}

/// By its directory (`inotify(7)`): most programs put a new file in the place of the old one.
async fn watch_file(file: &Path, changed: &Notify) -> Infallible {
    loop {
        if let Err(error) = watch_directory(file, changed).await {
            tracing::debug!(%error, file = %file.display(), "the resolver's file is not watched");
        }
        sleep(FILE_RETRY).await;
    }
}

async fn watch_directory(file: &Path, changed: &Notify) -> io::Result<()> {
    let directory = file.parent().unwrap_or(Path::new("/"));
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    let written = AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_DELETE;
    inotify.add_watch(directory, written | AddWatchFlags::IN_ONLYDIR)?;
    #[expect(unsafe_code, reason = "tokio offers no safe constructor")]
    // SAFETY: the value owns its descriptor, keeps it until it is dropped, and is not taken out again.
    let inotify = unsafe { AsyncFd::register(Descriptor(inotify)) }?;
    loop {
        let mut ready = inotify.readable().await?;
        let Ok(events) = ready.try_io(|inotify| Ok(inotify.get_ref().0.read_events()?)) else { continue };
        let name = file.file_name();
        // Without a name: the queue overflowed, or the directory itself is gone.
        if events?.iter().any(|event| event.name.as_deref().is_none_or(|n| Some(OsStr::new(n)) == name)) {
            changed.notify_one();
        }
    }
}

/// tokio asks for a raw descriptor.
struct Descriptor(Inotify);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn the_bus_is_told_what_is_of_interest() {
        let rules: Vec<String> = rules().unwrap().iter().map(ToString::to_string).collect();
        assert!(rules[0].contains("arg0='org.freedesktop.resolve1'"), "{rules:?}");
        assert!(rules.iter().all(|rule| rule.contains("type='signal'") && rule.contains("sender=")));
    }

    #[test]
    fn news_are_a_new_owner_the_end_of_a_sleep_and_other_settings() {
        fn check(member: &str, body: &(impl serde::Serialize + zbus::Type), expect: bool) {
            let signal = Message::signal("/a", "a.b", member.to_owned()).build(body).unwrap();
            assert_eq!(is_news(&signal), expect, "{member}");
        }
        check("NameOwnerChanged", &("a.b", ":1.1", ":1.2"), true);
        check("NameOwnerChanged", &("a.b", ":1.1", ""), false);
        check("PrepareForSleep", &true, false);
        check("PrepareForSleep", &false, true);
        check("PropertiesChanged", &(), true);
        check("NameLost", &(), false);
    }

    #[tokio::test]
    async fn whoever_writes_the_file_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("resolv.conf");
        let changed = Arc::new(Notify::new());
        let (watched, told) = (file.clone(), Arc::clone(&changed));
        let watching = tokio::spawn(async move { watch_directory(&watched, &told).await });
        // The watch is there once it tells of a write; other files are none of its business.
        let mut round = 0;
        while timeout(Duration::from_millis(20), changed.notified()).await.is_err() {
            fs::write(&file, round.to_string()).unwrap();
            round += 1;
        }
        while timeout(Duration::from_millis(200), changed.notified()).await.is_ok() {}
        fs::write(directory.path().join("other"), "x").unwrap();
        assert!(timeout(Duration::from_millis(200), changed.notified()).await.is_err());
        fs::rename(directory.path().join("other"), &file).unwrap();
        timeout(SOON, changed.notified()).await.unwrap();
        watching.abort();
    }
}
