//! The API as an OpenAPI 3.1 document, made of the table of operations and the catalogue.
//!
//! All operations share the path `/`, which OpenAPI cannot say. Here each has a path of its own that differs in the
//! fragment only, `/#CreateProduct`: no client sends a fragment, so whoever follows the document asks `/`, with the
//! `Action` that the operation's parameters require.

use crate::api::catalogue::{self, Entry, Parameter, Wire};
use crate::api::{Operation, code};
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

/// Items of a list that are described one by one: enough to see how they are numbered.
const ITEMS_SHOWN: u64 = 2;

const ABOUT: &str = "Calls are POST (or GET) requests to `/`; parameters stand in the query, or in a body of type \
`application/x-www-form-urlencoded`. The fragment in a path tells the operations apart and is never sent. \
A call is signed in one of two ways. Version 1.0: the parameters AccessKeyId, SignatureMethod (HMAC-SHA1 or \
HMAC-SHA256), SignatureVersion (1.0), SignatureNonce, Timestamp (YYYY-MM-DDThh:mm:ssZ), SecurityToken (of a temporary \
key) and Signature, over all parameters. ACS3-HMAC-SHA256: headers x-acs-action and x-acs-version in place of Action \
and Version, x-acs-date, x-acs-signature-nonce, x-acs-content-sha256, and Authorization. HTTP 200 is a success or, with \
Success false, a refusal by the operation; other statuses are refusals before it. An optional parameter with an empty \
value counts as absent.";

static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    let mut text = serde_json::to_string_pretty(&document()).unwrap_or_default();
    text.push('\n');
    text
});

/// The document as `GET /openapi.json` answers it.
pub fn text() -> &'static str {
    &DOCUMENT
}

fn document() -> Value {
    let mut paths = Map::new();
    let mut schemas = Map::new();
    for (operation, entry) in catalogue::served() {
        paths.insert(format!("/#{}", entry.name), json!({ "post": call(operation, entry) }));
        schemas.insert(format!("{}Response", entry.name), success(entry));
        if !entry.told_in_refusals.is_empty() {
            schemas.insert(failure_name(entry), failure(entry));
        }
    }
    schemas.insert("Failure".to_owned(), plain_failure());
    schemas.insert("GatewayError".to_owned(), gateway_error());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Updraft: Alibaba Cloud IoT Platform's OTA API",
            "version": "2018-01-20",
            "description": ABOUT,
        },
        "security": [{ "SignatureV1": [] }, { "Acs3": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "SignatureV1": {
                    "type": "apiKey", "in": "query", "name": "Signature",
                    "description": "Signature version 1.0 over all parameters.",
                },
                "Acs3": {
                    "type": "apiKey", "in": "header", "name": "Authorization",
                    "description": "ACS3-HMAC-SHA256 Credential=…,SignedHeaders=…,Signature=…",
                },
            },
            "parameters": {
                "Version": query("Version", true, &json!({ "const": "2018-01-20" }), "The API's version."),
                "Format": query(
                    "Format",
                    false,
                    &json!({ "type": "string", "enum": ["JSON", "XML"], "default": "XML" }),
                    "The format of the answer.",
                ),
            },
            "schemas": schemas,
        },
    })
}

fn query(name: &str, required: bool, schema: &Value, about: &str) -> Value {
    json!({ "name": name, "in": "query", "required": required, "schema": schema, "description": about })
}

fn call(operation: &Operation, entry: &Entry) -> Value {
    let mut parameters = vec![
        query("Action", true, &json!({ "const": entry.name }), "The operation."),
        json!({ "$ref": "#/components/parameters/Version" }),
        json!({ "$ref": "#/components/parameters/Format" }),
    ];
    for parameter in &entry.request {
        describe(operation, parameter, &mut parameters);
    }
    let root = format!("{}Response", entry.name);
    let answer = format!("#/components/schemas/{root}");
    let failure = format!("#/components/schemas/{}", failure_name(entry));
    let mut responses = Map::new();
    responses.insert(
        "200".to_owned(),
        json!({
            "description": "Done, or refused by the operation.",
            "content": {
                "application/json": { "schema": { "oneOf": [{ "$ref": answer }, { "$ref": failure }] } },
                "text/xml": { "schema": {
                    "oneOf": [{ "$ref": answer }, { "$ref": failure }], "xml": { "name": root },
                } },
            },
        }),
    );
    let refused = json!({ "$ref": "#/components/schemas/GatewayError" });
    for status in code::gateway_statuses() {
        responses.insert(
            status.to_string(),
            json!({
                "description": "Refused before the operation.",
                "content": {
                    "application/json": { "schema": refused },
                    "text/xml": { "schema": refused },
                },
            }),
        );
    }
    json!({
        "operationId": entry.name,
        "summary": entry.about,
        "description": format!(
            "{}At most {} calls a second of an account and its RAM users together.",
            if entry.ours { "An operation of Updraft: the platform has none for it. " } else { "" },
            operation.qps
        ),
        "parameters": parameters,
        "responses": responses,
        "x-updraft-calls-per-second": operation.qps,
        "x-updraft-changes": operation.changes,
        "x-updraft-ours": entry.ours,
    })
}

