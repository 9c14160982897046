//! The ledger as bytes. Says what is in a file, not where it is.
//!
//! ```text
//! [ "warren ledger", format, digest of head, head, [ kept, kept, … ] ]
//! ```
//!
//! The digest guards the head against bad disks; what is kept of tenants is guarded by the anchors' stamps.

use std::net::SocketAddr;

use minicbor::bytes::{ByteSlice, ByteVec};
use minicbor::{Decode, Decoder, Encode, Encoder};
use model::key::Digest;
use model::relay::RelayPass;
use model::snapshot::Stamp;
use model::wire::Remark;
use model::{AnchorKey, DeviceId, Endpoint, Signed, TenantId};

use super::kept::Kept;
use super::{Enrolment, Joining, Ledger, Pin};

const MAGIC: &str = "warren ledger";
/// Raised when an older program could not read the file. New optional fields do not raise it.
const FORMAT: u16 = 1;

/// Why bytes are no ledger.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Written by a newer program.
    #[error("the ledger has format {0}, newer than this program knows")]
    Newer(u16),
    /// Not a ledger, or its head is damaged: nothing of it can be trusted.
    #[error("the ledger is damaged: {0}")]
    Damaged(&'static str),
    /// Who the node is and whom it trusts is sound; a snapshot is not.
    #[error("a snapshot in the ledger is damaged: {reason}")]
    Snapshot {
        /// What is wrong with it.
        reason: String,
        /// The ledger without it. Going on with this loses nothing that the server does not send again.
        rest: Box<Ledger>,
    },
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Head {
    #[n(0)]
    up: bool,
    #[n(1)]
    joining: Option<JoiningRow>,
    #[n(2)]
    enrolment: Option<EnrolmentRow>,
    #[n(3)]
    pins: Vec<PinRow>,
    #[n(4)]
    addresses: Vec<(Endpoint, SocketAddr)>,
    #[n(5)]
    pass: Option<Signed<RelayPass>>,
    #[n(6)]
    hub_term: Option<u64>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct JoiningRow {
    #[n(0)]
    token: String,
    #[n(1)]
    hostname: Remark,
    #[n(2)]
    os: Remark,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct EnrolmentRow {
    #[n(0)]
    anchor: AnchorKey,
    #[n(1)]
    device: DeviceId,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct PinRow {
    #[n(0)]
    tenant: TenantId,
    #[n(1)]
    anchor: AnchorKey,
    #[n(2)]
    hub_serial: u64,
}

#[derive(Encode)]
#[cbor(map)]
struct KeptRef<'a> {
    #[n(0)]
    tenant: TenantId,
    #[n(1)]
    stamp: &'a Signed<Stamp>,
    #[n(2)]
    base: &'a ByteSlice,
    #[n(3)]
    patches: &'a [ByteVec],
}

#[derive(Decode)]
#[cbor(map)]
struct KeptRow {
    #[n(0)]
    tenant: TenantId,
    #[n(1)]
    stamp: Signed<Stamp>,
    #[n(2)]
    base: ByteVec,
    #[n(3)]
    patches: Vec<ByteVec>,
}

impl Ledger {
    /// The whole ledger as bytes. They hold secrets while the node is joining.
    pub fn to_bytes(&self) -> Vec<u8> {
        let head = minicbor::to_vec(self.head()).expect("writing to memory cannot fail");
        let kept: Vec<_> = self.pins.iter().filter_map(|(t, pin)| Some((*t, pin.kept.as_ref()?))).collect();
        let capacity = head.len() + 128 + kept.iter().map(|(_, k)| k.bytes_len()).sum::<usize>();
        let mut bytes = Vec::with_capacity(capacity);
        let mut e = Encoder::new(&mut bytes);
        encode_file(&mut e, &head, &kept).expect("writing to memory cannot fail");
        bytes
    }

    /// Reads what [`Self::to_bytes`] made, and verifies all of it.
    ///
    /// # Errors
    /// See [`LedgerError`]; one kind of it still carries a ledger.
    pub fn load(bytes: &[u8]) -> Result<Self, LedgerError> {
        let mut d = Decoder::new(bytes);
        let mut ledger = Self::from_head(decode_head(&mut d)?);
        match ledger.read_snapshots(&mut d) {
            Ok(()) => Ok(ledger),
            Err(reason) => Err(LedgerError::Snapshot { reason, rest: Box::new(ledger) }),
        }
    }

    fn head(&self) -> Head {
        Head {
            up: self.up,
            joining: self.joining.as_ref().map(|j| JoiningRow {
                token: j.token.expose().to_string(),
                hostname: j.hostname.clone(),
                os: j.os.clone(),
            }),
            enrolment: self.enrolment.map(|e| EnrolmentRow { anchor: e.anchor, device: e.device }),
            pins: self.pins.iter().map(|(tenant, pin)| pin_row(*tenant, pin)).collect(),
            addresses: self.addresses.iter().map(|(e, a)| (e.clone(), *a)).collect(),
            pass: self.pass.clone(),
            hub_term: self.hub_term,
        }
    }

    fn from_head(head: Head) -> Self {
        // A token that cannot be read any more is as good as none: the person has it still.
        let joining = head
            .joining
            .and_then(|j| Some(Joining { token: j.token.parse().ok()?, hostname: j.hostname, os: j.os }));
        let pin = |row: PinRow| {
            let PinRow { tenant, anchor, hub_serial } = row;
            (tenant, Pin { anchor, hub_serial, kept: None, ruled_out: false, unlisted: false })
        };
        Self {
            up: head.up,
            joining,
            enrolment: head.enrolment.map(|e| Enrolment { anchor: e.anchor, device: e.device }),
            pins: head.pins.into_iter().map(pin).collect(),
            addresses: head.addresses.into_iter().collect(),
            pass: head.pass,
            hub_term: head.hub_term,
        }
    }

    /// Reads snapshots up to the first that is not sound.
    fn read_snapshots(&mut self, d: &mut Decoder<'_>) -> Result<(), String> {
        let count = d.array().map_err(|e| e.to_string())?.unwrap_or_default();
        for _ in 0..count {
            let row: KeptRow = d.decode().map_err(|e| e.to_string())?;
            let pin = self.pins.get_mut(&row.tenant).ok_or("its tenant is not pinned")?;
            let stamp = row.stamp.verify(&pin.anchor).map_err(|e| e.to_string())?;
            if stamp.tenant != row.tenant {
                return Err("it is of another tenant".into());
            }
            let kept = Kept::from_bytes(row.stamp, stamp.held(), row.base.into(), row.patches);
            pin.kept = Some(kept.map_err(|e| e.to_string())?);
        }
        Ok(())
    }
}

fn pin_row(tenant: TenantId, pin: &Pin) -> PinRow {
    PinRow { tenant, anchor: pin.anchor, hub_serial: pin.hub_serial }
}

fn digest_of(head: &[u8]) -> Digest {
    Digest::of("warren ledger head 1", &[head])
}

fn encode_file(
    e: &mut Encoder<&mut Vec<u8>>,
    head: &[u8],
    kept: &[(TenantId, &Kept)],
) -> Result<(), minicbor::encode::Error<std::convert::Infallible>> {
    e.array(5)?.str(MAGIC)?.u16(FORMAT)?.encode(digest_of(head))?.bytes(head)?;
    e.array(kept.len() as u64)?;
    for (tenant, kept) in kept {
        let base = kept.base.as_slice().into();
        e.encode(KeptRef { tenant: *tenant, stamp: &kept.stamp, base, patches: &kept.patches })?;
    }
    Ok(())
}

fn decode_head(d: &mut Decoder<'_>) -> Result<Head, LedgerError> {
    let not = |_| LedgerError::Damaged("it is no ledger");
    let fields = d.array().map_err(not)?;
    if fields != Some(5) || d.str().map_err(not)? != MAGIC {
        return Err(LedgerError::Damaged("it is no ledger"));
    }
    match d.u16().map_err(not)? {
        FORMAT => {}
        newer if newer > FORMAT => return Err(LedgerError::Newer(newer)),
        _ => return Err(LedgerError::Damaged("its format never was")),
    }
    let digest: Digest = d.decode().map_err(not)?;
    let head = d.bytes().map_err(not)?;
    if digest_of(head) != digest {
        return Err(LedgerError::Damaged("its head has another digest"));
    }
    minicbor::decode(head).map_err(|_| LedgerError::Damaged("its head cannot be read"))
}
