//! The frame of all pages.

use maud::{DOCTYPE, Markup, html};

use crate::context::Context;
use crate::page::Page;
use crate::{assets, live, notice};

/// The sections: path, title, and the key that leads there after `g`.
pub(crate) const SECTIONS: [(&str, &str, &str); 14] = [
    ("/", "Overview", "o"),
    ("/streams", "Streams", "s"),
    ("/events", "Events", "e"),
    ("/sagas", "Sagas", "u"),
    ("/queues", "Queues", "q"),
    ("/dead-letters", "Dead letters", "d"),
    ("/timers", "Timers", "t"),
    ("/projections", "Projections", "p"),
    ("/bus", "Bus", "b"),
    ("/gateways", "Gateways", "w"),
    ("/processes", "Processes", "r"),
    ("/schema", "Schema", "c"),
    ("/audit", "Audit", "a"),
    ("/doctor", "Doctor", "x"),
];

/// Returns a whole document.
pub(crate) fn whole(context: &Context, page: &Page) -> Markup {
    let body = html! { (page.body) };
    let digest = live::digest(&body.0);
    document(
        context.base.as_ref(),
        &page.title,
        &html! {
            (navigation(context))
            main {
                header.page {
                    h1 { (page.title) }
                    @if !page.command.is_empty() {
                        code.command title="The same on the command line" {
                            "composable " (page.command)
                        }
                    }
                    @if page.is_live {
                        button #pause type="button" title="Pause live updates (p)" { "live" }
                    }
                }
                (notice::shown(context))
                (page.head)
                @if page.is_live { div #live data-shown=(digest) { (body) } }
                @else { div #still { (body) } }
            }
            (keys())
        },
    )
}

/// Returns a document without navigation.
pub(crate) fn document(base: &str, title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Composable" }
                link rel="icon" href=(assets::link(base, "icon.svg"));
                link rel="stylesheet" href=(assets::link(base, "console.css"));
                script src=(assets::link(base, "console.js")) defer {}
            }
            body { (body) }
        }
    }
}

fn keys() -> Markup {
    html! {
        dialog #keys {
            h2 { "Keys" }
            table { tbody {
                @for (key, does) in [
                    ("/", "search"), ("j k", "next and previous row"), ("Enter", "open the row"),
                    ("p", "pause live updates"), ("Esc", "leave a field"),
                ] {
                    tr { td.mono { (key) } td { (does) } }
                }
                @for (_, title, key) in SECTIONS { tr { td.mono { "g " (key) } td { (title) } } }
            } }
            form method="dialog" { button { "Close" } }
        }
    }
}

fn navigation(context: &Context) -> Markup {
    let section = SECTIONS.iter().rev().find(|(path, ..)| context.path.starts_with(path));
    html! {
        nav aria-label="Sections" {
            @for (path, title, key) in SECTIONS {
                @let is_here = section.is_some_and(|here| here.0 == path);
                a href=(context.link(path)) data-key=(key) aria-current=[is_here.then_some("page")] {
                    (title)
                }
            }
            div.user {
                (context.user())
                @if !context.may_change() { " " span.tag { "read-only" } }
                @if matches!(context.identity.proof, crate::access::identity::Proof::Session(_)) {
                    form.inline method="post" action=(context.link("/logout")) {
                        button type="submit" { "Log out" }
                    }
                }
            }
        }
    }
}
