//! Passes serde's attributes on to the hidden structs.

use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::{Attribute, Expr, ExprLit, ExprPath, Lit, LitStr, Meta, Result, Token};

use crate::errors::Errors;

/// serde's attributes of a field.
#[derive(Default)]
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

pub(crate) enum SerializeWith {
    /// The module of `with`, which has a function `serialize`.
    Module(ExprPath),
    Function(ExprPath),
}

impl SerdeField {
    pub(crate) fn parse(attributes: &[Attribute], errors: &mut Errors) -> Self {
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
        field
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

/// Returns the attributes of a variant that concern its content.
pub(crate) fn of_variant(attributes: &[Attribute], errors: &mut Errors) -> Vec<Meta> {
    let concerning = ["rename_all", "deny_unknown_fields"];
    metas(attributes, errors)
        .into_iter()
        .filter(|meta| concerning.iter().any(|key| meta.path().is_ident(key)))
        .collect()
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
