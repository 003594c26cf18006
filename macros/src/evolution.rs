//! The contents of older versions that follow from `since` and `removed(…)`.

use syn::{Ident, LitInt, Member};

use crate::attributes::RemovedField;
use crate::errors::Errors;
use crate::model::{DerivedVersion, MessageField, MessageVariant, Role, shape};

/// A field of any version, in the order in which all of them are stored.
struct Lifetime {
    field: MessageField,
    /// The first version with the field.
    added: u16,
    /// The first version without the field; `None` if it is a current one.
    removed: Option<u16>,
    /// The places of both numbers, for errors.
    literals: Vec<(u16, LitInt)>,
}

/// Returns the contents of the versions after the last that `from(…)` names and before the current
/// one; none if no field was added or removed.
pub(crate) fn derive(
    variant: &MessageVariant,
    is_tuple: bool,
    removed: Vec<RemovedField>,
    of: &Ident,
    errors: &mut Errors,
) -> Vec<DerivedVersion> {
    let lifetimes = lifetimes(variant, is_tuple, removed, of, errors);
    if lifetimes.iter().all(|lifetime| lifetime.literals.is_empty()) {
        return Vec::new();
    }
    let named = variant.upcasters.last().map(|last| last.version);
    let oldest = named.map_or(1, |last| last.saturating_add(1));
    if !check(variant, oldest, &lifetimes, errors) {
        return Vec::new();
    }
    let content = |version| {
        let fields = lifetimes.iter().filter(|lifetime| lifetime.contains(version));
        let fields = fields
            .enumerate()
            .map(|(position, lifetime)| MessageField { position, ..lifetime.field.clone() });
        let fields: Vec<_> = fields.collect();
        DerivedVersion { version, shape: shape(is_tuple, &fields), fields }
    };
    (oldest..variant.version).map(content).collect()
}

impl Lifetime {
    fn contains(&self, version: u16) -> bool {
        self.added <= version && self.removed.is_none_or(|removed| version < removed)
    }
}

/// Returns the fields of all versions: the current ones, and the removed ones at their places.
fn lifetimes(
    variant: &MessageVariant,
    is_tuple: bool,
    removed: Vec<RemovedField>,
    of: &Ident,
    errors: &mut Errors,
) -> Vec<Lifetime> {
    let current = variant.fields.iter().map(|field| Lifetime {
        field: field.clone(),
        added: field.since.as_ref().map_or(1, |(since, _)| *since),
        removed: None,
        literals: field.since.iter().cloned().collect(),
    });
    let mut all: Vec<_> = current.collect();
    for removed in removed {
        if removed.field.ident.is_none() != is_tuple {
            let form =
                if is_tuple { "removed(Type, since = N)" } else { "removed(name: Type, …)" };
            let message =
                format!("`{}` takes this as `{form}`, as its other fields are", variant.ident);
            errors.at(&removed.field.ty, message);
        }
        let mut field = MessageField::read(&removed.field, all.len(), of, errors);
        if let Some((_, literal)) = &field.since {
            errors
                .at(literal, "say it after the type: `removed(field: Type, added = 2, since = 3)`");
        }
        (field.index, field.default) = (None, removed.default);
        let place = match &removed.before {
            None => all.len(),
            Some(before) => place(&all, before).unwrap_or_else(|| {
                let message = format!("`{}` has no such field", variant.ident);
                errors.at(before, message);
                all.len()
            }),
        };
        let since = removed.since.0;
        let added = removed.added.as_ref().map_or(1, |(added, _)| *added);
        let literals = [removed.since].into_iter().chain(removed.added).collect();
        all.insert(place, Lifetime { field, added, removed: Some(since), literals });
    }
    all
}

/// Returns the place of a current field among all fields.
fn place(all: &[Lifetime], before: &Member) -> Option<usize> {
    let is_it = |field: &MessageField| field.index.is_some() && field.member() == *before;
    all.iter().position(|lifetime| is_it(&lifetime.field))
}

/// Reports the mistakes in the versions that fields name. Returns `true` if there are none.
fn check(
    variant: &MessageVariant,
    oldest: u16,
    lifetimes: &[Lifetime],
    errors: &mut Errors,
) -> bool {
    let (name, current) = (&variant.ident, variant.version);
    let mut is_right = true;
    let mut wrong = |literal: &LitInt, message: &str| {
        errors.at(literal, message);
        is_right = false;
    };
    for lifetime in lifetimes {
        for (version, literal) in &lifetime.literals {
            if variant.role != Role::Plain {
                let message = "the fields before a reply or an outcome are its tag: name the older \
                               tag in `from(…)`, as a struct that ends with the reply";
                wrong(literal, message);
            } else if *version == 1 {
                wrong(literal, "version 1 is the first: name the later one that changed the field");
            } else if *version > current {
                let message = format!(
                    "`{name}` has version {current}: raise it with #[message(version = {version})]"
                );
                wrong(literal, &message);
            } else if lifetime.field.serde.is_skipped() {
                wrong(literal, "the field is not stored, in no version: leave this out");
            } else if *version <= oldest {
                let message = format!(
                    "version {} of `{name}` is in `from(…)`, so its conversion says what becomes \
                     of the field: leave this out",
                    oldest - 1
                );
                wrong(literal, &message);
            }
        }
        if let (Some(removed), Some((_, literal))) = (lifetime.removed, lifetime.literals.first()) {
            if removed <= lifetime.added && lifetime.added > 1 {
                wrong(literal, "the field is removed after it was added: `since` is the later one");
            }
        }
    }
    for version in oldest + 1..=current {
        let changes = |lifetime: &Lifetime| lifetime.literals.iter().any(|(at, _)| *at == version);
        if is_right && !lifetimes.iter().any(changes) {
            let message = format!(
                "nothing says what version {version} changed: `since = {version}` on a field or in \
                 `removed(…)`, or the shape of version {older} in `from({older} = OldShape)`",
                older = version - 1
            );
            errors.at(name, message);
            is_right = false;
        }
    }
    is_right
}
