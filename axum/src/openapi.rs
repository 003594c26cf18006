//! `OpenAPI` documents of ready handlers.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::routing::{MethodRouter, get};
use composable_rust_core::message::MessageKind;
use composable_rust_core::schema::JsonSchemas;
use composable_rust_core::{Aggregate, Message};
use serde_json::{Value, json};

use self::components::{Part, add_parts, local, local_reference};
use crate::AggregateApi;
use crate::aggregate::builder::segment;
use crate::problem::send_error::{has_reserved, rejection_status};

mod components;

/// An `OpenAPI` 3.1 document of [ready handlers](crate::aggregate()): commands with the JSON
/// Schemas of their contents, rejections with their statuses, and the summaries of their doc
/// comments.
///
/// # Example: a document beside the routes
///
/// ```
/// # use composable_rust_core::Aggregate;
/// # use composable_rust_runtime::App;
/// # fn f<Order: Aggregate>(app: &App) {
/// use axum::Router;
/// use composable_rust_axum::{OpenApi, aggregate};
///
/// let orders = aggregate::<Order>(app).public().all_commands().state();
/// let document = OpenApi::new("Orders", "1.0").aggregate("/orders", &orders);
/// let router: Router =
///     Router::new().nest("/orders", orders.router()).route("/openapi.json", document.route());
/// # }
/// ```
///
/// # Components
///
/// A type is the component of its name. If two aggregates have different types of one name, each is
/// the component `aggregate.Name` instead, and so is a type named as one of the document's own:
/// `Problem`, `Sent`, `Event`.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenApi {
    document: Value,
    parts: Vec<Part>,
    merged: Value,
}

impl OpenApi {
    /// Creates a document without paths.
    pub fn new(title: &str, version: &str) -> Self {
        let document = json!({
            "openapi": "3.1.0",
            "info": { "title": title, "version": version },
            "paths": {},
            "components": {
                "schemas": { "Problem": problem(), "Sent": sent(), "Event": event() },
                "responses": {
                    "Problem": response("An error.", "application/problem+json", &reference("Problem")),
                },
            },
        });
        Self { document, parts: Vec::new(), merged: json!({}) }
    }

    /// Adds the handlers of an aggregate, nested under `path`.
    #[must_use]
    pub fn aggregate<A: Aggregate>(mut self, path: &str, api: &AggregateApi<A>) -> Self {
        let schemas = api.schemas();
        let content = |kind: &MessageKind| {
            schemas.content(kind.name, kind.version).map(|schema| local(schema.clone()))
        };
        let path = path.trim_end_matches('/');
        let mut part = Part::new(A::NAME, &schemas);
        let mut rejections = BTreeMap::<u16, Vec<Value>>::new();
        for kind in A::Rejection::KINDS {
            part.define(kind.name, rejection(kind, content(kind).as_ref()));
            let of_status = rejections.entry(rejection_status(kind).as_u16()).or_default();
            of_status.push(local_reference(kind.name));
        }
        for kind in &api.commands {
            let path = part.path(&format!("{path}/{{id}}/{}", segment::<A>(kind)));
            path["parameters"] = json!([id_parameter::<A>()]);
            path["post"] = command::<A>(kind, content(kind), &rejections, api.requires_key());
        }
        reads::<A>(&mut part, path, api.reads());
        self.parts.push(part);
        self
    }

    /// Merges a part of a document into this one, for handlers written by hand, servers or
    /// security: objects are merged, other values replaced, those of ready handlers too.
    #[must_use]
    pub fn merge(mut self, part: Value) -> Self {
        merge(&mut self.merged, part);
        self
    }

    /// Returns the document.
    pub fn into_json(self) -> Value {
        let Self { mut document, parts, merged } = self;
        add_parts(&mut document, &parts);
        merge(&mut document, merged);
        document
    }

