//! How a tenant begins: its id, block, anchor. Knows of other tenants only what must not be twice.

use ipnet::Ipv4Net;
use model::limits::TENANTS_MAX;
use model::{AnchorSecret, Block, CaKind, Code, Label, Name, Refusal, TenantId};

use super::{Decision, Grounds, authorities, refuse};
use crate::edit::{Answer, HubInterface};
use crate::rows::{Fact, Hub, Tenant};
use crate::ssh::{SshFact, SshRole};

/// Blocks to choose from when nobody does: the /16 networks of the shared address space (RFC 6598).
const DEFAULT_BLOCKS: u32 = 64;

/// What a new tenant makes true, and its anchor, which the store keeps sealed. `others` are the tenants that exist.
pub fn create_tenant<'a>(
    name: &Label,
    block: Option<Ipv4Net>,
    interface: HubInterface,
    suffix: &Name,
    hub: Option<Hub>,
    others: impl Iterator<Item = &'a Tenant>,
    grounds: &mut Grounds<'_>,
) -> Result<(Tenant, Decision, AnchorSecret), Refusal> {
    let others: Vec<&Tenant> = others.filter(|tenant| tenant.deleted_at.is_none()).collect();
    if others.len() >= TENANTS_MAX {
        return refuse(Code::QuotaReached, format!("there are {TENANTS_MAX} tenants"));
    }
    if others.iter().any(|tenant| tenant.name == *name) {
        return refuse(Code::NameTaken, format!("there is a tenant {name}"));
    }
    if suffix.child(name).is_err() {
        return refuse(Code::NameInvalid, format!("{name}.{suffix} is too long"));
    }
    let id = TenantId::new(grounds.now, grounds.dice.bytes());
    let block = match block {
        Some(net) => chosen_block(net, id, &others)?,
        None => default_block(id, &others)?,
    };
    let anchor = AnchorSecret::from_seed(grounds.dice.bytes());
    let tenant = Tenant {
        id,
        name: name.clone(),
        suffix: suffix.clone(),
        block,
        anchor: anchor.public(),
        created_at: grounds.now,
        quota: None,
        hub_port: grounds.ports.choose(interface, id, None)?,
        closing: None,
        deleted_at: None,
    };
    let (authorities, new_keys) = authorities::found(CaKind::ALL.into_iter(), grounds);
    let role = Fact::Ssh(SshFact::Role(SshRole::default_role()));
    let facts = std::iter::once(Fact::Tenant(tenant.clone())).chain(hub.map(Fact::Hub));
    let facts = facts.chain(authorities).chain([role]);
    let decision = Decision::new(facts.collect(), Answer::TenantCreated(tenant.clone()));
    Ok((tenant, Decision { new_keys, ..decision }, anchor))
}

fn chosen_block(net: Ipv4Net, id: TenantId, others: &[&Tenant]) -> Result<Block, Refusal> {
    let block = Block::new(net, id).map_err(|e| Refusal::new(Code::BlockInvalid, e.to_string()))?;
    match others.iter().find(|tenant| tenant.block.overlaps(&block)) {
        Some(other) => {
            refuse(Code::BlockOverlap, format!("{net} overlaps the block of tenant {}", other.name))
        }
        None => Ok(block),
    }
}

fn default_block(id: TenantId, others: &[&Tenant]) -> Result<Block, Refusal> {
    let nets = (0..DEFAULT_BLOCKS).map(|n| u32::from_be_bytes([100, 64, 0, 0]) + (n << 16));
    let blocks = nets.filter_map(|net| Block::new(Ipv4Net::new(net.into(), 16).ok()?, id).ok());
    let mut free = blocks.filter(|block| !others.iter().any(|tenant| tenant.block.overlaps(block)));
    free.next().ok_or_else(|| {
        Refusal::new(Code::BlockExhausted, "every /16 of 100.64.0.0/10 has a tenant: choose a block")
    })
}
