//! The console in Chromium, by `chromedriver`, which `cargo xtask browser` installs. Without one,
//! the tests are skipped outside of CI.
//!
//! `CONSOLE_SCREENSHOTS=DIR` keeps a picture of each page.

use std::path::Path;
use std::time::Duration;

use axum::Router;
use composable_rust_admin::Admin;
use composable_rust_console::Payloads;
use composable_rust_core::{TargetExt as _, Version};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::app::{Order, OrderCommand};
use crate::webdriver::Browser;
use crate::world::{SCRIPT, TOKEN, admin_with, console, encoded, group, undecided};

/// A server on a port of this machine, and a browser.
struct Session {
    browser: Browser,
    base: String,
    admin: Admin,
    stop: oneshot::Sender<()>,
    server: JoinHandle<bool>,
}

impl Session {
    /// Returns `None` where no browser is required and none is there.
    async fn start(dark: bool) -> Option<Self> {
        let Some(browser) = Browser::start(dark).await else {
            assert!(std::env::var_os("CI").is_none(), "there is no chromedriver: {INSTALL}");
            eprintln!("skipped: there is no chromedriver; {INSTALL}");
            return None;
        };
        let admin = admin_with(text()).await;
        let router = console(&admin).allow_changes().payloads(Payloads::Shown).router().unwrap();
        let router = Router::new().nest("/ops", router);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/ops", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let app = admin.app().clone();
        let server = tokio::spawn(async move {
            let signal = async { drop(stopped.await) };
            let grace = Duration::from_secs(10);
            composable_rust_axum::serve(&app, listener, router, signal, grace).await.unwrap()
        });
        let session = Self { browser, base, admin, stop, server };
        session.open("").await;
        session.browser.fill("input[name=token]", TOKEN).await;
        session.browser.click("button[type=submit]").await;
        session.browser.wait_for("Overview").await;
        Some(session)
    }

    async fn open(&self, path: &str) {
        self.browser.open(&format!("{}{path}", self.base)).await;
    }

    /// Stops the server, which live pages must not delay.
    async fn stop(self) {
        let Self { browser, stop, server, .. } = self;
        stop.send(()).unwrap();
        let stopped = tokio::time::timeout(Duration::from_secs(5), server).await;
        assert!(stopped.expect("the server stops").unwrap());
        drop(browser);
    }
}

/// Asserts that a browser has logged nothing.
async fn is_quiet(browser: &Browser, page: &str) {
    assert_eq!(browser.logged().await, [""; 0], "{page}");
}

async fn keep(browser: &Browser, name: &str) {
    if let Some(folder) = std::env::var_os(SCREENSHOTS) {
        let picture = decoded(&browser.screenshot().await);
        let file = Path::new(&folder).join(format!("console-{name}.png"));
        std::fs::write(file, picture).unwrap();
    }
}

/// The variable that names the folder for pictures.
const SCREENSHOTS: &str = "CONSOLE_SCREENSHOTS";
const INSTALL: &str = "`cargo xtask browser` installs it";

/// Returns the text in ids and contents: a script, except in pictures.
fn text() -> &'static str {
    if std::env::var_os(SCREENSHOTS).is_some() { "18" } else { SCRIPT }
}

fn decoded(base64: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for digit in base64.bytes() {
        let Some(value) = DIGITS.iter().position(|of| *of == digit) else { continue };
        (bits, count) = (bits << 6 | u32::try_from(value).unwrap(), count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).unwrap());
        }
    }
    bytes
}

#[tokio::test]
async fn every_page_opens_without_errors() {
    let Some(session) = Session::start(false).await else { return };
    every_page(&session, true).await;
    session.stop().await;
}

#[tokio::test]
async fn every_page_fits_a_telephone_in_the_dark() {
    let Some(session) = Session::start(true).await else { return };
    session.browser.resize(390, 800).await;
    every_page(&session, false).await;
    let ground = "return getComputedStyle(document.documentElement).backgroundColor";
    assert_eq!(session.browser.run(ground).await, "rgb(17, 21, 27)");
    let scale = "return window.innerWidth";
    assert_eq!(session.browser.run(scale).await, 390);
    session.stop().await;
}

