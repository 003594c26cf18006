//! Requests that the console refuses.

use std::net::{IpAddr, Ipv4Addr};

use axum::http::HeaderName;
use composable_rust_console::{Console, ConsoleError};

use crate::world::{
    READER, TOKEN, admin, console, get, group, log_in, nested, open, post, undecided,
};

#[tokio::test]
async fn a_console_without_authentication_is_not_built() {
    let admin = admin().await;
    let built = Console::new(admin.clone()).router();
    assert_eq!(built.unwrap_err(), ConsoleError::NoAuthentication);
    let built = Console::new(admin.clone()).token("ann", "short").router();
    assert!(matches!(built, Err(ConsoleError::ShortToken { name }) if name == "ann"));
    let built = Console::new(admin.clone()).token("ann", TOKEN).token("ann", READER).router();
    assert!(matches!(built, Err(ConsoleError::AmbiguousName { .. })));
    assert!(!format!("{:?}", console(&admin)).contains(TOKEN));
}

#[tokio::test]
async fn who_has_no_token_sees_nothing() {
    let (router, _) = open().await;
    let paths =
        ["/ops", "/ops/streams", "/ops/streams/order-17", "/ops/dead-letters", "/ops/audit"];
    for path in paths {
        for wrong in [get(path), get(path).token("a wrong token, long enough"), get(path).token("")]
        {
            let reply = wrong.of(&router).await;
            assert_eq!(reply.status, 401, "{path}");
            assert_eq!(reply.header("www-authenticate"), "Bearer");
            assert!(!reply.text.contains("order"), "{path}");
        }
        assert_eq!(get(path).token(TOKEN).of(&router).await.status, 200, "{path}");
    }
    let page = get("/ops/streams?prefix=order").header("accept", "text/html").of(&router).await;
    let login = "/ops/login?then=%2Fstreams%3Fprefix%3Dorder";
    assert_eq!((page.status, page.location()), (303, login));
    let group = [("group", "any"), ("confirmed", "yes")];
    let change = post("/ops/dead-letters/discard", &group).own().of(&router).await;
    assert_eq!(change.status, 401);
}

#[tokio::test]
async fn a_login_begins_a_session_that_nobody_can_forge() {
    let (router, _) = open().await;
    let wrong = post("/ops/login", &[("token", "a wrong token, long enough")]).own();
    let wrong = wrong.of(&router).await;
    assert_eq!((wrong.status, wrong.header("set-cookie")), (401, ""));
    let foreign = post("/ops/login", &[("token", TOKEN)]).header("sec-fetch-site", "cross-site");
    assert_eq!(foreign.of(&router).await.status, 403);

    let reply = post("/ops/login?then=%2Fqueues", &[("token", TOKEN)]).own().of(&router).await;
    assert_eq!((reply.status, reply.location()), (303, "/ops/queues"));
    let set = reply.header("set-cookie");
    for part in ["Path=/ops;", "HttpOnly", "SameSite=Strict", "Secure", "Max-Age=43200"] {
        assert!(set.contains(part), "{set}");
    }
    let cookie = reply.cookie();
    let page = get("/ops/streams").cookie(&cookie).of(&router).await;
    assert!(page.status == 200 && page.text.contains("ann"), "{}", page.text);

    let (claims, code) = cookie.rsplit_once('.').unwrap();
    let flipped = if code.starts_with('0') { "1" } else { "0" };
    let others = claims.replacen("=0.", "=1.", 1);
    let later = claims.replacen("=0.", "=0.9", 1);
    for forged in [
        format!("{claims}.{flipped}{}", &code[1..]),
        format!("{others}.{code}"),
        format!("{later}.{code}"),
        format!("{claims}.é{}", &code[2..]),
        claims.to_owned(),
        "composable_console=".to_owned(),
    ] {
        assert_eq!(get("/ops/streams").cookie(&forged).of(&router).await.status, 401, "{forged}");
    }
}

#[tokio::test]
async fn a_changed_token_ends_its_sessions() {
    let admin = admin().await;
    let cookie = log_in(&nested(console(&admin))).await;
    let other = nested(Console::new(admin).token("ann", "another token of hers"));
    assert_eq!(get("/ops/streams").cookie(&cookie).of(&other).await.status, 401);
}

#[tokio::test]
async fn changes_come_from_the_consoles_own_forms() {
    let (router, admin) = open().await;
    let cookie = log_in(&router).await;
    let page = get("/ops/dead-letters").cookie(&cookie).of(&router).await;
    let (code, group) = (page.field("code"), group(&admin).await);
    let redrive = |code: &str| {
        post("/ops/dead-letters/redrive", &[("group", &group), ("code", code)]).cookie(&cookie)
    };
    for site in ["cross-site", "same-site", "none"] {
        let foreign = redrive(&code).header("sec-fetch-site", site).of(&router).await;
        assert_eq!(foreign.status, 403, "{site}");
    }
    for origin in ["https://evil.example", "null", "https://console.example.evil.example"] {
        let foreign = redrive(&code).header("origin", origin).of(&router).await;
        assert_eq!(foreign.status, 403, "{origin}");
    }
    assert_eq!(redrive(&code).of(&router).await.status, 403, "neither header");
    assert_eq!(redrive("").own().of(&router).await.status, 403, "no code");
    assert_eq!(redrive(&"0".repeat(32)).own().of(&router).await.status, 403, "a wrong code");
    assert_eq!(undecided(&admin).await, 1);

    let own = redrive(&code).header("origin", "https://console.example").of(&router).await;
    assert_eq!(own.status, 303, "{}", own.text);
    assert_eq!(undecided(&admin).await, 0);
}

