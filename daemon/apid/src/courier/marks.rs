//! What was sent to whom lately, so that a look at the queue asks only for devices with something to send. Knows no
//! database and no link but by its id.

use std::collections::BTreeMap;
use std::time::Duration;

use control::LinkId;
use model::DeviceId;
use model::id::CommandId;
use store::WaitingDevice;
use tokio::time::Instant;

/// A device that did not answer is told again after this: its program may have begun anew.
pub(super) const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// What was sent by which link, and how a device's queue was when it was read.
#[derive(Debug, Default)]
pub(super) struct Marks {
    sent: BTreeMap<CommandId, (LinkId, Instant)>,
    read: BTreeMap<DeviceId, Read>,
}

/// A device's queue when it was read, and until when nothing of it is sent again.
#[derive(Debug)]
struct Read {
    link: LinkId,
    newest: CommandId,
    count: u32,
    until: Instant,
}

impl Marks {
    /// What is older than [`AGAIN_AFTER`] counts no more.
    pub(super) fn forget(&mut self, now: Instant) {
        self.sent.retain(|_, (_, at)| now < *at + AGAIN_AFTER);
        self.read.retain(|_, read| now < read.until);
    }

    /// Whether the device's queue has to be read: it is another, goes by another link, or something of it is due again.
    pub(super) fn is_due(&self, waiting: &WaitingDevice, link: LinkId) -> bool {
        self.read
            .get(&waiting.device)
            .is_none_or(|read| (read.link, read.newest, read.count) != (link, waiting.newest, waiting.count))
    }

    /// Whether the command is to be sent by this link now.
    pub(super) fn is_unsent(&self, id: CommandId, link: LinkId) -> bool {
        self.sent.get(&id).is_none_or(|(by, _)| *by != link)
    }

    /// It was sent.
    pub(super) fn sent(&mut self, id: CommandId, link: LinkId, now: Instant) {
        self.sent.insert(id, (link, now));
    }

    /// All of a device's queue was sent, now or lately.
    pub(super) fn read(&mut self, waiting: &WaitingDevice, link: LinkId, queue: &[CommandId]) {
        let first = queue.iter().filter_map(|id| self.sent.get(id)).map(|(_, at)| *at).min();
        let Some(first) = first else { return };
        let read = Read { link, newest: waiting.newest, count: waiting.count, until: first + AGAIN_AFTER };
        self.read.insert(waiting.device, read);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: DeviceId = DeviceId::from_bytes([1; 16]);

    const fn id(n: u8) -> CommandId {
        CommandId::from_bytes([n; 16])
    }

    const fn waiting(newest: u8, count: u32) -> WaitingDevice {
        WaitingDevice { device: DEVICE, newest: id(newest), count }
    }

    /// Sends a queue as the courier does. Says what was read, and of it sent.
    fn round(marks: &mut Marks, queue: &[u8], link: LinkId, now: Instant) -> Option<Vec<u8>> {
        marks.forget(now);
        let newest = *queue.iter().max().expect("a queue");
        let waiting = waiting(newest, u32::try_from(queue.len()).expect("short"));
        if !marks.is_due(&waiting, link) {
            return None;
        }
        let unsent: Vec<u8> = queue.iter().copied().filter(|n| marks.is_unsent(id(*n), link)).collect();
        unsent.iter().for_each(|n| marks.sent(id(*n), link, now));
        let all: Vec<CommandId> = queue.iter().map(|n| id(*n)).collect();
        marks.read(&waiting, link, &all);
        Some(unsent)
    }

    #[test]
    fn a_queue_that_stays_as_it_is_is_read_once_in_five_seconds() {
        let (mut marks, link) = (Marks::default(), LinkId(1));
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        assert_eq!(round(&mut marks, &[1], link, at(0)), Some(vec![1]));
        let reads = (1..50).filter(|n| round(&mut marks, &[1], link, at(*n)).is_some()).count();
        assert_eq!(reads, 9, "again every five seconds, for it was not answered");
    }

    #[test]
    fn what_is_new_goes_at_once_and_what_is_old_when_its_time_has_come() {
        let (mut marks, link) = (Marks::default(), LinkId(1));
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        assert_eq!(round(&mut marks, &[2], link, at(0)), Some(vec![2]));
        assert_eq!(round(&mut marks, &[2, 3], link, at(3)), Some(vec![3]));
        assert_eq!(round(&mut marks, &[2, 3], link, at(4)), None);
        assert_eq!(
            round(&mut marks, &[2, 3], link, at(5)),
            Some(vec![2]),
            "the first is due, the second not"
        );
        // Of another replica whose clock is behind: its id is not the newest.
        assert_eq!(round(&mut marks, &[1, 2, 3], link, at(6)), Some(vec![1]));
        // One was answered.
        assert_eq!(round(&mut marks, &[1, 3], link, at(7)), Some(vec![]));
        assert_eq!(round(&mut marks, &[1, 3], link, at(7)), None);
    }

    #[test]
    fn a_device_that_came_by_another_link_is_sent_all_again() {
        let (mut marks, now) = (Marks::default(), Instant::now());
        assert_eq!(round(&mut marks, &[1, 2], LinkId(1), now), Some(vec![1, 2]));
        assert_eq!(round(&mut marks, &[1, 2], LinkId(2), now), Some(vec![1, 2]));
        assert_eq!(round(&mut marks, &[1, 2], LinkId(2), now), None);
    }
}
