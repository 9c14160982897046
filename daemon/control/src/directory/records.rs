//! Which custom records a zone takes. Answers no question of DNS.

use std::collections::{BTreeMap, BTreeSet};

use model::limits::{CUSTOM_NAMES_MAX, NAME_TTL_SECONDS, RECORDS_PER_NAME_MAX, SSH_ALIASES_MAX};
use model::{Code, Label, Name, RecordData, Refusal};

use super::{Decision, Directory, naming, refuse};
use crate::edit::Answer;
use crate::limits::RECORD_TTL_SECONDS_MAX;
use crate::rows::{DnsEntry, Fact};

impl Directory {
    /// Custom records that send askers to this name of a device, although no device has it (any more). Looks at every
    /// record: devices are renamed by people.
    pub fn dangling_at(&self, device: &Label) -> Vec<DnsEntry> {
        let Ok(name) = self.origin.child(device) else { return Vec::new() };
        if self.device_named(device).is_some() || self.records.contains_key(&name) {
            return Vec::new();
        }
        let mut found = Vec::new();
        for (owner, set) in &self.records {
            let there = set.iter().filter(|(data, _)| data.target() == Some(&name));
            found.extend(there.map(|(data, &ttl)| DnsEntry { name: owner.clone(), data: data.clone(), ttl }));
        }
        found
    }

    /// As [`model::Zone::aliases_of`], which a device asks of what it holds.
    pub(super) fn aliases_of(&self, name: &Name) -> BTreeSet<Name> {
        let leads = |set: &BTreeMap<RecordData, u32>| set.contains_key(&RecordData::Cname(name.clone()));
        let aliases = self.records.iter().filter(|(owner, set)| !owner.is_wildcard() && leads(set));
        aliases.map(|(owner, _)| owner.clone()).take(SSH_ALIASES_MAX).collect()
    }

    pub(super) fn add_record(
        &self,
        name: &Name,
        data: &RecordData,
        ttl: Option<u32>,
    ) -> Result<Decision, Refusal> {
        let name = self.whole_name(name)?;
        let ttl = ttl.unwrap_or(NAME_TTL_SECONDS);
        if ttl > RECORD_TTL_SECONDS_MAX {
            return refuse(Code::RecordInvalid, format!("a TTL of {ttl} s is more than a week"));
        }
        self.check_owner(&name)?;
        check_target(data)?;
        let data = self.whole_data(data)?;
        let there = self.records.get(&name);
        let entry = DnsEntry { name, data, ttl };
        if there.and_then(|set| set.get(&entry.data)) == Some(&ttl) {
            return Ok(Decision::new(Vec::new(), Answer::RecordAdded(entry)));
        }
        match there {
            Some(set) => check_beside(&entry, set)?,
            None if self.records.len() >= CUSTOM_NAMES_MAX => {
                return refuse(Code::QuotaReached, format!("the tenant has {CUSTOM_NAMES_MAX} custom names"));
            }
            None => {}
        }
        if matches!(entry.data, RecordData::Cname(_)) && entry.name == self.origin {
            return refuse(Code::RecordInvalid, "the apex of the zone cannot be a CNAME");
        }
        Ok(Decision::new(vec![Fact::Record(entry.clone())], Answer::RecordAdded(entry)))
    }

    pub(super) fn remove_record(&self, name: &Name, data: &RecordData) -> Result<Decision, Refusal> {
        let name = self.whole_name(name)?;
        let held = self.records.get(&name);
        // One of an earlier version may still lead to a short name.
        let data = match held.is_some_and(|set| set.contains_key(data)) {
            true => data.clone(),
            false => self.whole_data(data)?,
        };
        let Some(&ttl) = held.and_then(|set| set.get(&data)) else {
            return refuse(Code::RecordNotFound, format!("{name} has no {} record {data}", data.kind()));
        };
        let entry = DnsEntry { name: name.clone(), data: data.clone(), ttl };
        let gone = Fact::RecordGone { name, data };
        Ok(Decision::new(vec![gone], Answer::RecordRemoved(entry)))
    }

    fn whole_name(&self, name: &Name) -> Result<Name, Refusal> {
        if name.is_within(&self.origin) {
            return Ok(name.clone());
        }
        self.origin.below(name).map_err(|e| Refusal::new(Code::NameInvalid, format!("{name}: {e}")))
    }

    /// A target of one label is of the zone, as owners are: there is no host of that name in the root.
    fn whole_data(&self, data: &RecordData) -> Result<RecordData, Refusal> {
        match data.target().filter(|target| target.labels().count() == 1) {
            Some(target) => Ok(data.with_target(self.whole_name(target)?)),
            None => Ok(data.clone()),
        }
    }

    /// A custom record does not stand where a node's own name stands.
    fn check_owner(&self, name: &Name) -> Result<(), Refusal> {
        let Some(label) = naming::label_in(name, &self.origin) else { return Ok(()) };
        if naming::is_reserved(&label) {
            return refuse(Code::NameReserved, format!("{name} is not for custom records"));
        }
        if self.device_named(&label).is_some() {
            return refuse(Code::NameTaken, format!("{name} is a device"));
        }
        Ok(())
    }
}

/// Nobody can be sent to a wildcard: it stands for names, and is none.
fn check_target(data: &RecordData) -> Result<(), Refusal> {
    match data.target().filter(|target| target.is_wildcard()) {
        Some(target) => refuse(Code::RecordInvalid, format!("a wildcard such as {target} is no target")),
        None => Ok(()),
    }
}

/// RFC 1034, section 3.6.2: a CNAME stands alone.
fn check_beside(entry: &DnsEntry, set: &BTreeMap<RecordData, u32>) -> Result<(), Refusal> {
    if set.contains_key(&entry.data) {
        return Ok(());
    }
    let is_cname = |data: &RecordData| matches!(data, RecordData::Cname(_));
    if is_cname(&entry.data) || set.keys().any(is_cname) {
        return refuse(
            Code::RecordInvalid,
            format!(
                "a CNAME stands alone at its name, and {} has other records: remove them first, see `warren dns list`",
                entry.name
            ),
        );
    }
    if set.len() >= RECORDS_PER_NAME_MAX {
        return refuse(Code::QuotaReached, format!("{} has {RECORDS_PER_NAME_MAX} records", entry.name));
    }
    Ok(())
}