#[tokio::test]
async fn readers_and_read_only_consoles_change_nothing() {
    let (router, admin) = open().await;
    let paths = [
        "/dead-letters/redrive",
        "/dead-letters/discard",
        "/queues/park",
        "/queues/discard",
        "/timers/fire",
        "/timers/cancel",
        "/projections/pause",
        "/projections/resume",
        "/projections/rebuild",
        "/gateways/pause",
        "/gateways/resume",
        "/log/pause",
        "/log/resume",
    ];
    let fields = [("group", "any"), ("name", "any"), ("confirmed", "yes")];
    let before = admin.audit(None, 100).await.unwrap().entries.len();
    let read_only = nested(console(&admin));
    for path in paths {
        let path = format!("/ops{path}");
        let reader = post(&path, &fields).token(READER).of(&router).await;
        assert_eq!(reader.status, 403, "{path}");
        let writer = post(&path, &fields).token(TOKEN).of(&read_only).await;
        assert_eq!(writer.status, 403, "{path}");
        assert!(writer.text.contains("read-only"));
    }
    assert_eq!(admin.audit(None, 100).await.unwrap().entries.len(), before);
    for (router, token) in [(&router, READER), (&read_only, TOKEN)] {
        let page = get("/ops/dead-letters").token(token).of(router).await;
        assert!(!page.text.contains("Redrive</button>"), "{}", page.text);
    }
}

#[tokio::test]
async fn without_authentication_this_machine_alone_is_served() {
    let router = nested(Console::new(admin().await).loopback_only());
    let local = || get("/ops/streams").host("localhost:8080").from("127.0.0.1:9");
    let reply = local().of(&router).await;
    assert!(reply.status == 200 && reply.text.contains("console"), "{}", reply.text);
    let mapped = get("/ops/streams").host("[::1]:8080").from("[::ffff:127.0.0.1]:9");
    assert_eq!(mapped.of(&router).await.status, 200);
    for (refused, why) in [
        (get("/ops/streams").host("localhost"), "no peer"),
        (get("/ops/streams").host("localhost").from("10.0.0.7:9"), "another machine"),
        (local().host("evil.example"), "another name of this machine"),
        (local().header("x-forwarded-for", "10.0.0.7"), "a proxy"),
        (local().header("forwarded", "for=10.0.0.7"), "a proxy"),
    ] {
        let reply = refused.of(&router).await;
        assert_eq!(reply.status, 403, "{why}");
        assert!(!reply.text.contains("order"), "{why}");
    }
}

#[tokio::test]
async fn a_header_counts_only_from_its_proxy() {
    let admin = admin().await;
    let header = HeaderName::from_static("x-forwarded-user");
    let proxy = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    let router = nested(Console::new(admin).trusted_header(header, [proxy]));
    let named = |peer: &str| get("/ops/streams").header("x-forwarded-user", "dora").from(peer);
    let reply = named("10.0.0.1:9").of(&router).await;
    assert!(reply.status == 200 && reply.text.contains("dora"), "{}", reply.text);
    assert_eq!(named("10.0.0.2:9").of(&router).await.status, 401);
    // A proxy that appends its value leaves the client's own.
    let twice = named("10.0.0.1:9").header("x-forwarded-user", "eve");
    assert_eq!(twice.of(&router).await.status, 401);
    let nameless = get("/ops/streams").header("x-forwarded-user", " ").from("10.0.0.1:9");
    assert_eq!(nameless.of(&router).await.status, 401);
}

#[tokio::test]
async fn every_response_restricts_the_browser() {
    let (router, _) = open().await;
    for (ask, status) in [
        (get("/ops/streams").token(TOKEN), 200),
        (get("/ops/streams/none-1").token(TOKEN), 404),
        (get("/ops/streams"), 401),
        (get("/ops/login"), 200),
        (post("/ops/dead-letters/redrive", &[]), 401),
    ] {
        let reply = ask.of(&router).await;
        assert_eq!(reply.status, status);
        let policy = reply.header("content-security-policy");
        for part in ["default-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe"));
        assert_eq!(reply.header("x-content-type-options"), "nosniff");
        assert_eq!(reply.header("cache-control"), "no-store");
        assert_eq!(reply.header("x-frame-options"), "DENY");
    }
}
