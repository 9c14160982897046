//! Which machine reaches which server now, and which does not, each way for itself.

use std::collections::BTreeMap;

use crate::link::Way;

/// One cut, by its number.
pub type CutId = u64;

struct Cut {
    machines: Vec<usize>,
    replica: usize,
    ways: Vec<Way>,
}

/// All cuts.
#[derive(Default)]
pub struct Paths {
    cuts: BTreeMap<CutId, Cut>,
    last: CutId,
}

impl Paths {
    /// Cuts these machines off one server, one way or both.
    pub fn cut(&mut self, machines: Vec<usize>, replica: usize, ways: Vec<Way>) -> CutId {
        self.last += 1;
        self.cuts.insert(self.last, Cut { machines, replica, ways });
        self.last
    }

    /// Mends one cut.
    pub fn mend(&mut self, id: CutId) {
        self.cuts.remove(&id);
    }

    /// Mends all.
    pub fn mend_all(&mut self) {
        self.cuts.clear();
    }

    /// Whether nothing passes.
    pub fn blocked(&self, machine: usize, replica: usize, way: Way) -> bool {
        let hits =
            |cut: &Cut| cut.replica == replica && cut.ways.contains(&way) && cut.machines.contains(&machine);
        self.cuts.values().any(hits)
    }
}
