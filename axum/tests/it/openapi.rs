//! `OpenAPI` documents.

use axum::Router;
use composable_rust_axum::{OpenApi, aggregate};
use serde_json::{Value, json};

use crate::order::Order;
use crate::same_names::{bill, invoice, refund};
use crate::support::{app, get, post};

fn document() -> Value {
    let orders = aggregate::<Order>(&app()).public().all_commands().state().history().events();
    OpenApi::new("Orders", "1.0").aggregate("/orders", &orders).into_json()
}

/// Returns a validator of a schema in a document.
fn validator(document: &Value, schema: &Value) -> jsonschema::Validator {
    let mut schema = schema.clone();
    // References are those of the document.
    schema["components"] = document["components"].clone();
    jsonschema::draft202012::new(&schema).unwrap()
}

#[test]
fn the_document_is_valid() {
    let document = document();
    let parsed = oas3::from_json(document.to_string()).unwrap();
    parsed.validate_version().unwrap();
    let paths = parsed.paths.unwrap();
    assert_eq!(
        paths.keys().collect::<Vec<_>>(),
        [
            "/orders/{id}",
            "/orders/{id}/events",
            "/orders/{id}/history",
            "/orders/{id}/hold",
            "/orders/{id}/panic",
            "/orders/{id}/place",
            "/orders/{id}/ship",
        ]
    );
    let mut ids: Vec<_> = paths
        .values()
        .flat_map(oas3::spec::PathItem::methods)
        .map(|(_, op)| &op.operation_id)
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 7, "operation ids are unique");
    for schema in document["components"]["schemas"].as_object().unwrap().values() {
        assert!(jsonschema::meta::is_valid(schema), "{schema}");
    }
    assert_references(&document, &document);
}

/// Asserts that each reference leads to a part of the document.
fn assert_references(document: &Value, value: &Value) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get("$ref") {
                let pointer = reference.strip_prefix('#').unwrap();
                assert!(document.pointer(pointer).is_some(), "{reference}");
            }
            fields.values().for_each(|value| assert_references(document, value));
        }
        Value::Array(items) => items.iter().for_each(|value| assert_references(document, value)),
        _ => {}
    }
}

#[test]
fn commands_and_rejections_are_described() {
    let document = document();
    let place = &document["paths"]["/orders/{id}/place"]["post"];
    assert_eq!(place["summary"], "Places the order.");
    let schema = &place["requestBody"]["content"]["application/json"]["schema"];
    let validator = validator(&document, schema);
    for valid in [
        json!({ "units": 2 }),
        json!({ "units": 2, "wrapping": null }),
        json!({ "units": 2, "wrapping": "plain" }),
        json!({ "units": 2, "wrapping": { "gift": { "card": "x", "layers": [{ "color": "red" }] } } }),
    ] {
        assert!(validator.is_valid(&valid), "{valid}");
    }
    for invalid in [
        json!({}),
        json!({ "units": -1 }),
        json!({ "units": 2, "unit": 1 }),
        json!({ "units": 2, "wrapping": "nice" }),
        json!({ "units": 2, "wrapping": { "gift": { "card": "x", "layers": [{}] } } }),
    ] {
        assert!(!validator.is_valid(&invalid), "{invalid}");
    }
    assert_eq!(place["requestBody"]["required"], true);
    let ship = &document["paths"]["/orders/{id}/ship"]["post"];
    assert_eq!(ship["requestBody"]["required"], false);
    let responses = place["responses"].as_object().unwrap();
    let described = responses["404"]["content"]["application/problem+json"].to_string();
    assert!(described.contains("order.unknown") && !described.contains("order.too_many"));
}

