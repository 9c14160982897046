//! From a change that our server holds to the answer that has it, seen by somebody who asks all the time.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use super::dataset::{A, address, label, query};
use super::servers::Server;
use super::warren::now;

const PATIENCE: Duration = Duration::from_secs(2);
/// Of an answer's one record, what stands before its address: name, type, class, TTL, length.
const RECORD_HEAD_BYTES: usize = 12;

/// Milliseconds of each change, sorted.
pub(crate) fn measure(from: Ipv4Addr, server: &mut Server, records: u32, count: u32) -> Vec<f64> {
    let socket = UdpSocket::bind((from, 0)).expect("the address is here");
    socket.connect(server.at).expect("loopback has a route");
    socket.set_read_timeout(Some(PATIENCE)).expect("above zero");
    let (input, output) = server.ends().expect("it is ours");
    let mut output = BufReader::new(output);
    let mut times: Vec<f64> = (0..count)
        .map(|number| {
            let host =
                u32::try_from(u64::from(number) * 7_919 % u64::from(records)).expect("below the count");
            let query = query(&label(host), A);
            let mut change = |to: u32| {
                writeln!(input, "{host} {to}").and_then(|()| input.flush()).expect("it reads");
                let seen = loop {
                    socket.send(&query).expect("it listens");
                    if answered(&socket, query.len()) == Some(address(to)) {
                        break now();
                    }
                };
                let mut line = String::new();
                output.read_line(&mut line).expect("it says when");
                let held: u128 = line.split(' ').next().and_then(|held| held.parse().ok()).expect("a number");
                Duration::from_nanos(u64::try_from(seen.saturating_sub(held)).expect("seconds"))
            };
            let took = change(records + number + 1);
            change(host);
            took.as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times
}

/// The address in the next answer to a query of so many bytes, OPT included.
fn answered(socket: &UdpSocket, query_bytes: usize) -> Option<Ipv4Addr> {
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).expect("it answers");
    // The question is the query without its OPT record of 11 bytes.
    let at = query_bytes - 11 + RECORD_HEAD_BYTES;
    let address: [u8; 4] = answer[..length].get(at..at + 4)?.try_into().ok()?;
    Some(address.into())
}
