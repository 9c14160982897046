//! `/api/v1/openapi.json`: the API's description (OpenAPI 3.1), made from the table of routes.

use std::collections::BTreeMap;

use model::api::Problem;
use serde_json::{Map, Value, json};
use utoipa::PartialSchema as _;

use super::routes::{Form, Needs, Route};

const KEY_ABOUT: &str = "A string of the sender's own for this request alone: sent again with it within a day, nothing is done \
                         twice, and the answer is the first one's";

/// The description of these routes.
pub fn describe(routes: &[Route]) -> Value {
    let mut parts = BTreeMap::new();
    let problem = serde_json::to_value(Problem::schema()).expect("a schema is JSON");
    parts.insert("Problem".to_owned(), problem);
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for route in routes.iter().filter(|route| route.described) {
        for form in route.asks.iter().chain(&route.gives.1) {
            let named = form
                .parts
                .iter()
                .map(|(name, part)| (name.clone(), serde_json::to_value(part).expect("a schema is JSON")));
            parts.extend(named);
        }
        paths.entry(route.path).or_default().insert(route.method.into(), operation(route));
    }
    let mut parts = serde_json::to_value(parts).expect("schemas are JSON");
    let known = parts.clone();
    merge(&mut parts, &known);
    let mut paths = serde_json::to_value(paths).expect("JSON");
    merge(&mut paths, &known);
    json!({
        "openapi": "3.1.0",
        "info": {"title": "Warren", "version": env!("CARGO_PKG_VERSION"), "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {
            "schemas": parts,
            "securitySchemes": {"bearer": {
                "type": "http", "scheme": "bearer",
                "description": "An API token, or the secret of a session; on the server's unix socket the kernel says who asks",
            }},
        },
    })
}

/// A form with another one's fields among its own (serde's flatten) is one object: of `allOf`, the one that takes no fields beside its
/// own would refuse those of the other.
fn merge(schema: &mut Value, known: &Value) {
    let together = schema.get("allOf").and_then(Value::as_array).and_then(|all| together(all, known));
    if let (Some(together), Some(object)) = (together, schema.as_object_mut()) {
        object.remove("allOf");
        object.extend(together);
    }
    match schema {
        Value::Object(fields) => fields.values_mut().for_each(|inner| merge(inner, known)),
        Value::Array(items) => items.iter_mut().for_each(|inner| merge(inner, known)),
        _ => {}
    }
}

fn together(all: &[Value], known: &Value) -> Option<Map<String, Value>> {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for part in all {
        let named = part.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next());
        let part = named.map_or(Some(part), |name| known.get(name))?;
        properties.extend(part.get("properties")?.as_object()?.clone());
        required.extend(part.get("required").and_then(Value::as_array).into_iter().flatten().cloned());
    }
    let fields =
        [("type", json!("object")), ("properties", properties.into()), ("required", required.into())];
    Some(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn operation(route: &Route) -> Value {
    let (status, form) = &route.gives;
    let mut gives = json!({"description": "Done"});
    if let Some(form) = form {
        gives["content"] = body(form);
    }
    if route.bytes {
        gives["content"] = json!({"application/octet-stream": {}});
    }
    let problem = json!({
        "description": "Refused (RFC 9457)",
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    });
    let mut responses = Map::new();
    for status in std::iter::once(*status).chain(route.gives_also) {
        responses.insert(status.to_string(), gives.clone());
    }
    responses.insert("default".into(), problem);
    let mut operation = json!({
        "operationId": route.id,
        "summary": route.about,
        "parameters": parameters(route),
        "responses": responses,
        "x-warren-needs": needs(route.needs),
    });
    if let Some(form) = &route.asks {
        operation["requestBody"] = json!({"required": true, "content": body(form)});
    }
    if route.needs != Needs::Nothing {
        operation["security"] = json!([{"bearer": []}]);
    }
    operation
}

fn body(form: &Form) -> Value {
    json!({"application/json": {"schema": form.schema}})
}

fn parameters(route: &Route) -> Vec<Value> {
    let text = json!({"type": "string"});
    let names = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let in_path = names.map(|name| json!({"name": name, "in": "path", "required": true, "schema": text}));
    let in_query = route.query.iter().map(|(name, about, schema)| {
        json!({"name": name, "in": "query", "required": false, "description": about, "schema": schema})
    });
    let key = route.is_keyed().then(|| {
        json!({"name": "Idempotency-Key", "in": "header", "required": false, "schema": text, "description": KEY_ABOUT})
    });
    in_path.chain(in_query).chain(key).collect()
}

/// Who may call it, in words that scripts can compare.
fn needs(needs: Needs) -> Value {
    match needs {
        Needs::Nothing => json!({"role": null}),
        Needs::Role(role) => json!({"role": role}),
        Needs::Everywhere(role) => json!({"role": role, "all_tenants": true}),
        Needs::Person => json!({"role": "viewer", "session": true}),
    }
}
