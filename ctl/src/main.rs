//! `warren`, the one CLI: for a person at a device and for an administrator.
//!
//! It owns nothing: it speaks to the agent's unix socket, to the API over HTTPS, or to the API's own unix socket.

mod admin;
mod agent;
mod args;
mod commands;
mod failure;
mod output;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::Args;
use crate::output::Output;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return failure::of_usage(&error),
    };
    let output = Output::new(args.json, args.quiet);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(commands::run(&args, &output)),
        Err(error) => Err(failure::Failure::bug(format!("the runtime does not start: {error}"))),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(failure) => failure.report(&output),
    }
}
