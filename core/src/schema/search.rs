//! The search: repeated readings of a type until every part of it was seen.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;

use super::deserializer::{Error, Tracing};
use super::format::{self, Body, Fields, Format, Key, Variant, Variants};
use super::sample::Samples;

/// The largest number of passes over a type.
const MAX_PASSES: u32 = 20_000;
/// The largest number of values that one pass reads.
const MAX_STEPS: u32 = 200_000;
/// The deepest nesting of named types.
const MAX_DEPTH: usize = 128;
/// The largest number of successful passes without anything new.
const MAX_STALE: u32 = 16;
/// The number of sites before a failure whose values are varied.
const MAX_BACK: usize = 12;

/// A place where a value is chosen: the innermost named type, the field or variant in it, and the
/// visitor that reads the value.
pub(super) type Site = (Key, usize, &'static str);

/// The distance of a type in which nothing is unknown.
const NOWHERE: u32 = u32::MAX;

pub(super) struct Search<'s> {
    pub(super) samples: &'s Samples,
    /// `true` if the types are read as from JSON, `false` if as from the binary format.
    pub(super) is_json: bool,
    types: BTreeMap<Key, Body>,
    /// The distance of each type from the nearest unknown format.
    distances: BTreeMap<Key, u32>,
    /// The index of the value to pass at each site.
    picks: BTreeMap<Site, usize>,
    /// The sites at which every value was tried without success.
    exhausted: BTreeSet<Site>,
    pass: Pass,
    /// `true` if this pass found anything new.
    news: bool,
}

/// The record of one pass.
#[derive(Default)]
struct Pass {
    stack: Vec<Frame>,
    /// The sites at which a value was chosen, each with its number of possible values.
    choices: Vec<(Site, usize)>,
    variants: Vec<(Key, usize)>,
    steps: u32,
    /// The path of the first error.
    failed_at: String,
}

struct Frame {
    key: Key,
    slot: usize,
    variant: Option<usize>,
    /// The names of the fields that are being read, by slot.
    names: &'static [&'static str],
}

/// The formats of a type and of the named types in it.
#[derive(Debug, Clone)]
pub(super) struct Traced {
    pub(super) root: Format,
    pub(super) types: BTreeMap<Key, Body>,
}

/// The reason for which a type cannot be traced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reason {
    pub(super) text: String,
    /// `true` if the type cannot be stored in the binary format.
    pub(super) is_unstorable: bool,
}

/// Returns the formats of `T`, or the reason for which they cannot be traced.
pub(super) fn formats<T: DeserializeOwned>(samples: &Samples) -> Result<Traced, Reason> {
    let mut search = Search::new(samples, false);
    let mut root = Format::Unknown;
    search.run::<T>(&mut root)?;
    Ok(Traced { root, types: search.types })
}

/// Returns the format of `T` in JSON, with the named types in it. Parts that cannot be traced are
/// unknown.
pub(super) fn json<T: DeserializeOwned>(samples: &Samples) -> (Format, BTreeMap<Key, Body>) {
    let mut search = Search::new(samples, true);
    let mut root = Format::Unknown;
    let _ = search.run::<T>(&mut root);
    (root, search.types)
}

impl Traced {
    pub(super) fn print(&self) -> String {
        format::print(&self.root, &self.types)
    }
}

impl<'s> Search<'s> {
    fn new(samples: &'s Samples, is_json: bool) -> Self {
        Self {
            samples,
            is_json,
            types: BTreeMap::new(),
            distances: BTreeMap::new(),
            picks: BTreeMap::new(),
            exhausted: BTreeSet::new(),
            pass: Pass::default(),
            news: false,
        }
    }

    /// Finds the format of `T`.
    fn run<T: DeserializeOwned>(&mut self, root: &mut Format) -> Result<(), Reason> {
        let mut stale = 0;
        let mut reason = None;
        for _ in 0..MAX_PASSES {
            self.measure();
            if self.distance(root) == NOWHERE {
                return Ok(());
            }
            (self.pass, self.news) = (Pass::default(), false);
            let mut seen = Format::Unknown;
            let read = T::deserialize(Tracing::root(self, &mut seen)).map(drop);
            self.news |= root.merge(seen).map_err(|_| self.reason(&Error::conflict()))?;
            self.rate_variants(read.is_ok());
            if self.news {
                self.exhausted.clear();
                (stale, reason) = (0, None);
            }
            match read {
                Err(error) if error.is_final() => return Err(self.reason(&error)),
                Err(error) if !self.news => {
                    // The first error is about the likeliest value.
                    let first = reason.take().unwrap_or_else(|| self.reason(&error));
                    if !self.vary() {
                        return Err(first);
                    }
                    reason = Some(first);
                }
                Ok(()) if !self.news && stale == MAX_STALE => break,
                Ok(()) => stale += 1,
                Err(_) => {}
            }
        }
        Err(Reason { text: "some part of it was never read".to_owned(), is_unstorable: false })
    }

