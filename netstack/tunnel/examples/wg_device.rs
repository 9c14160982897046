//! A WireGuard device as a process, for tests and trials: `wg_device NAME [DIRECTORY]`, then configure it with `wg`.
//!
//! A line on its standard input is the key of a peer to begin a handshake with. It ends, and its interface with it,
//! when its standard input ends.

use std::io::BufRead as _;
use std::process::ExitCode;

use tunnel::{Config, Device, UAPI_DIRECTORY};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(name) = arguments.next() else {
        return fail("usage: wg_device NAME [DIRECTORY]");
    };
    let directory = arguments.next().unwrap_or_else(|| UAPI_DIRECTORY.to_owned());
    let config = Config { uapi_directory: Some(directory.into()), ..Config::default() };
    let device = match Device::create(&name, config) {
        Ok(device) => device,
        Err(error) => return fail(&format!("{error}: {:?}", std::error::Error::source(&error))),
    };
    for line in std::io::stdin().lock().lines() {
        let begun = line.ok().and_then(|line| line.parse().ok()).map(|key| device.begin_handshake(&key));
        if begun != Some(true) {
            return fail("no handshake to begin");
        }
    }
    ExitCode::SUCCESS
}

#[allow(clippy::print_stderr)] // A program, not the library.
fn fail(why: &str) -> ExitCode {
    eprintln!("{why}");
    ExitCode::FAILURE
}
