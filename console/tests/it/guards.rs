//! Requests that the console refuses.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use axum::http::HeaderName;
use composable_rust_console::{Console, ConsoleError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::world::{
    READER, SCRIPT, TOKEN, WRITER, admin, console, encoded, get, group, log_in, nested, open, post,
    undecided,
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
    let bob = post("/ops/login", &[("token", READER)]).own().of(&router).await.cookie();
    let of_bob = get("/ops/dead-letters").cookie(&bob).of(&router).await;
    assert!(!of_bob.text.contains("name=\"code\""), "a reader has no code");
    let with_bob = post("/ops/dead-letters/redrive", &[("group", &group), ("code", &code)]);
    assert_eq!(with_bob.cookie(&bob).own().of(&router).await.status, 403, "a reader");
    let eve = post("/ops/login", &[("token", WRITER)]).own().of(&router).await.cookie();
    let of_eve = get("/ops/dead-letters").cookie(&eve).of(&router).await.field("code");
    assert_eq!(redrive(&of_eve).own().of(&router).await.status, 403, "another session's code");
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
        "/operations/cancel",
        "/streams/order-17/replace",
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
    // Of a client behind a proxy that only adds its header.
    let smuggled = named("10.0.0.1:9").header("x-forwarded-user", "evil");
    assert_eq!(smuggled.of(&router).await.status, 401, "two names");
    for (header, value) in [
        ("x-forwarded-for", "10.0.0.1"),
        ("forwarded", "for=10.0.0.1"),
        ("x-real-ip", "10.0.0.1"),
        ("x-forwarded-host", "10.0.0.1"),
    ] {
        let feigned = named("10.0.0.2:9").header(header, value).of(&router).await;
        assert_eq!(feigned.status, 401, "{header}");
    }
    let alike = get("/ops/streams").header("x_forwarded_user", "dora").from("10.0.0.1:9");
    assert_eq!(alike.of(&router).await.status, 401, "another name");
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

#[tokio::test]
async fn values_of_a_query_appear_as_text_only() {
    let (router, _) = open().await;
    let evil = format!("\"'>{SCRIPT}");
    let value = encoded(&evil);
    for path in [
        "/ops/streams?prefix=",
        "/ops/streams?contains=",
        "/ops/streams?after=",
        "/ops/streams/",
        "/ops/streams/order-17?at=",
        "/ops/streams/order-17/replace?version=",
        "/ops/events?stream=",
        "/ops/events?category=",
        "/ops/events?name=",
        "/ops/events?correlation=",
        "/ops/events?since=",
        "/ops/events?until=",
        "/ops/events?after=",
        "/ops/traces/",
        "/ops/sagas?category=",
        "/ops/queues/messages?kind=dispatch&target=",
        "/ops/queues/messages?kind=",
        "/ops/dead-letters?error=",
        "/ops/dead-letters/list?group=",
        "/ops/dead-letters/rehearsal?group=",
        "/ops/dead-letters/rehearsal?group=any&again=",
        "/ops/timers?category=",
        "/ops/audit?before=",
        "/ops/operations/",
        "/ops/login?then=",
        "/ops/?done=",
    ] {
        let reply = get(&format!("{path}{value}")).token(TOKEN).of(&router).await;
        assert!(reply.status < 500, "{path}: {} {}", reply.status, reply.text);
        assert!(!reply.text.contains("<script>"), "{path}: {}", reply.text);
        assert!(!reply.text.contains("\"'>"), "{path}: {}", reply.text);
    }
}

#[tokio::test]
async fn large_and_odd_requests_are_answered_in_bounds() {
    let (router, _) = open().await;
    let long = "a".repeat(20_000);
    let most = u64::MAX.to_string();
    for (path, status) in [
        (format!("/ops/streams?prefix={long}"), 200),
        (format!("/ops/streams?contains={long}"), 200),
        (format!("/ops/streams?after={long}"), 400),
        (format!("/ops/streams/{long}"), 400),
        (format!("/ops/events?stream={long}&category={long}&name={long}"), 200),
        (format!("/ops/events?after={}", "0:1,".repeat(5_000)), 200),
        (format!("/ops/events?since={long}"), 400),
        (format!("/ops/dead-letters?error={long}"), 200),
        (format!("/ops/streams/order-17?at={most}"), 200),
        (format!("/ops/streams/order-17?after={most}"), 200),
        (format!("/ops/streams/order-17?at=1&from={most}"), 200),
        (format!("/ops/streams/order-17?at={most}0"), 400),
        ("/ops/streams/order-17?at=-1".to_owned(), 400),
        (format!("/ops/streams/order-17/replace?version={most}"), 404),
        (
            format!("/ops/traces/{}?around=2026-01-01T00:00:00Z&hours={most}", uuid::Uuid::nil()),
            404,
        ),
        ("/ops/streams?prefix=%00%FF".to_owned(), 200),
    ] {
        let reply = get(&path).token(TOKEN).of(&router).await;
        let path: String = path.chars().take(80).collect();
        assert_eq!(reply.status, status, "{path}: {:.300}", reply.text);
        assert!(reply.text.len() < 1_000_000, "{path}: {}", reply.text.len());
    }
    let large = "x".repeat(3_000_000);
    let form = post("/ops/dead-letters/discard", &[("group", &large)]).token(TOKEN);
    assert_eq!(form.of(&router).await.status, 413);
    let login = post("/ops/login", &[("token", &large)]).own().of(&router).await;
    assert_eq!(login.status, 413);
}

#[tokio::test]
async fn odd_paths_and_methods_lead_nowhere() {
    let (router, _) = open().await;
    for path in [
        "/ops/../ops/streams",
        "/ops/streams/..%2F..%2Fetc%2Fpasswd",
        "/ops/streams/%2e%2e",
        "/ops/streams/%00",
        "/ops//streams",
        "/ops/%73treams/none",
        "/ops/assets/any/..%2F..%2FCargo.toml",
        "/ops/assets/any/console.css.map",
        "/ops/STREAMS",
    ] {
        let reply = get(path).token(TOKEN).of(&router).await;
        assert!([400, 404].contains(&reply.status), "{path}: {}", reply.status);
    }
    for (method, path) in
        [("PUT", "/ops/streams"), ("DELETE", "/ops/streams/order-17"), ("POST", "/ops/streams")]
    {
        let reply = crate::world::ask(method, path).token(TOKEN).of(&router).await;
        assert_eq!(reply.status, 405, "{method} {path}");
    }
    let get_of_change = get("/ops/dead-letters/redrive").token(TOKEN).of(&router).await;
    assert_eq!(get_of_change.status, 405);
    for then in ["https://evil.example", "//evil.example", "/%5Cevil.example", "%2F%2Fevil.example"]
    {
        let path = format!("/ops/login?then={then}");
        let reply = post(&path, &[("token", TOKEN)]).own().of(&router).await;
        assert!(reply.location().starts_with("/ops"), "{then}: {}", reply.location());
    }
}

#[tokio::test]
async fn a_form_of_another_encoding_is_refused() {
    let (router, admin) = open().await;
    let group = group(&admin).await;
    for kind in ["text/plain", "multipart/form-data; boundary=x", "application/json"] {
        let form = post("/ops/dead-letters/redrive", &[("group", &group)]).token(TOKEN);
        let reply = form.replaced("content-type", kind).of(&router).await;
        assert_eq!(reply.status, 415, "{kind}: {}", reply.text);
    }
    assert_eq!(undecided(&admin).await, 1);
}

#[tokio::test]
async fn slow_clients_delay_nobody() {
    const HALF: &str = "GET /ops/streams HTTP/1.1\r\nHost: localhost\r\n";
    let (router, admin) = open().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(async move {
        let (signal, grace) = (async { drop(stopped.await) }, Duration::from_secs(1));
        composable_rust_axum::serve(admin.app(), listener, router, signal, grace).await
    });
    let whole = format!("{HALF}Authorization: Bearer {TOKEN}\r\nConnection: close\r\n");
    let live = format!("{whole}Accept: text/event-stream\r\n\r\n");
    // Some never end their requests, and some never read the pages that they are sent.
    let mut slow = Vec::new();
    for n in 0..300 {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let request = if n < 200 { HALF.as_bytes() } else { live.as_bytes() };
        socket.write_all(request).await.unwrap();
        slow.push(socket);
    }
    let answered = async {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(format!("{whole}\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = tokio::time::timeout(Duration::from_secs(10), answered).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("order-17"), "{answer}");
    stop.send(()).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(10), server).await;
    ended.expect("the server stops").unwrap().unwrap();
}