    /// Returns the reason of a failed pass, with the path at which it failed.
    fn reason(&self, error: &Error) -> Reason {
        let (path, message) = (&self.pass.failed_at, error.to_string());
        let text = match message.strip_prefix("it ") {
            _ if path.is_empty() => message,
            Some(rest) => format!("`{path}` {rest}"),
            None => format!("`{path}`: {message}"),
        };
        Reason { text, is_unstorable: error.is_unstorable() }
    }

    /// Records the path to the value that is being read, as that of the pass's first error.
    pub(super) fn fails_here(&mut self) {
        if !self.pass.failed_at.is_empty() {
            return;
        }
        let mut path = Vec::<&str>::new();
        for frame in &self.pass.stack {
            if let (Some(index), Some(Body::Enum(variants))) =
                (frame.variant, self.types.get(&frame.key))
            {
                path.extend(variants.names.get(index));
            }
            path.extend(frame.names.get(frame.slot));
        }
        self.pass.failed_at = path.join(".");
    }

    fn rate_variants(&mut self, proven: bool) {
        for (key, index) in std::mem::take(&mut self.pass.variants) {
            if let Some(variant) = self.variant(key, index) {
                if proven {
                    variant.proven = true;
                } else {
                    variant.failures += 1;
                }
            }
        }
    }

    /// Selects another value for the last site before the failure that has values left. Returns
    /// `false` if no site has.
    fn vary(&mut self) -> bool {
        let mut back = BTreeSet::new();
        for (site, count) in std::mem::take(&mut self.pass.choices).into_iter().rev() {
            if self.exhausted.contains(&site) || !back.insert(site) {
                continue;
            }
            if back.len() > MAX_BACK {
                break;
            }
            let pick = self.picks.entry(site).or_default();
            *pick += 1;
            if *pick < count {
                return true;
            }
            *pick = 0;
            self.exhausted.insert(site);
        }
        false
    }

    /// Chooses one of `count` possible values for the visitor that reads here.
    pub(super) fn choose(&mut self, reader: &'static str, count: usize) -> usize {
        let (key, slot) = self.pass.stack.last().map_or((("", ""), 0), |frame| {
            (frame.key, frame.slot + frame.variant.map_or(0, |index| (index + 1) << 16))
        });
        let site = (key, slot, reader);
        self.pass.choices.push((site, count));
        self.picks.get(&site).copied().unwrap_or_default().min(count.saturating_sub(1))
    }

    /// Counts a value; fails if the type is too large or has no end.
    pub(super) fn step(&mut self) -> Result<(), Error> {
        self.pass.steps += 1;
        if self.pass.steps > MAX_STEPS {
            return Err(Error::endless());
        }
        Ok(())
    }

    pub(super) fn steps(&self) -> u32 {
        self.pass.steps
    }

    /// Enters a named type. Returns `true` if its value must end as soon as possible: the type is
    /// being read already, or nothing in it is unknown.
    pub(super) fn enter(&mut self, key: Key) -> Result<bool, Error> {
        if self.pass.stack.len() >= MAX_DEPTH {
            return Err(Error::endless());
        }
        let hurry = self.is_open(key) || self.distances.get(&key) == Some(&NOWHERE);
        self.pass.stack.push(Frame { key, slot: 0, variant: None, names: &[] });
        Ok(hurry)
    }

    pub(super) fn leave(&mut self) {
        self.pass.stack.pop();
    }

    pub(super) fn at_slot(&mut self, slot: usize) {
        if let Some(frame) = self.pass.stack.last_mut() {
            frame.slot = slot;
        }
    }

