//! A WireGuard device as a process, for tests and trials: `wg_device NAME [DIRECTORY]`, then configure it with `wg`.
//!
//! It ends, and its interface with it, when its standard input ends or the interface is deleted.

use std::io::Read as _;
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
    let mut rest = Vec::new();
    let ended = std::io::stdin().lock().read_to_end(&mut rest);
    drop(device);
    if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[allow(clippy::print_stderr)] // A program, not the library.
fn fail(why: &str) -> ExitCode {
    eprintln!("{why}");
    ExitCode::FAILURE
}
