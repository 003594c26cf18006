//! The differences between the lock file and the traced shapes, and what to do about each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use composable_rust_core::schema::{Rename, Shape, ShapeChange};
use similar::TextDiff;

/// The differences, by kind.
#[derive(Debug, Default)]
pub(super) struct Differences {
    /// The entries in which only names inside of the content differ, and these names.
    renamed: Vec<(String, Vec<Rename>)>,
    /// The entries to which fields were added or from which fields were removed, and the advice.
    fields: Vec<(String, String)>,
    changed: Vec<String>,
    /// The variants that are stored under another name: the old name, and the new entry.
    moved: Vec<(String, String)>,
    gone: Vec<String>,
    pub(super) added: Vec<String>,
}

/// The name of an entry: its owner and role, its stored name, and its version.
fn parts(entry: &str) -> Option<(&str, &str, u16)> {
    let (name, version) = entry.rsplit_once(' ')?;
    let (owner, name) = name.rsplit_once(' ')?;
    Some((owner, name, version.parse().ok()?))
}

impl Differences {
    pub(super) fn between(old: &BTreeMap<&str, String>, traced: &BTreeMap<String, Shape>) -> Self {
        let mut differences = Self::default();
        for (name, printed) in old {
            match traced.get(*name) {
                None => differences.gone.push((*name).to_owned()),
                Some(shape) if !shape.is_same_as(printed) => {
                    differences.change(name, shape.change_from(printed), traced);
                }
                Some(_) => {}
            }
        }
        let added = traced.keys().filter(|name| !old.contains_key(name.as_str()));
        differences.added = added.cloned().collect();
        differences.find_moved(old, traced);
        differences
    }

    /// Returns `true` if anything stored could no longer be read.
    pub(super) fn breaks(&self) -> bool {
        let Self { renamed, fields, changed, moved, gone, added: _ } = self;
        !(renamed.is_empty()
            && fields.is_empty()
            && changed.is_empty()
            && moved.is_empty()
            && gone.is_empty())
    }

    fn change(&mut self, entry: &str, change: ShapeChange, traced: &BTreeMap<String, Shape>) {
        let newest = |(owner, name, version)| {
            let later = |other: &String| {
                parts(other).is_some_and(|(of, to, at)| (of, to) == (owner, name) && at > version)
            };
            !traced.keys().any(later)
        };
        match (change, parts(entry)) {
            (ShapeChange::Renamed(renames), _) => self.renamed.push((entry.to_owned(), renames)),
            (ShapeChange::Fields { added, removed }, Some(parts)) if newest(parts) => {
                let version = parts.2.saturating_add(1);
                let mut advice = format!("#[message(version = {version}");
                for removed in removed {
                    let _ = write!(advice, ", removed({}: …, since = {version}", removed.name);
                    if let Some(before) = removed.before {
                        let _ = write!(advice, ", before = {before}");
                    }
                    advice.push(')');
                }
                advice.push_str(")]");
                for added in added {
                    let _ = write!(
                        advice,
                        "\n        #[message(since = {version}, default = …)] on `{added}`"
                    );
                }
                self.fields.push((entry.to_owned(), advice));
            }
            _ => self.changed.push(entry.to_owned()),
        }
    }

    /// Finds the variants of which all versions have disappeared and appeared under one other name.
    fn find_moved(&mut self, old: &BTreeMap<&str, String>, traced: &BTreeMap<String, Shape>) {
        let group = |entries: &[String]| {
            let mut groups = BTreeMap::<(String, String), BTreeSet<u16>>::new();
            for (owner, name, version) in entries.iter().filter_map(|entry| parts(entry)) {
                let group = groups.entry((owner.to_owned(), name.to_owned())).or_default();
                group.insert(version);
            }
            groups
        };
        let (gone, added) = (group(&self.gone), group(&self.added));
        let is_same = |owner: &str, from: &str, to: &str, versions: &BTreeSet<u16>| {
            versions.iter().all(|version| {
                let before = old.get(format!("{owner} {from} {version}").as_str());
                let now = traced.get(&format!("{owner} {to} {version}"));
                before.zip(now).is_some_and(|(before, now)| now.is_same_as(before))
            })
        };
        let mut pairs = Vec::new();
        for ((owner, from), versions) in &gone {
            for ((_, to), _) in
                added.iter().filter(|((of, _), other)| of == owner && *other == versions)
            {
                if is_same(owner, from, to, versions) {
                    pairs.push((owner, from, to, versions));
                }
            }
        }
        // Several variants of one shape: nothing says which became which.
        let is_only = |pair: &(&String, &String, &String, &BTreeSet<u16>)| {
            let same = |other: &&(&String, &String, &String, &BTreeSet<u16>)| {
                other.0 == pair.0 && (other.1 == pair.1 || other.2 == pair.2)
            };
            pairs.iter().filter(same).count() == 1
        };
        for (owner, from, to, versions) in pairs.iter().filter(|pair| is_only(pair)) {
            for version in *versions {
                let (from, to) =
                    (format!("{owner} {from} {version}"), format!("{owner} {to} {version}"));
                self.gone.retain(|entry| *entry != from);
                self.added.retain(|entry| *entry != to);
            }
            self.moved.push(((*from).clone(), format!("{owner} {to}")));
        }
    }