#[tokio::test]
async fn responses_are_as_described() {
    let app = app();
    let orders = aggregate::<Order>(&app).public().all_commands().state().history();
    let openapi = OpenApi::new("Orders", "1.0")
        .aggregate("/orders", &orders)
        .merge(json!({ "servers": [{ "url": "https://api.example.com" }] }));
    let router = Router::new()
        .nest("/orders", orders.router())
        .route("/openapi.json", openapi.clone().route());
    let served = get(&router, "/openapi.json").await.ok(200);
    assert_eq!(served, openapi.into_json());
    assert_eq!(served["servers"][0]["url"], "https://api.example.com");
    let schemas = &served["components"]["schemas"];
    let sent = post(&router, "/orders/1/place", r#"{"units":2}"#).await.ok(200);
    assert!(validator(&served, &schemas["Sent"]).is_valid(&sent));
    let event = get(&router, "/orders/1/history").await.ok(200)["events"][0].clone();
    assert!(validator(&served, &schemas["Event"]).is_valid(&event), "{event}");
    for (path, body, name) in [
        ("/orders/2/ship", "", "order.unknown"),
        ("/orders/2/place", r#"{"units":100}"#, "order.too_many"),
        ("/orders/2/place", r#"{"units":0}"#, "order.no_units"),
        ("/orders/1/place", r#"{"units":3}"#, "order.already_placed"),
    ] {
        let problem = post(&router, path, body).await.json();
        assert_eq!(problem["code"], name);
        let validator = validator(&served, &schemas[name]);
        assert!(validator.is_valid(&problem), "{problem}");
        assert!(!validator.is_valid(&json!({ "code": name })));
    }
}

#[test]
fn types_of_one_name_are_different_components() {
    let app = app();
    let orders = aggregate::<Order>(&app).public().all_commands();
    let bills = aggregate::<bill::Bill>(&app).public().all_commands();
    let invoices = aggregate::<invoice::Invoice>(&app).public().all_commands();
    let refunds = aggregate::<refund::Refund>(&app).public().all_commands();
    let document = OpenApi::new("Billing", "1.0")
        .aggregate("/orders", &orders)
        .aggregate("/bills", &bills)
        .aggregate("/invoices", &invoices)
        .aggregate("/admin/invoices", &invoices)
        .aggregate("/refunds", &refunds)
        .into_json();
    oas3::from_json(document.to_string()).unwrap().validate_version().unwrap();
    assert_references(&document, &document);
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let types: Vec<_> = schemas.keys().filter(|name| name.contains(char::is_uppercase)).collect();
    // `Line` is the same in bills and invoices but for the `Money` in it; `Currency` is the same.
    let expected = [
        "Currency",
        "Event",
        "Layer",
        "Problem",
        "Sent",
        "Wrapping",
        "bill.Line",
        "bill.Money",
        "invoice.Line",
        "invoice.Money",
        "refund.Event",
    ];
    assert_eq!(types, expected);
    let body = |path: &str| {
        let post = &document["paths"][path]["post"];
        validator(&document, &post["requestBody"]["content"]["application/json"]["schema"])
    };
    let line = |money: Value| json!({ "line": { "price": money } });
    let (cents, text) = (line(json!({ "cents": 1, "currency": "eur" })), line(json!("1.00 EUR")));
    assert!(body("/bills/{id}/add").is_valid(&cents) && !body("/bills/{id}/add").is_valid(&text));
    for path in ["/invoices/{id}/add", "/admin/invoices/{id}/add"] {
        let amount = line(json!({ "amount": "1.00", "currency": "eur" }));
        assert!(body(path).is_valid(&amount) && !body(path).is_valid(&cents), "{path}");
    }
    assert!(body("/refunds/{id}/note").is_valid(&json!({ "event": { "reason": "late" } })));
    let reversed = OpenApi::new("Billing", "1.0")
        .aggregate("/refunds", &refunds)
        .aggregate("/admin/invoices", &invoices)
        .aggregate("/invoices", &invoices)
        .aggregate("/bills", &bills)
        .aggregate("/orders", &orders)
        .into_json();
    assert_eq!(document, reversed, "the order in which aggregates are added does not matter");
}

#[test]
fn merged_parts_win() {
    let orders = aggregate::<Order>(&app()).public().all_commands();
    let summary = json!({ "paths": { "/orders/{id}/ship": { "post": { "summary": "Ships." } } } });
    let document =
        OpenApi::new("Orders", "1.0").merge(summary).aggregate("/orders", &orders).into_json();
    let ship = &document["paths"]["/orders/{id}/ship"]["post"];
    assert_eq!((&ship["summary"], &ship["operationId"]), (&json!("Ships."), &json!("order.ship")));
}
