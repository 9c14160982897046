//! The address of an endpoint that has a name, by the machine's resolver. Knows not what it is for.

use std::net::SocketAddr;
use std::time::Duration;

use model::{Endpoint, EndpointHost};
use tokio::net::lookup_host;
use tokio::time::timeout;

/// The machine's resolver tries its servers within this time, or there is no network.
const RESOLVE_TIME_MAX: Duration = Duration::from_secs(10);
/// Names being resolved at once. A node has few endpoints with names; the rest waits its turn.
pub(super) const RESOLVES_MAX: usize = 16;

/// Its first address, with the endpoint itself.
pub(crate) async fn resolve(endpoint: Endpoint) -> (Endpoint, Option<SocketAddr>) {
    let address = match &endpoint.host {
        EndpointHost::Address(ip) => Some(SocketAddr::new(*ip, endpoint.port)),
        EndpointHost::Name(name) => {
            let lookup = timeout(RESOLVE_TIME_MAX, lookup_host((name.to_string(), endpoint.port))).await;
            lookup.ok().and_then(Result::ok).and_then(|mut found| found.next())
        }
    };
    (endpoint, address)
}