    /// Records the names of the fields that are being read.
    pub(super) fn at_names(&mut self, names: &'static [&'static str]) {
        if let Some(frame) = self.pass.stack.last_mut() {
            frame.names = names;
        }
    }

    fn is_open(&self, key: Key) -> bool {
        self.pass.stack.iter().any(|frame| frame.key == key)
    }

    /// Records the content of a named type or, if one of its variants is being read, of the
    /// variant.
    pub(super) fn record(
        &mut self,
        key: Key,
        variant: Option<usize>,
        seen: Body,
    ) -> Result<(), Error> {
        let place = match variant {
            None => self.types.entry(key).or_insert_with(|| seen.blank()),
            Some(index) => match self.variant(key, index) {
                Some(variant) => {
                    if variant.body.is_none() {
                        variant.body = Some(seen.blank());
                        self.news = true;
                    }
                    let Some(body) = self.variant(key, index).and_then(|known| known.body.as_mut())
                    else {
                        return Ok(());
                    };
                    body
                }
                None => return Ok(()),
            },
        };
        let news = place.merge(seen).map_err(|_| Error::conflict())?;
        self.news |= news;
        Ok(())
    }

    /// Returns the fields of a struct or of a struct variant, if it was read before.
    pub(super) fn fields(&mut self, key: Key, variant: Option<usize>) -> Option<&mut Fields> {
        let body = match variant {
            None => self.types.get_mut(&key),
            Some(index) => self.variant(key, index)?.body.as_mut(),
        };
        match body {
            Some(Body::Struct(fields)) => Some(fields),
            _ => None,
        }
    }

    /// Records a finding about the names of a struct's fields.
    pub(super) fn name_fields(
        &mut self,
        key: Key,
        variant: Option<usize>,
        learn: impl FnOnce(&mut Fields),
    ) {
        if let Some(fields) = self.fields(key, variant) {
            learn(fields);
            self.news = true;
        }
    }

    fn variants(&mut self, key: Key) -> Option<&mut Variants> {
        match self.types.get_mut(&key) {
            Some(Body::Enum(variants)) => Some(variants),
            _ => None,
        }
    }

    fn variant(&mut self, key: Key, index: usize) -> Option<&mut Variant> {
        self.variants(key)?.list.get_mut(index)
    }

    /// Chooses the variant to read next: the nearest to an unknown format, or, in a hurry or if
    /// nothing is unknown, the hint or a variant that ends soon.
    pub(super) fn choose_variant(
        &mut self,
        key: Key,
        hurry: bool,
        hint: Option<usize>,
    ) -> Result<usize, Error> {
        let active: BTreeSet<_> = self
            .pass
            .stack
            .iter()
            .filter(|frame| frame.key == key)
            .filter_map(|frame| frame.variant)
            .collect();
        let Some(Body::Enum(variants)) = self.types.get(&key) else { return Err(Error::endless()) };
        let candidates = variants.list.iter().enumerate().filter(|(i, _)| !active.contains(i));
        let nearest = candidates
            .clone()
            .map(|(i, variant)| ((self.distance_of(variant), !variant.proven, variant.failures), i))
            .min();
        let quickest = candidates
            .min_by_key(|(i, variant)| {
                let cost = variant.cost.unwrap_or(u32::MAX);
                (!variant.proven, cost == u32::MAX, variant.failures, cost, *i)
            })
            .map(|(i, _)| i);
        let index = match nearest {
            Some(((distance, ..), i)) if !hurry && distance != NOWHERE => Some(i),
            _ => hint.filter(|i| *i < variants.list.len()).or(quickest),
        };
        let index = index.ok_or_else(Error::endless)?;
        self.pass.variants.push((key, index));
        if let Some(frame) = self.pass.stack.last_mut() {
            frame.variant = Some(index);
        }
        Ok(index)
    }

    /// Records that the index of a variant was refused. There are fewer variants than names, so
    /// some names are aliases.
    pub(super) fn lacks_variant(&mut self, key: Key, index: usize) {
        if let Some(variants) = self.variants(key) {
            variants.list.truncate(index);
            self.news = true;
        }
    }

    /// Records that a variant was read to its end in `steps` steps.
    pub(super) fn costs(&mut self, key: Key, index: usize, steps: u32) {
        if let Some(variant) = self.variant(key, index) {
            variant.cost = Some(variant.cost.map_or(steps, |known| known.min(steps)));
        }
    }

    /// Recomputes the distance of each type from the nearest unknown format.
    fn measure(&mut self) {
        self.distances = self.types.keys().map(|key| (*key, NOWHERE)).collect();
        let mut changed = true;
        while changed {
            changed = false;
            for (key, body) in &self.types {
                let distance = self.distance_in(body).saturating_add(1);
                let known = self.distances.entry(*key).or_insert(NOWHERE);
                if distance < *known {
                    *known = distance;
                    changed = true;
                }
            }
        }
    }

    fn distance(&self, format: &Format) -> u32 {
        match format {
            Format::Unknown => 0,
            Format::Primitive(_) | Format::Opaque(_) => NOWHERE,
            Format::Option(inner) | Format::Seq(inner) => self.distance(inner),
            Format::Map(key, value) => self.distance(key).min(self.distance(value)),
            Format::Tuple(items) => self.nearest(items),
            Format::Named(key) => self.distances.get(key).copied().unwrap_or(0),
        }
    }

    fn nearest(&self, items: &[Format]) -> u32 {
        items.iter().map(|item| self.distance(item)).min().unwrap_or(NOWHERE)
    }

    fn distance_in(&self, body: &Body) -> u32 {
        match body {
            Body::Unit => NOWHERE,
            Body::Newtype(format) => self.distance(format),
            Body::Tuple(items) => self.nearest(items),
            Body::Struct(fields) if !fields.are_complete() => 0,
            Body::Struct(fields) => self.nearest(&fields.formats),
            Body::Enum(variants) => variants
                .list
                .iter()
                .map(|variant| self.distance_of(variant))
                .min()
                .unwrap_or(NOWHERE),
        }
    }

    fn distance_of(&self, variant: &Variant) -> u32 {
        variant.body.as_ref().map_or(0, |body| self.distance_in(body))
    }
}
