//! Two thousand devices enrol, a hundred to a tenant, and stay attached: each hears of those of its tenant that come after it.

use std::time::Instant;

use super::fleet::Population;
use crate::series::{Bound, Series, Unit};
use crate::server::alone;
use crate::usage::{memory, milliseconds, process_cpu};

/// How much is measured.
#[derive(Debug)]
pub struct Scale {
    devices: u32,
}

/// As promised for one minute.
pub const FULL: Scale = Scale { devices: 2_000 };
/// To see that it works.
pub const CHECK: Scale = Scale { devices: 40 };

const MINUTE: Bound = Bound::AllBelow(60_000.0);

/// Enrols them as fast as it goes, with tenants and tokens.
pub fn measure(scale: &'static Scale) -> Vec<Series> {
    alone(move |runtime, apid| {
        let mut population = Population::new(runtime, &apid);
        let (begun, cpu) = (Instant::now(), process_cpu(apid.id()));
        population.grow(&apid, scale.devices);
        let took = milliseconds(begun.elapsed());
        let cpu = milliseconds(process_cpu(apid.id()) - cpu);
        let what = |what: &str| format!("{} enrolments: {what}", scale.devices);
        let refused = population.fleet.refusals() as f64;
        vec![
            Series::one(what("first to last"), Unit::Milliseconds, took).must(MINUTE),
            Series::one(what("processor time of warren-apid"), Unit::Milliseconds, cpu),
            Series::one(what("memory of warren-apid"), Unit::Megabytes, memory(apid.id()).resident),
            Series::one(what("devices that were refused"), Unit::Count, refused).must(Bound::AllAre(0.0)),
        ]
    })
}