/// Opens every page, which must fit the window and log nothing.
async fn every_page(session: &Session, keeps: bool) {
    let stream = Order::id("17").stream();
    let history = session.admin.history(&stream, Version::ZERO, 1).await;
    let event = history.unwrap().entries.remove(0);
    let id = event.correlation_id.unwrap();
    let group = group(&session.admin).await;
    let around = encoded(&event.recorded_at.to_string());
    for (name, path) in [
        ("overview", String::new()),
        ("streams", "/streams?prefix=order-".to_owned()),
        ("instance", "/streams/order-17".to_owned()),
        ("diff", "/streams/order-17?at=1".to_owned()),
        ("replacement", "/streams/order-17/replace?version=1".to_owned()),
        ("script", format!("/streams/order-{}", encoded(text()))),
        ("events", "/events".to_owned()),
        ("trace", format!("/traces/{id}?around={around}")),
        ("sagas", "/sagas?category=order".to_owned()),
        ("queues", "/queues".to_owned()),
        ("messages", "/queues/messages?kind=dispatch&target=stock".to_owned()),
        ("dead-letters", "/dead-letters".to_owned()),
        ("group", format!("/dead-letters/list?group={group}")),
        ("rehearsal", format!("/dead-letters/rehearsal?group={group}")),
        ("timers", "/timers".to_owned()),
        ("projections", "/projections".to_owned()),
        ("bus", "/bus".to_owned()),
        ("gateways", "/gateways".to_owned()),
        ("processes", "/processes".to_owned()),
        ("schema", "/schema".to_owned()),
        ("audit", "/audit".to_owned()),
        ("doctor", "/doctor".to_owned()),
    ] {
        session.open(&path).await;
        let title = session.browser.run("return document.querySelector('h1').innerText").await;
        assert_ne!(title.as_str().unwrap_or_default(), "", "{path}");
        let wide = "return document.documentElement.scrollWidth > window.innerWidth";
        assert_eq!(session.browser.run(wide).await, false, "{path} is wider than the window");
        let hidden = "return [...document.querySelectorAll('main button, main a, main input')] \
                      .some((of) => !of.closest('.scroll, pre, dialog') && \
                      of.getBoundingClientRect().right > window.innerWidth + 1)";
        assert_eq!(session.browser.run(hidden).await, false, "{path} has a part out of reach");
        if path.is_empty() {
            session.browser.wait_until("return document.querySelector('svg.plot') !== null").await;
        }
        is_quiet(&session.browser, &path).await;
        if keeps {
            keep(&session.browser, name).await;
        }
    }
}

#[tokio::test]
async fn a_dead_letter_is_redriven_by_a_click_and_lists_are_live() {
    let Some(session) = Session::start(true).await else { return };
    session.open("/dead-letters").await;
    session.browser.wait_for("parked by carl").await;
    session.browser.click("form[action$='/dead-letters/redrive'] button").await;
    session.browser.wait_for("1 redriven.").await;
    assert_eq!(undecided(&session.admin).await, 0);
    session.browser.wait_for("There are none.").await;

    session.open("/streams?prefix=order-").await;
    let place = OrderCommand::Place { note: String::new() };
    session.admin.app().handle(&Order::id("fresh")).send(place).await.unwrap();
    session.browser.wait_for("order-fresh").await;
    is_quiet(&session.browser, "live streams").await;
    keep(&session.browser, "dark").await;
    session.stop().await;
}

#[tokio::test]
async fn keys_lead_through_the_console() {
    let Some(session) = Session::start(false).await else { return };
    session.browser.press("gs").await;
    session.browser.wait_for("order-17").await;
    session.browser.press("jj").await;
    let row = "return document.querySelector('tr.at a').innerText";
    let row = session.browser.run(row).await;
    session.browser.press("\u{E007}").await;
    session.browser.wait_for("Inbox").await;
    let title = session.browser.run("return document.querySelector('h1').innerText").await;
    assert_eq!(title, row);
    session.browser.press("gd").await;
    session.browser.wait_for("parked by carl").await;
    session.browser.press("/").await;
    let focused = session.browser.run("return document.activeElement.name").await;
    assert_eq!(focused, "error");
    assert!(session.browser.url().await.ends_with("/ops/dead-letters"));
    is_quiet(&session.browser, "keys").await;
    session.stop().await;
}

/// Keeps pictures of the demo's consoles, which run elsewhere:
///
/// ```sh
/// cargo run -p production-ready -- demo &
/// CONSOLE_URL=http://127.0.0.1:8080/console CONSOLE_SCREENSHOTS=$PWD/docs/src/images \
///     cargo test -p composable-rust-console -- --ignored pictures_of_the_demo
/// ```
#[tokio::test]
#[ignore = "needs the demo of `production-ready`: its documentation says how"]
async fn pictures_of_the_demo() {
    let base = std::env::var("CONSOLE_URL").expect("CONSOLE_URL is the address of the consoles");
    let browser = Browser::start(false).await.expect(INSTALL);
    for (name, path) in [
        ("overview", "/orders"),
        ("sagas", "/orders/sagas"),
        ("instance", "/orders/sagas"),
        ("trace", "/orders/sagas"),
        ("gateways", "/payments/gateways"),
    ] {
        browser.open(&format!("{base}{path}")).await;
        match name {
            "overview" => browser.wait_until("return !!document.querySelector('svg.plot')").await,
            // Not by a click: a live update may replace the link before it.
            "instance" | "trace" => follow(&browser, "td a.mono", "Inbox").await,
            _ => {}
        }
        if name == "trace" {
            follow(&browser, "td a[href*='/traces/']", "messages handled").await;
        }
        is_quiet(&browser, name).await;
        keep(&browser, name).await;
    }
}

/// Opens the page that a link leads to, which contains a text.
async fn follow(browser: &Browser, css: &str, text: &str) {
    browser.run(&format!("location.href = document.querySelector(\"{css}\").href")).await;
    browser.wait_for(text).await;
}
