//! Labels as one column: of devices, and of the roles that choose devices by them.

use std::collections::BTreeMap;

use model::Label;

use crate::error::Corrupt;
use crate::fields::Fields;
use crate::sql::Value;

pub(crate) fn labels_value(labels: &BTreeMap<Label, Label>) -> Value {
    let texts: serde_json::Map<_, _> =
        labels.iter().map(|(key, value)| (key.to_string(), value.as_str().into())).collect();
    serde_json::Value::from(texts).to_string().into()
}

/// The change log has facts of before there were labels.
pub(crate) fn labels(fields: &Fields<'_>) -> Result<BTreeMap<Label, Label>, Corrupt> {
    let Some(text) = fields.text_or_null("labels")? else { return Ok(BTreeMap::new()) };
    serde_json::from_str(&text).map_err(|e| fields.corrupt("labels", e))
}
