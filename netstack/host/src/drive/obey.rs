//! What the loop does for a command of its owner's.

use std::sync::Arc;

use engine::Input;

use super::Driver;
use super::handle::Command;
use crate::hands::Task;

impl Driver {
    pub(super) fn obey(&mut self, command: Command) {
        match command {
            Command::Join { token, hostname, os } => {
                self.join_refused = None;
                self.tell(Input::Join { token: *token, hostname, os });
            }
            Command::Up => self.tell(Input::Up),
            Command::Down => self.tell(Input::Down),
            Command::Look => self.tell(Input::HostChanged),
            Command::Server(server) => {
                if self.link.set_server(server) {
                    self.take_link(Input::LinkDown { reason: "another server was configured".into() });
                }
            }
            Command::Peers(asked) => {
                if self.hands.has_room() {
                    self.hands.give(Task::Peers(asked));
                } else {
                    let _ = asked.send(Err("the node is busy; ask again".into()));
                }
            }
            Command::Zones(asked) => {
                let _ = asked.send(self.node.zones().cloned().collect());
            }
            Command::SshTrust(asked) => {
                let held = self.node.ssh_trust().map(|(version, trust)| (version, trust.clone()));
                let _ = asked.send(held);
            }
            Command::Names(asked) => drop(asked.send(self.names.counters())),
            Command::Lookup(asked) => drop(asked.send(self.names.lookup())),
            Command::Report(asked) => {
                let _ = asked.send(Arc::new(self.report()));
            }
        }
    }
}
