//! One edit that affects one pair, among a thousand devices and among ten thousand: when it is in force, what the server does for
//! it, what the devices that nothing happens to cost.

use std::time::Duration;

use lab::{SOON, wait_for};
use serde_json::json;

use super::fleet::{PAIRS, Population};
use super::work::Work;
use crate::series::{Bound, Series, Unit};
use crate::server::{Apid, alone};
use crate::usage::{memory, milliseconds, process_cpu};

/// How much is measured.
#[derive(Debug)]
pub struct Scale {
    /// How many devices there are, and how soon an edit must be in force then, in milliseconds.
    stages: &'static [(u32, f64)],
    edits: u32,
    idle: Duration,
}

/// As promised.
pub const FULL: Scale =
    Scale { stages: &[(1_000, 300.0), (10_000, 1_000.0)], edits: 500, idle: Duration::from_secs(20) };
/// To see that it works.
pub const CHECK: Scale =
    Scale { stages: &[(25, 300.0), (50, 1_000.0)], edits: 10, idle: Duration::from_secs(1) };

/// Of the server for each device that holds a link.
const DEVICE_BYTES_MAX: f64 = 40_000.0;
/// The pair's two and the hub's.
const NODES_OF_PAIR: f64 = 3.0;
/// Edits before the first that counts.
const WARM_UP_EDITS: u32 = 20;

/// Edits again and again, each when the one before is in force.
pub fn measure(scale: &'static Scale) -> Vec<Series> {
    alone(move |runtime, apid| {
        let mut population = Population::new(runtime, &apid);
        population.grow(&apid, 2 * PAIRS);
        let empty = memory(apid.id()).resident;
        let stages = scale.stages.iter().flat_map(|&(devices, bound)| {
            population.grow(&apid, devices);
            let mut series = stage(scale, &apid, &mut population, devices, bound);
            let grown = memory(apid.id()).resident - empty;
            let each = grown * 1024.0 * 1024.0 / f64::from(devices - 2 * PAIRS);
            let bound = Bound::AllBelow(DEVICE_BYTES_MAX);
            let what = format!("{devices} devices: memory of warren-apid for each");
            series.push(Series::one(what, Unit::Bytes, each).must(bound));
            series
        });
        let mut series: Vec<Series> = stages.collect();
        let refused = population.fleet.refusals() as f64;
        series.push(Series::one("devices that were refused", Unit::Count, refused).must(Bound::AllAre(0.0)));
        series
    })
}

fn stage(
    scale: &Scale,
    apid: &Apid,
    population: &mut Population<'_>,
    devices: u32,
    bound: f64,
) -> Vec<Series> {
    let named = |what: &str, unit| Series::new(format!("{devices} devices: {what}"), unit);
    let mut in_force = named("an edit is in force at the pair that it affects", Unit::Milliseconds);
    in_force.bound = Some(Bound::P99Below(bound));
    let mut answered = named("… and is answered", Unit::Milliseconds);
    let mut cpu = named("processor time of warren-apid per edit", Unit::Milliseconds);
    let mut edit = |number: u32| {
        // Each pair gets its record, and in the next round loses it.
        let path = if (number / PAIRS).is_multiple_of(2) { "/api/v1/dns" } else { "/api/v1/dns/remove" };
        let record = json!({"name": "printer", "type": "A", "value": "192.0.2.7"});
        population.edit_pair(apid, number % PAIRS, path, &record)
    };
    // As many rounds as make every record gone again.
    let rounds = |edits: u32| edits.next_multiple_of(2 * PAIRS);
    (0..rounds(WARM_UP_EDITS)).for_each(|number| _ = edit(number));
    let before = Work::now();
    for number in 0..rounds(scale.edits) {
        let used = process_cpu(apid.id());
        let edited = edit(number);
        in_force.push(milliseconds(edited.in_force));
        answered.push(milliseconds(edited.answered));
        cpu.push(milliseconds(process_cpu(apid.id()) - used));
    }
    let after = Work::now();
    let each = |before: f64, after: f64| (after - before) / f64::from(rounds(scale.edits));
    let count =
        |what: &str, value: f64| Series::one(format!("{devices} devices: {what}"), Unit::Count, value);
    let exactly = Bound::AllAre(NODES_OF_PAIR);
    vec![
        in_force,
        answered,
        cpu,
        count("plans looked at per edit", each(before.planned, after.planned)),
        count("entries of plans changed per edit", each(before.touched, after.touched)),
        count("stamps signed per edit", each(before.signed, after.signed)).must(exactly),
        count("snapshots sent per edit", each(before.sent, after.sent)).must(exactly),
        idle(scale, apid, devices),
    ]
}

/// What the server does for devices to which nothing happens.
fn idle(scale: &Scale, apid: &Apid, devices: u32) -> Series {
    let since = std::time::Instant::now();
    let used = process_cpu(apid.id());
    wait_for("idle time", scale.idle + SOON, || since.elapsed() >= scale.idle);
    let cpu = milliseconds(process_cpu(apid.id()) - used) / since.elapsed().as_secs_f64();
    let what = format!("{devices} devices: processor time of warren-apid in an idle second");
    Series::one(what, Unit::Milliseconds, cpu)
}