    /// Returns a `GET` handler that responds with the document.
    pub fn route<S: Clone + Send + Sync + 'static>(self) -> MethodRouter<S> {
        let document = self.into_json();
        get(move || std::future::ready(Json(document.clone())))
    }
}

/// Adds the exposed reads.
fn reads<A: Aggregate>(part: &mut Part, path: &str, (state, history, events): (bool, bool, bool)) {
    let name = A::NAME;
    let mut add = |path: String, operation: Value| {
        let path = part.path(&path);
        path["parameters"] = json!([id_parameter::<A>()]);
        path["get"] = operation;
    };
    let after = query("after", "The version after which the events begin. Default: 0.");
    if state {
        let mut found = response("The state.", "application/json", &json!({}));
        found["headers"] = json!({ "ETag": entity_tag() });
        let parameters = [query("version", "The version to show. Default: the current one.")];
        let mut operation = read(&format!("{name}.state"), "Reads the state.", &parameters, &found);
        operation["responses"]["304"] = json!({ "description": "The client's copy is current." });
        operation["tags"] = json!([name]);
        add(format!("{path}/{{id}}"), operation);
    }
    if history {
        let page = json!({
            "type": "object",
            "properties": {
                "events": { "type": "array", "items": reference("Event") },
                "next": { "type": ["integer", "null"], "description": "`after` of the next page." },
            },
            "required": ["events", "next"],
        });
        let found = response("A page of events.", "application/json", &page);
        let limit = query("limit", "The number of events, at most 1,000. Default: 100.");
        let parameters = [after.clone(), limit];
        let mut operation =
            read(&format!("{name}.history"), "Reads the events.", &parameters, &found);
        operation["tags"] = json!([name]);
        add(format!("{path}/{{id}}/history"), operation);
    }
    if events {
        let found = response(
            "Server-sent events: each has the version as id and an Event as data.",
            "text/event-stream",
            &json!({ "type": "string" }),
        );
        let seen = header("Last-Event-ID", "The last version that the client has seen.", false);
        let parameters = [after, seen];
        let mut operation =
            read(&format!("{name}.events"), "Follows the events.", &parameters, &found);
        operation["tags"] = json!([name]);
        add(format!("{path}/{{id}}/events"), operation);
    }
}

fn merge(into: &mut Value, part: Value) {
    match (into, part) {
        (Value::Object(into), Value::Object(part)) => {
            for (name, value) in part {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, part) => *into = part,
    }
}

fn command<A: Aggregate>(
    kind: &MessageKind,
    content: Option<Value>,
    rejections: &BTreeMap<u16, Vec<Value>>,
    requires_key: bool,
) -> Value {
    let content = content.unwrap_or_else(|| json!({}));
    let takes_empty = content.get("required").is_none() && content["type"] == "object";
    let mut sent = response("The command was handled.", "application/json", &reference("Sent"));
    sent["headers"] = json!({
        "ETag": entity_tag(),
        "Composable-Position": {
            "description": "The log position of the last event that the command caused.",
            "schema": { "type": "string" },
        },
    });
    let mut responses = json!({ "200": sent });
    let framework = [400, 409, 412, 413, 415, 422, 503, 504].into_iter();
    let statuses: BTreeSet<u16> = framework.chain(rejections.keys().copied()).collect();
    for status in statuses {
        responses[status.to_string()] = match rejections.get(&status) {
            None => json!({ "$ref": "#/components/responses/Problem" }),
            Some(of_status) => {
                let mut choices = of_status.clone();
                choices.push(reference("Problem"));
                let schema = json!({ "anyOf": choices });
                response("A rejection, or another error.", "application/problem+json", &schema)
            }
        };
    }
    responses["default"] = json!({ "$ref": "#/components/responses/Problem" });
    let mut operation = json!({
        "operationId": kind.name,
        "tags": [A::NAME],
        "parameters": [
            header("Idempotency-Key", "A unique key in quotation marks.", requires_key),
            header("If-Match", "The version that the stream must have, in quotation marks.", false),
            header("traceparent", "The W3C trace context.", false),
        ],
        "requestBody": {
            "required": !takes_empty,
            "content": { "application/json": { "schema": content } },
        },
        "responses": responses,
    });
    if !kind.summary.is_empty() {
        operation["summary"] = json!(kind.summary);
    }
    operation
}

fn read(id: &str, summary: &str, parameters: &[Value], found: &Value) -> Value {
    json!({
        "operationId": id,
        "summary": summary,
        "parameters": parameters,
        "responses": {
            "200": found,
            "404": { "$ref": "#/components/responses/Problem" },
            "default": { "$ref": "#/components/responses/Problem" },
        },
    })
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("{}{schema}", JsonSchemas::REFERENCE) })
}

