//! `warren-agent --restore-resolver`: what an agent that was killed left of the mesh in the machine's resolver is taken
//! away. Starts no node.

use std::process::ExitCode;

use host::resolver;
use shell::service;

use crate::config::Settings;
use crate::profile;
use crate::store::Store;

/// Puts back what every profile changed; one that fails does not hinder the others.
pub fn run(settings: &Settings) -> ExitCode {
    if !settings.state_dir.exists() {
        return ExitCode::SUCCESS;
    }
    let store = match Store::open(&settings.state_dir) {
        Ok(store) => store,
        Err(error) => return service::refuse(&host::chain(&error)),
    };
    let names = match store.names() {
        Ok(names) => names,
        Err(error) => return service::refuse(&host::chain(&error)),
    };
    let mut problems = Vec::new();
    for name in names {
        match store.load(&name) {
            Ok(None) => {}
            Ok(Some(kept)) => {
                let config = profile::resolver(&kept, settings);
                if let Err(error) = resolver::restore(&config, &kept.record.interface, &kept.folder) {
                    problems.push(format!("{name}: {}", host::chain(&error)));
                }
            }
            Err(error) => problems.push(format!("{name}: {}", host::chain(&error))),
        }
    }
    if problems.is_empty() { ExitCode::SUCCESS } else { service::refuse(&problems.join("\nerror: ")) }
}
