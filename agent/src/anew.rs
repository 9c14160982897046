//! The program begins anew, in place of itself: the same process, so that a service manager sees no end. Knows no link.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use host::drive::Restart;
use model::id::CommandId;
use tokio::sync::watch;

/// Tells the program that begins which device command it began for.
const DONE: &str = "WARREN_RESTARTED_FOR";
/// What Linux appends to the path of a program that was replaced on the disk (proc(5)).
const REPLACED: &str = " (deleted)";

/// Who is told that the program is to begin anew, and because of what it began.
pub fn restart() -> (Restart, watch::Receiver<Option<CommandId>>) {
    let done = std::env::var(DONE).ok().and_then(|id| id.parse().ok());
    let (asked, wished) = watch::channel(None);
    (Restart { asked, done }, wished)
}

/// The command that wants the program to begin anew, once there is one.
pub async fn wished(wishes: &mut watch::Receiver<Option<CommandId>>) -> CommandId {
    match wishes.wait_for(Option::is_some).await.map(|command| *command) {
        Ok(Some(command)) => command,
        // Nobody could wish any more: every profile ended.
        Ok(None) | Err(_) => std::future::pending().await,
    }
}

/// Becomes the program that is on the disk now, with the same arguments. Returns only if that fails.
pub fn begin(command: CommandId) -> std::io::Error {
    let program = std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
    let program = match program.to_str().and_then(|path| path.strip_suffix(REPLACED)) {
        Some(path) => PathBuf::from(path),
        None => program,
    };
    Command::new(program).args(std::env::args_os().skip(1)).env(DONE, command.to_string()).exec()
}
