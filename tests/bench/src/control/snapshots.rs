//! What a node holds of its tenants, as versions and digests: the contents are read past.

use std::collections::BTreeMap;

use model::wire::{Frame, Holding, Remark, Resync};
use model::{AnchorKey, Held, Signed, Stamp, TenantId};

/// Of a device one tenant, of a hub all.
#[derive(Debug, Default)]
pub struct Snapshots {
    /// Of a device's one tenant.
    pub anchor: Option<AnchorKey>,
    anchors: BTreeMap<TenantId, AnchorKey>,
    pub held: BTreeMap<TenantId, Held>,
    /// A whole snapshot of which so many bytes are still to come.
    arriving: Option<(TenantId, Held, usize)>,
}

impl Snapshots {
    /// What is answered to a frame, if anything.
    pub fn take(&mut self, frame: &Frame) -> Option<Frame> {
        let (tenant, held) = match frame {
            Frame::Attached(attached) => {
                self.anchors.extend(attached.tenants.iter().copied());
                return None;
            }
            Frame::Whole(whole) => {
                let held = self.stamped(whole.tenant, &whole.stamp);
                self.arriving = Some((whole.tenant, held, whole.bytes_total as usize));
                return None;
            }
            Frame::Part(part) => {
                let (tenant, held, left) = self.arriving.as_mut()?;
                *left = left.saturating_sub(part.bytes.len());
                if *left > 0 {
                    return None;
                }
                (*tenant, *held)
            }
            Frame::Patched(patched) => {
                let (tenant, here) = (patched.tenant, self.held.get(&patched.tenant).copied());
                if here != Some(patched.from) {
                    let reason = Remark::new("a patch of something else");
                    return Some(Resync { tenant, held: here, reason }.into());
                }
                (tenant, self.stamped(tenant, &patched.stamp))
            }
            _ => return None,
        };
        self.held.insert(tenant, held);
        Some(Holding { tenant, held, settled: true }.into())
    }

    /// All of it, as a heartbeat says it.
    pub fn holding(&self) -> Vec<Holding> {
        self.held.iter().map(|(&tenant, &held)| Holding { tenant, held, settled: true }).collect()
    }

    fn stamped(&self, tenant: TenantId, stamp: &Signed<Stamp>) -> Held {
        let anchor =
            self.anchors.get(&tenant).or(self.anchor.as_ref()).expect("a tenant is introduced first");
        stamp.verify(anchor).expect("the server signs what it sends").held()
    }
}
