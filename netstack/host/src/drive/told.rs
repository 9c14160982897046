//! What the engine is told of its host besides what it asks for: which WireGuard there is, what the machine is like, and where it is.

use engine::Input;
use engine::paths::PathInput;
use model::wire::Remark;
use tokio::time::Instant;

use super::Driver;
use crate::facts;
use crate::host::HostReport;

impl Driver {
    /// What is in use now.
    pub(super) fn take_host(&mut self, host: HostReport) {
        let before = std::mem::replace(&mut self.host, host);
        if before.engine() != self.host.engine() || before.steers() != self.host.steers() {
            self.tell_engine();
        }
        if before.guests != self.host.guests {
            self.names.guests(&self.host.guests);
        }
        if before.resolver != self.host.resolver {
            self.names.set_owner(self.host.resolver);
        }
    }

    /// Once in a while; the files are a few hundred bytes of the kernel's memory.
    pub(super) fn tell_facts(&mut self) {
        if self.facts_at.is_none_or(|at| at.elapsed() >= facts::INTERVAL) {
            self.facts_at = Some(Instant::now());
            self.tell(Input::Facts(facts::look()));
        }
    }

    pub(super) fn tell_engine(&mut self) {
        self.tell(Input::Engine(Remark::new(&self.host.engine())));
        self.tell(Input::Steers(self.host.steers()));
    }

    /// The link is looked at before the engine hears that the machine is elsewhere, or that it has other addresses: one of them may
    /// be the link's.
    pub(super) fn take_path(&mut self, input: PathInput) {
        if matches!(input, PathInput::Moved | PathInput::Interfaces(_))
            && let Some(reason) = self.link.moved()
        {
            self.take_link(Input::LinkDown { reason: reason.into() });
        }
        self.tell(Input::Path(input));
    }
}
