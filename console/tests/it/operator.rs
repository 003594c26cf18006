//! An operator, who follows links and presses buttons.

use axum::Router;

use crate::world::{Reply, get, log_in, post};

/// A user of the console who is logged in, with the page that they see.
pub(crate) struct Visitor {
    router: Router,
    cookie: String,
    path: String,
    text: String,
    /// The number of links followed and buttons pressed.
    pub(crate) clicks: u32,
}

impl Visitor {
    /// Logs in, and opens the overview.
    pub(crate) async fn start(router: &Router) -> Self {
        let cookie = log_in(router).await;
        let (router, path) = (router.clone(), "/ops".to_owned());
        let mut visitor = Self { router, cookie, path, text: String::new(), clicks: 0 };
        visitor.reload().await;
        visitor
    }

    pub(crate) async fn reload(&mut self) {
        let reply = get(&self.path).cookie(&self.cookie).of(&self.router).await;
        assert_eq!(reply.status, 200, "{}: {}", self.path, reply.text);
        self.text = reply.text;
    }

    /// Asserts that the page contains a text.
    #[track_caller]
    pub(crate) fn sees(&self, part: &str) {
        assert!(self.has(part), "{} has no `{part}`: {}", self.path, self.text);
    }

    /// Returns `true` if the page contains a text.
    pub(crate) fn has(&self, part: &str) -> bool {
        self.text.contains(part)
    }

    /// Loads the page again until it contains a text.
    pub(crate) async fn waits_for(&mut self, part: &str) {
        for _ in 0..600 {
            if self.has(part) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            self.reload().await;
        }
        self.sees(part);
    }

    /// Follows the first link whose text is, or contains in its last tag, this one.
    pub(crate) async fn follows(&mut self, label: &str) {
        let found = self.text.split("<a ").skip(1).find_map(|link| {
            let (tag, rest) = link.split_once('>')?;
            let (inner, _) = rest.split_once("</a>")?;
            let (_, href) = tag.split_once("href=\"")?;
            inner.contains(label).then(|| href.split('"').next().unwrap().replace("&amp;", "&"))
        });
        self.path = found.unwrap_or_else(|| panic!("no link `{label}`: {}", self.text));
        self.clicks += 1;
        self.reload().await;
    }

    /// Fills in the first form that has a button with this label, and presses it.
    pub(crate) async fn presses(&mut self, label: &str, values: &[(&str, &str)]) {
        let button = format!("type=\"submit\">{label}</button>");
        let is_of = |form: &&str| form.contains(&button) || form.contains(&format!(">{label}<"));
        let forms = self.text.split("<form ").skip(1);
        let forms = forms.map(|form| form.split_once("</form>").map_or(form, |(form, _)| form));
        let form = forms.filter(is_of).find(|form| form.contains("method=\"post\""));
        let form = form.unwrap_or_else(|| panic!("no button `{label}`: {}", self.text));
        let action = between(form, "action=\"", '"').to_owned();
        let hidden = form.split("<input type=\"hidden\" ").skip(1).map(|input| {
            (between(input, "name=\"", '"').to_owned(), decoded(between(input, "value=\"", '"')))
        });
        let given = values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let fields: Vec<(String, String)> = hidden.chain(given).collect();
        let fields: Vec<(&str, &str)> =
            fields.iter().map(|(name, value)| (&**name, &**value)).collect();
        self.clicks += 1;
        let reply = post(&action, &fields).cookie(&self.cookie).own().of(&self.router).await;
        self.arrives(reply, action).await;
    }

    async fn arrives(&mut self, reply: Reply, action: String) {
        match reply.status {
            303 => {
                reply.location().clone_into(&mut self.path);
                self.reload().await;
            }
            200 => (self.path, self.text) = (action, reply.text),
            status => panic!("{action}: {status} {}", reply.text),
        }
    }
}

fn between<'t>(text: &'t str, start: &str, end: char) -> &'t str {
    let (_, rest) = text.split_once(start).unwrap_or_else(|| panic!("no `{start}` in {text}"));
    rest.split(end).next().unwrap()
}

fn decoded(text: &str) -> String {
    let entities = [("&quot;", "\""), ("&lt;", "<"), ("&gt;", ">"), ("&#39;", "'"), ("&amp;", "&")];
    entities.iter().fold(text.to_owned(), |text, (entity, of)| text.replace(entity, of))
}
