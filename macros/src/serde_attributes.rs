//! Passes serde's attributes on to the hidden structs.

use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::{Attribute, Expr, ExprLit, ExprPath, Ident, Lit, LitStr, Meta, Result, Token};

use crate::errors::Errors;

/// The advice for a field that serde would fill in.
const ADDED: &str = "a field that was added later says `#[message(since = 2)]`, with `default = …` \
                     if `Default::default()` is not what older messages mean; if this is for JSON \
                     from outside, say `#[message(json)]` beside it";

/// serde's attributes of a field.
#[derive(Clone, Default)]
pub(crate) struct SerdeField {
    /// All attributes, unchanged.
    pub(crate) all: Vec<Meta>,
    /// The function that writes the field, from `with` or `serialize_with`.
    pub(crate) serialize_with: Option<SerializeWith>,
    pub(crate) skip_serializing_if: Option<ExprPath>,
    /// `true` if the field is not written: `skip` or `skip_serializing`.
    pub(crate) skip_serializing: bool,
    /// `true` if the field is not read: `skip` or `skip_deserializing`.
    pub(crate) skip_deserializing: bool,
}

#[derive(Clone)]
pub(crate) enum SerializeWith {
    /// The module of `with`, which has a function `serialize`.
    Module(ExprPath),
    Function(ExprPath),
}

impl SerdeField {
    /// Reads the attributes; `json` is the `#[message(json)]` beside them.
    pub(crate) fn parse(
        attributes: &[Attribute],
        json: Option<&Ident>,
        errors: &mut Errors,
    ) -> Self {
        let mut field = Self { all: metas(attributes, errors), ..Self::default() };
        for meta in &field.all {
            let path = || text(meta).and_then(|text| text.parse::<ExprPath>().ok());
            let is = |key| meta.path().is_ident(key);
            if is("with") {
                field.serialize_with = path().map(SerializeWith::Module);
            } else if is("serialize_with") {
                field.serialize_with = path().map(SerializeWith::Function);
            } else if is("skip_serializing_if") {
                field.skip_serializing_if = path();
            } else if is("skip") {
                field.skip_serializing = true;
                field.skip_deserializing = true;
            } else if is("skip_serializing") {
                field.skip_serializing = true;
            } else if is("skip_deserializing") {
                field.skip_deserializing = true;
            }
        }
        field.refuse_what_does_nothing(json, errors);
        field
    }

    /// Reports attributes that have no effect, or a harmful one, in the binary format, which writes
    /// fields without names and marks no missing ones.
    fn refuse_what_does_nothing(&self, json: Option<&Ident>, errors: &mut Errors) {
        let find = |key: &str| self.all.iter().find(|meta| meta.path().is_ident(key));
        // `default` beside `skip` fills in a field that no format stores.
        let default = find("default").filter(|_| !self.is_skipped());
        let for_json = default.or(find("skip_serializing_if"));
        if let (Some(default), None) = (default, json) {
            let message =
                format!("the binary format marks no missing field, so this does nothing: {ADDED}");
            errors.at(default, message);
        }
        if let (Some(skip), None) = (find("skip_serializing_if"), json) {
            let message = "the binary format marks no missing field, so this does nothing there: \
                           leave it out, or say that it is for JSON with `#[message(json)]` beside it";
            errors.at(skip, message);
        }
        if let (None, Some(json)) = (for_json, json) {
            let message = "nothing here is for JSON only: `json` stands beside \
                           `#[serde(default)]` or `#[serde(skip_serializing_if = \"…\")]`";
            errors.at(json, message);
        }
        if let Some(flatten) = find("flatten") {
            let message = "`flatten` finds fields by their names, which the binary format does not \
                           write: make it a field like the others";
            errors.at(flatten, message);
        }
        let one_way = match (self.skip_serializing, self.skip_deserializing) {
            (true, false) => find("skip_serializing"),
            (false, true) => find("skip_deserializing"),
            _ => None,
        };
        if let Some(one_way) = one_way {
            let message = "the binary format reads the fields in the order in which they are \
                           written: leave the field out of both, with `skip`";
            errors.at(one_way, message);
        }
    }

    pub(crate) fn is_skipped(&self) -> bool {
        self.skip_serializing || self.skip_deserializing
    }

    /// Returns `true` if the field type's own `Serialize` and `Deserialize` are both used.
    pub(crate) fn is_plain(&self) -> bool {
        let with = ["with", "serialize_with", "deserialize_with"];
        let says_how = |meta: &Meta| with.iter().any(|key| meta.path().is_ident(key));
        !self.is_skipped() && !self.all.iter().any(says_how)
    }

    pub(crate) fn is_renamed(&self) -> bool {
        self.all.iter().any(|meta| meta.path().is_ident("rename"))
    }

    /// Returns the attributes that the borrowed struct keeps. Functions that take the field by
    /// reference are replaced, because the field itself is a reference there.
    pub(crate) fn for_writing(&self) -> impl Iterator<Item = &Meta> {
        let replaced = [
            "with",
            "serialize_with",
            "deserialize_with",
            "skip_serializing_if",
            "default",
            "skip_deserializing",
            "borrow",
        ];
        self.all.iter().filter(move |meta| !replaced.iter().any(|key| meta.path().is_ident(key)))
    }

    /// Returns the attributes that name or skip the field, for a field whose type is hidden.
    pub(crate) fn for_opaque(&self) -> impl Iterator<Item = &Meta> {
        let kept = ["rename", "alias", "skip", "skip_deserializing"];
        self.all.iter().filter(move |meta| kept.iter().any(|key| meta.path().is_ident(key)))
    }
}

/// Returns the attributes of a variant that concern its content; `is_named` if
/// `#[message(name = "…")]` names the variant.
pub(crate) fn of_variant(
    attributes: &[Attribute],
    is_named: bool,
    errors: &mut Errors,
) -> Vec<Meta> {
    let mut concerning = Vec::new();
    for meta in metas(attributes, errors) {
        let is = |keys: &[&str]| keys.iter().any(|key| meta.path().is_ident(key));
        if is(&["rename_all", "deny_unknown_fields"]) {
            concerning.push(meta);
        } else if is(&["rename", "alias"]) && !is_named {
            let message = "a message is not stored under serde's name for the variant: say \
                           #[message(name = \"…\")], with the prefix and a dot as in \
                           \"order.placed\"";
            errors.at(meta, message);
        } else if is(&["skip", "skip_serializing", "skip_deserializing", "with", "other"])
            || is(&["serialize_with", "deserialize_with", "untagged", "bound"])
        {
            let message = "this has no effect on how a message is stored: of serde's attributes, a \
                           variant takes `rename_all` and `deny_unknown_fields`; the others belong \
                           to its fields";
            errors.at(meta, message);
        }
    }
    concerning
}

fn metas(attributes: &[Attribute], errors: &mut Errors) -> Vec<Meta> {
    let mut all = Vec::new();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("serde")) {
        match list(attribute) {
            Ok(metas) => all.extend(metas),
            Err(error) => errors.push(error),
        }
    }
    all
}

fn list(attribute: &Attribute) -> Result<Punctuated<Meta, Token![,]>> {
    let tokens = &attribute.meta.require_list()?.tokens;
    Punctuated::<Meta, Token![,]>::parse_terminated.parse2(tokens.clone())
}

fn text(meta: &Meta) -> Option<&LitStr> {
    match &meta.require_name_value().ok()?.value {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text),
        _ => None,
    }
}
