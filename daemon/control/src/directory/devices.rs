//! Edits of one device: a plain peer that comes, approval, name, tags, the end. How agents enrol, `decide` says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::wire::Remark;
use model::{Abilities, Code, DeviceId, Label, PublicKey, Refusal, Standing};

use super::decide::check_tags;
use super::{Decision, Directory, Grounds, naming, refuse};
use crate::edit::Answer;
use crate::limits::{DEVICE_LIFE_MAX, LABELS_MAX};
use crate::rows::{Device, Fact, Kind};

impl Directory {
    /// A plain peer has nobody who could find it another name, so that it has the one that was asked for or none.
    pub(super) fn add_plain(
        &self,
        name: &Label,
        wireguard: PublicKey,
        tags: &BTreeSet<Label>,
        grounds: &mut Grounds<'_>,
    ) -> Result<Decision, Refusal> {
        if self.hub.is_none() {
            return refuse(
                Code::HubUnknown,
                "a plain peer reaches the mesh through the hub, and there was none yet",
            );
        }
        self.check_name_free(name)?;
        self.check_key_free(&wireguard)?;
        check_tags(tags)?;
        self.check_quota()?;
        Ok(device_becomes(Device {
            id: DeviceId::new(grounds.now, grounds.dice.bytes()),
            name: name.clone(),
            kind: Kind::Plain,
            wireguard,
            number: self.free_number(grounds.now)?,
            standing: Standing::Active,
            tags: tags.clone(),
            labels: BTreeMap::new(),
            expires_at: None,
            idle_max: None,
            os: Remark::default(),
            // It is no peer of devices, which would look for paths to it: the hub forwards.
            abilities: Abilities::NONE,
            enrolled_at: grounds.now,
            approved_at: Some(grounds.now),
            revoked_at: None,
        }))
    }

    pub(super) fn approve(&self, id: DeviceId, grounds: &Grounds<'_>) -> Result<Decision, Refusal> {
        let device = self.live_device(id)?;
        if device.standing == Standing::Expired {
            return refuse(Code::DeviceExpired, format!("device {} has expired", device.name));
        }
        if device.standing == Standing::Active {
            return Ok(Decision::new(Vec::new(), Answer::Device(device.clone())));
        }
        let approved =
            Device { standing: Standing::Active, approved_at: Some(grounds.now), ..device.clone() };
        Ok(device_becomes(approved))
    }

    pub(super) fn rename(&self, id: DeviceId, name: &Label) -> Result<Decision, Refusal> {
        let device = self.live_device(id)?;
        if device.name == *name {
            return Ok(Decision::new(Vec::new(), Answer::Device(device.clone())));
        }
        self.check_name_free(name)?;
        Ok(device_becomes(Device { name: name.clone(), ..device.clone() }))
    }

    pub(super) fn tag(&self, id: DeviceId, tags: &BTreeSet<Label>) -> Result<Decision, Refusal> {
        let device = self.live_device(id)?;
        check_tags(tags)?;
        if device.tags == *tags {
            return Ok(Decision::new(Vec::new(), Answer::Device(device.clone())));
        }
        Ok(device_becomes(Device { tags: tags.clone(), ..device.clone() }))
    }

    pub(super) fn label(&self, id: DeviceId, labels: &BTreeMap<Label, Label>) -> Result<Decision, Refusal> {
        let device = self.live_device(id)?;
        if labels.len() > LABELS_MAX {
            return refuse(Code::QuotaReached, format!("{} labels are more than {LABELS_MAX}", labels.len()));
        }
        if device.labels == *labels {
            return Ok(Decision::new(Vec::new(), Answer::Device(device.clone())));
        }
        Ok(device_becomes(Device { labels: labels.clone(), ..device.clone() }))
    }