/// Adds what a parameter is called on the wire; nothing of one that is refused whatever its value.
fn describe(operation: &Operation, parameter: &Parameter, all: &mut Vec<Value>) {
    let required = operation.required.contains(&parameter.name.as_str());
    let not_served = operation.not_served.iter().find(|(name, _)| *name == parameter.name);
    if let Some((_, harmless)) = not_served {
        if let Some(harmless) = harmless {
            let about = format!("Nothing but `{harmless}` is served by this release.");
            let wire = Wire { name: parameter.name.clone(), kind: &parameter.kind, limits: Map::new() };
            let mut schema = schema(&wire);
            let value = serde_json::from_str(harmless).unwrap_or_else(|_| json!(harmless));
            let fits = value.is_string() == (wire.kind == "string");
            schema["enum"] = json!([if fits { value } else { json!(harmless) }]);
            all.push(query(&parameter.name, required, &schema, &about));
        }
        return;
    }
    let shown =
        if parameter.is_list() { parameter.items_max().unwrap_or(ITEMS_SHOWN).min(ITEMS_SHOWN) } else { 1 };
    for index in 1..=shown {
        for wire in parameter.wire(index) {
            let mut about = parameter.about().to_owned();
            if parameter.is_list() {
                let most = parameter.items_max().map_or_else(String::new, |max| format!(", up to {max}"));
                about = format!("{about} Item {index}; further ones are numbered on{most}.");
            }
            let one = required && index == 1 && parameter.fields.is_empty();
            all.push(query(&wire.name, one, &schema(&wire), &about));
        }
    }
}

fn schema(wire: &Wire<'_>) -> Value {
    let mut schema = wire.limits.clone();
    let (kind, format) = match wire.kind {
        "integer" => ("integer", Some("int32")),
        "long" => ("integer", Some("int64")),
        "boolean" => ("boolean", None),
        _ => ("string", None),
    };
    schema.insert("type".to_owned(), json!(kind));
    if let Some(format) = format {
        schema.insert("format".to_owned(), json!(format));
    }
    Value::Object(schema)
}

/// The answer of a call that succeeded.
fn success(entry: &Entry) -> Value {
    let mut tree = entry.response.clone();
    if let Some(fields) = tree.as_object_mut() {
        fields.remove("Code");
        fields.remove("ErrorMessage");
    }
    let mut schema = answer(&tree);
    schema["required"] = json!(["RequestId", "Success"]);
    schema["properties"]["Success"] = json!({ "const": true });
    schema["xml"] = json!({ "name": format!("{}Response", entry.name) });
    schema
}

fn answer(tree: &Value) -> Value {
    match tree {
        Value::Object(fields) => {
            let properties: Map<String, Value> =
                fields.iter().map(|(name, tree)| (name.clone(), answer(tree))).collect();
            json!({ "type": "object", "properties": properties, "additionalProperties": false })
        }
        Value::Array(items) => {
            json!({ "type": "array", "items": answer(items.first().unwrap_or(&Value::Null)) })
        }
        kind => match kind.as_str() {
            Some("integer" | "long") => json!({ "type": "integer" }),
            Some("boolean") => json!({ "type": "boolean" }),
            _ => json!({ "type": "string" }),
        },
    }
}

/// The schema of a refusal by the operation: most operations have the same.
fn failure_name(entry: &Entry) -> String {
    if entry.told_in_refusals.is_empty() { "Failure".to_owned() } else { format!("{}Failure", entry.name) }
}

fn failure(entry: &Entry) -> Value {
    let mut schema = plain_failure();
    for name in &entry.told_in_refusals {
        schema["properties"][name] = answer(&entry.response[name]);
    }
    schema
}

fn plain_failure() -> Value {
    json!({
        "type": "object",
        "properties": {
            "RequestId": { "type": "string" },
            "Success": { "const": false },
            "Code": { "type": "string", "pattern": "^[Ii]ot\\." },
            "ErrorMessage": { "type": "string" },
        },
        "required": ["RequestId", "Success", "Code", "ErrorMessage"],
        "additionalProperties": false,
    })
}

fn gateway_error() -> Value {
    json!({
        "type": "object",
        "properties": {
            "RequestId": { "type": "string" },
            "HostId": { "type": "string" },
            "Code": { "type": "string" },
            "Message": { "type": "string" },
            "Recommend": { "type": "string" },
        },
        "required": ["RequestId", "HostId", "Code", "Message", "Recommend"],
        "additionalProperties": false,
        "xml": { "name": "Error" },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_a_path_with_its_parameters() {
        let document: Value = serde_json::from_str(text()).unwrap();
        let paths = document["paths"].as_object().unwrap();
        assert_eq!(paths.len(), crate::api::OPERATIONS.len());
        let call = &paths["/#ListOTAJobByFirmware"]["post"];
        let parameters = call["parameters"].as_array().unwrap();
        let of = |name: &str| parameters.iter().find(|parameter| parameter["name"] == name).unwrap();
        assert_eq!(of("Action")["schema"]["const"], "ListOTAJobByFirmware");
        assert_eq!(of("PageSize")["required"], true);
        assert_eq!(of("PageSize")["schema"]["maximum"], 200);
        assert_eq!(call["x-updraft-calls-per-second"], 10);
        let schema = &document["components"]["schemas"]["ListOTAJobByFirmwareResponse"];
        let items = &schema["properties"]["Data"]["properties"]["SimpleOTAJobInfo"]["items"];
        assert_eq!(items["properties"]["JobId"]["type"], "string");
        let tags = &document["components"]["schemas"]["CreateProductTagsFailure"]["properties"];
        assert_eq!(tags["InvalidProductTags"]["properties"]["ProductTag"]["type"], "array");
        assert_eq!(tags["Success"]["const"], false);
        for status in ["200", "400", "403", "404", "500", "503"] {
            assert!(call["responses"][status]["content"]["text/xml"].is_object(), "{status}");
        }
    }
}
