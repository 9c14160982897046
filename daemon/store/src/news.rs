//! Replicas tell each other that they wrote, which devices attached, and what one device says to another that is attached
//! elsewhere: LISTEN and NOTIFY of PostgreSQL. Words may be lost: whoever waits for "look again" looks now and then all the same, and devices say again
//! what is not answered.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use control::{PassedHint, Sighting};
use model::limits::HINT_BYTES_MAX;
use model::{DeviceId, TenantId, Timestamp};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgListener;

use crate::database::Database;
use crate::error::DatabaseError;
use crate::store::Store;

/// The channel of NOTIFY.
const CHANNEL: &str = "warren";
/// The channel of what devices say to each other.
const HINTS_CHANNEL: &str = "warren_hints";
/// The channel of which devices attached.
const SIGHTINGS_CHANNEL: &str = "warren_sightings";
/// A payload must be shorter than 8000 bytes.
const _: () = assert!((3 * 16 + HINT_BYTES_MAX) * 4 / 3 + 4 < 8000, "a hint fits");
/// One message to the server: it needs no transaction of its own, whoever pools sessions.
const NOTIFY: &str = "NOTIFY warren";

impl Store {
    /// Tells other replicas to look again. Not in the transaction that wrote: commits that notify wait for each other, as
    /// they hold a lock of the whole database until they are on disk.
    pub async fn tell_others(&self) -> Result<(), DatabaseError> {
        if let Database::Postgres { pool, .. } = &self.database {
            sqlx::raw_sql(NOTIFY).execute(pool).await?;
        }
        Ok(())
    }

    /// Tells all replicas what a device says to another; none where sessions are shared, as nobody there can listen.
    pub async fn pass(&self, hint: &PassedHint) -> Result<(), DatabaseError> {
        self.say(HINTS_CHANNEL, &to_payload(hint)).await
    }

    /// Tells all replicas that a device attached, as far as [`Self::pass`] tells them anything.
    pub async fn tell_sighting(&self, sighting: &Sighting) -> Result<(), DatabaseError> {
        self.say(SIGHTINGS_CHANNEL, &sighting_to_payload(sighting)).await
    }

    /// The payload is base64: nothing else is between the quotes.
    async fn say(&self, channel: &str, payload: &str) -> Result<(), DatabaseError> {
        if let Database::Postgres { pool, shares_sessions: false, .. } = &self.database {
            let text = format!("NOTIFY {channel}, '{payload}'");
            sqlx::raw_sql(AssertSqlSafe(text)).execute(pool).await?;
        }
        Ok(())
    }

    /// Listens for what others wrote. `None`: there are no others, or sessions are shared and none could listen.
    pub async fn news(&self) -> Result<Option<News>, DatabaseError> {
        let Database::Postgres { aside, shares_sessions: false, .. } = &self.database else {
            return Ok(None);
        };
        let mut listener = PgListener::connect_with(aside).await?;
        // Whoever asks again learns of a connection that broke, and says so.
        listener.eager_reconnect(false);
        listener.listen_all([CHANNEL, HINTS_CHANNEL, SIGHTINGS_CHANNEL]).await?;
        Ok(Some(News { listener }))
    }
}

/// What a replica says.
#[derive(Debug, PartialEq, Eq)]
pub enum Word {
    /// It wrote something.
    Wrote,
    /// What a device says to another.
    Hint(PassedHint),
    /// A device attached there.
    Sighting(Sighting),
}

/// What others say, as long as the connection holds.
#[derive(Debug)]
pub struct News {
    listener: PgListener,
}

impl News {
    /// Waits until somebody says something. Who says it hears of itself, too.
    ///
    /// # Errors
    /// The connection broke: words may have been lost.
    pub async fn next(&mut self) -> Result<Word, DatabaseError> {
        loop {
            let Some(said) = self.listener.try_recv().await? else {
                return Err(sqlx::Error::PoolClosed.into());
            };
            let word = match said.channel() {
                CHANNEL => Some(Word::Wrote),
                HINTS_CHANNEL => from_payload(said.payload()).map(Word::Hint),
                _ => sighting_from_payload(said.payload()).map(Word::Sighting),
            };
            // Of a replica that says it in another way: as good as lost.
            if let Some(word) = word {
                return Ok(word);
            }
        }
    }
}

fn to_payload(hint: &PassedHint) -> String {
    let parts: [&[u8]; 4] = [hint.tenant.as_bytes(), hint.from.as_bytes(), hint.to.as_bytes(), &hint.sealed];
    STANDARD.encode(parts.concat())
}

fn from_payload(text: &str) -> Option<PassedHint> {
    let bytes = STANDARD.decode(text).ok()?;
    let (tenant, rest) = bytes.split_first_chunk()?;
    let (from, rest) = rest.split_first_chunk()?;
    let (to, sealed) = rest.split_first_chunk()?;
    let sealed = (sealed.len() <= HINT_BYTES_MAX).then(|| sealed.to_vec())?;
    let [from, to] = [from, to].map(|id| DeviceId::from_bytes(*id));
    Some(PassedHint { tenant: TenantId::from_bytes(*tenant), from, to, sealed })
}

fn sighting_to_payload(sighting: &Sighting) -> String {
    STANDARD.encode([sighting.device.as_bytes() as &[u8], &sighting.at.unix_micros().to_be_bytes()].concat())
}

fn sighting_from_payload(text: &str) -> Option<Sighting> {
    let bytes = STANDARD.decode(text).ok()?;
    let (device, at) = bytes.split_first_chunk()?;
    let at = Timestamp::from_unix_micros(i64::from_be_bytes(at.try_into().ok()?));
    Some(Sighting { device: DeviceId::from_bytes(*device), at })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sighting_is_told_as_it_is() {
        let at = Timestamp::from_unix_micros(1_700_000_000_000_001);
        let sighting = Sighting { device: DeviceId::from_bytes([1; 16]), at };
        assert_eq!(sighting_from_payload(&sighting_to_payload(&sighting)), Some(sighting));
        let longer = STANDARD.encode([7; 25]);
        for text in ["", "nothing", "AAAA", &longer] {
            assert_eq!(sighting_from_payload(text), None, "{text}");
        }
    }

    #[test]
    fn a_hint_is_passed_as_it_is() {
        for length in [0, 1, HINT_BYTES_MAX] {
            let [from, to] = [1, 2].map(|n| DeviceId::from_bytes([n; 16]));
            let hint =
                PassedHint { tenant: TenantId::from_bytes([3; 16]), from, to, sealed: vec![0xff; length] };
            assert_eq!(from_payload(&to_payload(&hint)), Some(hint));
        }
        let longer = STANDARD.encode([7; 3 * 16 + HINT_BYTES_MAX + 1]);
        for text in ["", "nothing", "AAAA", &longer] {
            assert_eq!(from_payload(text), None, "{text}");
        }
    }
}