    /// More time brings a device back that has expired, as it was: approved, or not.
    pub(super) fn set_expiry(
        &self,
        id: DeviceId,
        after: Option<Duration>,
        grounds: &Grounds<'_>,
    ) -> Result<Decision, Refusal> {
        let device = self.live_device(id)?;
        if after.is_some_and(|after| !(Duration::from_secs(1)..=DEVICE_LIFE_MAX).contains(&after)) {
            return refuse(Code::BadRequest, "a device expires between a second and ten years from now");
        }
        let standing = match (device.standing, device.approved_at) {
            (Standing::Expired, Some(_)) => Standing::Active,
            (Standing::Expired, None) => Standing::Pending,
            (other, _) => other,
        };
        let expires_at = after.map(|after| grounds.now + after);
        if (device.expires_at, device.standing) == (expires_at, standing) {
            return Ok(Decision::new(Vec::new(), Answer::Device(device.clone())));
        }
        Ok(device_becomes(Device { expires_at, standing, ..device.clone() }))
    }

    /// Its time is over by this clock, whatever whoever asks believed.
    pub(super) fn expire(&self, id: DeviceId, grounds: &Grounds<'_>) -> Result<Decision, Refusal> {
        let device = self.live_device(id)?;
        let is_over = device.expires_at.is_some_and(|at| at <= grounds.now);
        if device.standing == Standing::Expired || !is_over {
            return Ok(Decision::new(Vec::new(), Answer::Device(device.clone())));
        }
        Ok(device_becomes(Device { standing: Standing::Expired, ..device.clone() }))
    }

    /// Of what is not ephemeral nobody goes because it is silent.
    pub(super) fn remove_idle(&self, id: DeviceId, grounds: &Grounds<'_>) -> Result<Decision, Refusal> {
        let device = self.live_device(id)?;
        if device.idle_max.is_none() {
            return refuse(Code::BadRequest, format!("device {} is not ephemeral", device.name));
        }
        self.revoke(id, grounds)
    }

    pub(super) fn set_abilities(&self, id: DeviceId, abilities: Abilities) -> Result<Decision, Refusal> {
        let device = self.live_device(id)?;
        if device.abilities == abilities {
            return Ok(Decision::new(Vec::new(), Answer::Device(device.clone())));
        }
        Ok(device_becomes(Device { abilities, ..device.clone() }))
    }

    /// Whatever names the device stays: its peers find it with another key.
    pub(super) fn set_key(&self, id: DeviceId, wireguard: PublicKey) -> Result<Decision, Refusal> {
        let device = self.live_device(id)?;
        if device.wireguard == wireguard {
            return Ok(Decision::new(Vec::new(), Answer::Device(device.clone())));
        }
        self.check_key_free(&wireguard)?;
        Ok(device_becomes(Device { wireguard, ..device.clone() }))
    }

    pub(super) fn revoke(&self, id: DeviceId, grounds: &Grounds<'_>) -> Result<Decision, Refusal> {
        let Some(device) = self.device(id) else { return not_found(id) };
        if !device.is_live() {
            return Ok(Decision::new(Vec::new(), Answer::Device(device.clone())));
        }
        let revoked = Device { standing: Standing::Revoked, revoked_at: Some(grounds.now), ..device.clone() };
        Ok(device_becomes(revoked))
    }

    fn check_name_free(&self, name: &Label) -> Result<(), Refusal> {
        if naming::is_reserved(name) {
            return refuse(Code::NameReserved, format!("{name} is no name for a device"));
        }
        if self.is_name_taken(name) {
            return refuse(Code::NameTaken, format!("{name} is in use"));
        }
        Ok(())
    }

    fn live_device(&self, id: DeviceId) -> Result<&Device, Refusal> {
        match self.device(id) {
            None => not_found(id),
            Some(device) if !device.is_live() => {
                refuse(Code::DeviceRevoked, format!("device {} is revoked", device.name))
            }
            Some(device) => Ok(device),
        }
    }
}

fn device_becomes(device: Device) -> Decision {
    Decision::new(vec![Fact::Device(device.clone())], Answer::Device(device))
}

fn not_found<T>(id: DeviceId) -> Result<T, Refusal> {
    refuse(Code::DeviceNotFound, format!("there is no device {id}"))
}