fn response(description: &str, media_type: &str, schema: &Value) -> Value {
    json!({ "description": description, "content": { media_type: { "schema": schema } } })
}

fn header(name: &str, description: &str, required: bool) -> Value {
    json!({
        "name": name, "in": "header", "description": description, "required": required,
        "schema": { "type": "string" },
    })
}

fn query(name: &str, description: &str) -> Value {
    json!({
        "name": name, "in": "query", "description": description,
        "schema": { "type": "integer", "minimum": 0 },
    })
}

fn id_parameter<A: Aggregate>() -> Value {
    json!({
        "name": "id", "in": "path", "required": true,
        "description": format!("The id of the {}.", A::NAME),
        "schema": { "type": "string", "minLength": 1, "maxLength": 1024 },
    })
}

fn entity_tag() -> Value {
    json!({
        "description": "The version of the stream, in quotation marks.",
        "schema": { "type": "string" },
    })
}

/// Returns the schema of a rejection: a problem with its code and its fields.
fn rejection(kind: &MessageKind, content: Option<&Value>) -> Value {
    let mut properties = json!({
        "code": { "const": kind.name },
        "status": { "const": rejection_status(kind).as_u16() },
    });
    match content.map(|content| (content, &content["properties"])) {
        Some((_, Value::Object(fields))) if !has_reserved(fields) => {
            for (name, schema) in fields {
                properties[name] = schema.clone();
            }
        }
        Some((content, _)) => properties["rejection"] = content.clone(),
        None => {}
    }
    let mut schema = json!({
        "allOf": [reference("Problem")],
        "properties": properties,
        "required": ["code", "status"],
    });
    if !kind.summary.is_empty() {
        schema["description"] = json!(kind.summary);
    }
    schema
}

fn problem() -> Value {
    json!({
        "type": "object",
        "description": "Problem details of RFC 9457.",
        "properties": {
            "type": { "type": "string", "format": "uri-reference" },
            "title": { "type": "string" },
            "status": { "type": "integer", "minimum": 400, "maximum": 599 },
            "detail": { "type": "string", "description": "An explanation for people." },
            "code": { "type": "string", "description": "The stable name of the error." },
        },
        "required": ["type", "title", "status", "code"],
    })
}

fn sent() -> Value {
    json!({
        "type": "object",
        "properties": {
            "id": { "type": "string", "description": "The id of the instance." },
            "version": { "type": "integer", "minimum": 0, "description": "The version of the stream." },
            "position": {
                "type": ["string", "null"],
                "description": "The log position of the last event that the command caused.",
            },
        },
        "required": ["id", "version", "position"],
    })
}

fn event() -> Value {
    json!({
        "type": "object",
        "description": "A recorded event; its type and content are null once it is erased.",
        "properties": {
            "version": { "type": "integer", "minimum": 1 },
            "position": { "type": "string" },
            "recorded_at": { "type": "string", "format": "date-time" },
            "user": { "type": "string" },
            "type": { "type": ["string", "null"] },
            "content": {},
        },
        "required": ["version", "position", "recorded_at", "type", "content"],
    })
}
