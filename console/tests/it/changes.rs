//! Changes, and their entries in the audit.

use composable_rust_admin::{Admin, TimerQuery};
use composable_rust_core::queue::OutboxKind;

use crate::world::{SCRIPT, TOKEN, get, group, log_in, open, post, undecided};

/// Returns the operation, the operator, the reason and the result of the last change.
async fn last(admin: &Admin) -> [String; 4] {
    let entry = admin.audit(None, 1).await.unwrap().entries.into_iter().next().unwrap();
    [entry.intent.operation, entry.operator, entry.reason, entry.result.unwrap_or_default()]
}

#[tokio::test]
async fn a_group_is_redriven_by_its_button() {
    let (router, admin) = open().await;
    let cookie = log_in(&router).await;
    let page = get("/ops/dead-letters").cookie(&cookie).of(&router).await;
    let (code, group) = (page.field("code"), page.field("group"));
    let fields = [("code", &*code), ("group", &group), ("then", "/dead-letters")];
    let done = post("/ops/dead-letters/redrive", &fields).cookie(&cookie).own().of(&router).await;
    assert_eq!(done.status, 303, "{}", done.text);
    assert_eq!(undecided(&admin).await, 0);
    let result = get(done.location()).cookie(&cookie).of(&router).await;
    assert!(result.text.contains("1 redriven."), "{}", result.text);
    let entry = last(&admin).await;
    assert_eq!(entry, ["dead redrive", "ann", "", "1 decided, 0 behind others"]);
    // A notice that the console has not made is not shown.
    let forged = done.location().replace("redriven", "forged");
    assert!(!get(&forged).cookie(&cookie).of(&router).await.text.contains("forged"));
}

#[tokio::test]
async fn discarding_asks_first_and_keeps_the_reason() {
    let (router, admin) = open().await;
    let cookie = log_in(&router).await;
    let code = get("/ops/dead-letters").cookie(&cookie).of(&router).await.field("code");
    let group = group(&admin).await;
    let fields = [("code", &*code), ("group", &group), ("reason", SCRIPT)];
    let asked = post("/ops/dead-letters/discard", &fields).cookie(&cookie).own().of(&router).await;
    assert_eq!((asked.status, undecided(&admin).await), (200, 1));
    assert!(asked.text.contains("Discard all dead letters of the group?"), "{}", asked.text);
    assert!(!asked.text.contains(SCRIPT));
    let (code, group) = (asked.field("code"), asked.field("group"));
    let fields =
        [("code", &*code), ("group", &group), ("confirmed", "yes"), ("reason", "a test of ours")];
    let done = post("/ops/dead-letters/discard", &fields).cookie(&cookie).own().of(&router).await;
    assert_eq!((done.status, undecided(&admin).await), (303, 0));
    assert_eq!(last(&admin).await[..3], ["dead discard", "ann", "a test of ours"]);
}

#[tokio::test]
async fn a_change_without_a_subject_changes_nothing() {
    let (router, admin) = open().await;
    for path in ["/ops/dead-letters/redrive", "/ops/dead-letters/discard", "/ops/queues/park"] {
        let reply = post(path, &[("confirmed", "yes")]).token(TOKEN).of(&router).await;
        assert_eq!(reply.status, 400, "{path}");
    }
    for path in ["/ops/gateways/pause", "/ops/timers/fire"] {
        assert_eq!(post(path, &[]).token(TOKEN).of(&router).await.status, 400, "{path}");
    }
    assert_eq!(undecided(&admin).await, 1);
}

#[tokio::test]
async fn a_form_leads_to_pages_of_the_console_only() {
    let admin = crate::world::admin().await;
    let router = crate::world::console(&admin).allow_changes().router().unwrap();
    for evil in ["//evil.example", "/\\evil.example", "https://evil.example"] {
        let fields = [("group", "none"), ("then", evil)];
        let asked = post("/dead-letters/discard", &fields).token(TOKEN).of(&router).await;
        assert!(asked.text.contains("<a href=\"/\">Cancel"), "{evil}: {}", asked.text);
        let done = post("/dead-letters/redrive", &fields).token(TOKEN).of(&router).await;
        assert!(done.location().starts_with("/dead-letters?done="), "{}", done.location());
    }
}

#[tokio::test]
async fn timers_are_fired_and_cancelled() {
    let (router, admin) = open().await;
    let query = TimerQuery { limit: 10, ..TimerQuery::default() };
    let before = admin.timers(&query).await.unwrap();
    let arming = before[0].arming.to_string();
    let shown = get("/ops/timers").token(TOKEN).of(&router).await.text;
    assert!(shown.contains(&arming), "{shown}");
    let fields = |arming| {
        let confirmed = ("confirmed", "yes");
        [("stream", "order-17"), ("timer", "reminder"), ("arming", arming), confirmed]
    };
    // The timer that was asked about is another one.
    let nobody = fields("00000000-0000-4000-8000-000000000000/0");
    for path in ["/ops/timers/fire", "/ops/timers/cancel"] {
        assert_eq!(post(path, &nobody).token(TOKEN).of(&router).await.status, 409, "{path}");
    }
    let fields = fields(&arming);
    let fired = post("/ops/timers/fire", &fields).token(TOKEN).of(&router).await;
    assert_eq!(fired.status, 303, "{}", fired.text);
    let after = admin.timers(&query).await.unwrap();
    assert!(after[0].due < before[0].due && after.len() == before.len(), "{after:?}");
    let done = post("/ops/timers/cancel", &fields).token(TOKEN).of(&router).await;
    assert_eq!((done.status, admin.timers(&query).await.unwrap().len()), (303, before.len() - 1));
    assert_eq!(post("/ops/timers/cancel", &fields).token(TOKEN).of(&router).await.status, 409);
}

#[tokio::test]
async fn waiting_messages_are_parked_and_discarded() {
    let (router, admin) = open().await;
    let waiting = admin.waiting(OutboxKind::Dispatch, "stock", 10).await.unwrap();
    let id = waiting[0].message.id.to_string();
    let fields = [("id", &*id), ("confirmed", "yes"), ("reason", "odd")];
    let done = post("/ops/queues/park", &fields).token(TOKEN).of(&router).await;
    assert_eq!((done.status, undecided(&admin).await), (303, 2), "{}", done.text);
    assert_eq!(last(&admin).await, ["queues park", "ann", "odd", "parked"]);
}

#[tokio::test]
async fn gateways_and_the_log_are_paused_and_resumed() {
    let (router, admin) = open().await;
    let names = async || {
        let pauses = admin.pauses().await.unwrap();
        pauses.into_iter().map(|of| of.name).collect::<Vec<_>>()
    };
    let send = async |path: &str| {
        let fields = [("name", "bank"), ("confirmed", "yes")];
        let reply = post(path, &fields).token(TOKEN).of(&router).await;
        assert_eq!(reply.status, 303, "{path}: {}", reply.text);
    };
    send("/ops/gateways/pause").await;
    send("/ops/log/pause").await;
    assert_eq!(names().await, ["gateway/bank", "log"]);
    let page = get("/ops/gateways").token(TOKEN).of(&router).await.text;
    assert!(page.contains("bank") && page.contains("by ann"), "{page}");
    send("/ops/gateways/resume").await;
    send("/ops/log/resume").await;
    assert_eq!(names().await, [""; 0]);
}