    pub(super) fn explain(&self, path: &Path, old: &str, new: &str) -> String {
        let mut text = format!("what is stored is not what {} says\n", path.display());
        self.explain_names(&mut text);
        self.explain_content(&mut text);
        if self.breaks() {
            text.push_str(
                "\nIf it was never stored anywhere: UPDATE_EVENTS_LOCK=force cargo test\n",
            );
        }
        let _ = write!(
            text,
            "\n{}",
            TextDiff::from_lines(old, new).unified_diff().context_radius(3).header("locked", "now")
        );
        text
    }

    fn explain_names(&self, text: &mut String) {
        if !self.renamed.is_empty() {
            let entries: Vec<_> = self.renamed.iter().map(|(entry, _)| entry.clone()).collect();
            let mut cures = BTreeSet::new();
            for (entry, renames) in &self.renamed {
                let message = parts(entry).map_or("the message", |(_, name, _)| name);
                cures.extend(renames.iter().map(|rename| {
                    let Rename { place, old, new, .. } = rename;
                    let place = if place.is_empty() { message } else { place };
                    format!("    #[serde(rename = {old:?})] on `{new}` of `{place}`\n")
                }));
            }
            let cures: String = cures.into_iter().collect();
            say(
                text,
                &entries,
                "Only names differ",
                &format!(
                    "The binary format does not write these names, but JSON does. Renamed: keep the \
                     stored name.\n{cures}If it means something else than before, give each \
                     variant the next version."
                ),
            );
        }
        if !self.moved.is_empty() {
            let entries = self.moved.iter().map(|(from, to)| format!("{to}, formerly {from}"));
            let cures = self.moved.iter().map(|(from, to)| {
                let to = to.rsplit(' ').next().unwrap_or(to);
                format!("    #[message(name = {from:?})] on the variant of `{to}`\n")
            });
            let cures: String = cures.collect();
            say(
                text,
                &entries.collect::<Vec<_>>(),
                "Stored under another name",
                &format!(
                    "What was stored under the old name could not be read any more. Renamed: keep \
                     the stored name.\n{cures}Another message of the same shape: put the old \
                     variant back for as long as anything stored has it."
                ),
            );
        }
    }

    fn explain_content(&self, text: &mut String) {
        let fields: Vec<_> = self
            .fields
            .iter()
            .map(|(entry, advice)| format!("{entry}\n        {advice}"))
            .collect();
        say(
            text,
            &fields,
            "Fields were added or removed without a new version",
            "What was stored before would be refused, or read as something else. Give the variant \
             the next version, as\nshown; without `default`, older messages have \
             `Default::default()`.",
        );
        say(
            text,
            &self.changed,
            "Changed without a new version",
            "What was stored before would be refused, or read as something else. Give the variant \
             the next version and\nkeep the old shape as a struct that it is made from:\n    \
             #[message(version = 2, from(1 = OldShape))]",
        );
        say(
            text,
            &self.gone,
            "No longer there",
            "What was stored under these could not be read any more. Renamed: keep the name with \
             #[message(name = \"…\")].\nA new version: say which fields it added with \
             #[message(since = 2)], or name the old shape with\n#[message(version = 2, from(1 = \
             OldShape))]. Removed: put the variant back for as long as anything stored has it.",
        );
        say(
            text,
            &self.added,
            "New",
            "Take them over and commit the file: UPDATE_EVENTS_LOCK=1 cargo test",
        );
    }
}

/// Adds a paragraph about entries, if there are any.
fn say(text: &mut String, entries: &[String], what: &str, to_do: &str) {
    if entries.is_empty() {
        return;
    }
    let _ = write!(text, "\n{what}:\n");
    for entry in entries {
        let _ = writeln!(text, "    {entry}");
    }
    let _ = writeln!(text, "{to_do}");
}
