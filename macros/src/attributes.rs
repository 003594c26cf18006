//! Parses the keys of `#[message(…)]` on an enum, its variants and their fields.

use syn::meta::ParseNestedMeta;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Attribute, Error, LitInt, LitStr, Path, Result, Token, Type};

use crate::errors::Errors;

/// The attributes of the enum.
#[derive(Default)]
pub(crate) struct EnumAttributes {
    pub(crate) prefix: Option<String>,
    pub(crate) root: Option<Path>,
}

/// The attributes of a variant.
#[derive(Default)]
pub(crate) struct VariantAttributes {
    pub(crate) name: Option<LitStr>,
    pub(crate) version: Option<(u16, LitInt)>,
    pub(crate) upcasters: Vec<Upcaster>,
    /// The older version that is written for now, from `write = N`.
    pub(crate) write: Option<(u16, LitInt)>,
    pub(crate) internal: bool,
    /// The HTTP status of a rejection.
    pub(crate) status: Option<u16>,
    pub(crate) other: bool,
    pub(crate) reply: bool,
    pub(crate) answer: bool,
}

/// The shape of an older version: one `N = Type` of `from(…)`.
pub(crate) struct Upcaster {
    pub(crate) version: u16,
    pub(crate) literal: LitInt,
    pub(crate) shape: Type,
}

/// The attributes of a field.
#[derive(Default)]
pub(crate) struct FieldAttributes {
    pub(crate) opaque: Option<LitStr>,
}

impl EnumAttributes {
    pub(crate) fn parse(attributes: &[Attribute], errors: &mut Errors) -> Self {
        let mut parsed = Self::default();
        each(attributes, errors, |meta| {
            if meta.path.is_ident("prefix") {
                let text = text(meta)?;
                check_name(&text)?;
                parsed.prefix = Some(text.value());
            } else if meta.path.is_ident("crate") {
                parsed.root = Some(meta.value()?.parse::<LitStr>()?.parse()?);
            } else {
                return Err(unknown(meta, "an enum", "`prefix = \"…\"`, `crate = \"…\"`"));
            }
            Ok(())
        });
        parsed
    }
}

impl VariantAttributes {
    pub(crate) fn parse(attributes: &[Attribute], errors: &mut Errors) -> Self {
        let mut parsed = Self::default();
        each(attributes, errors, |meta| {
            if meta.path.is_ident("name") {
                let text = text(meta)?;
                check_name(&text)?;
                parsed.name = Some(text);
            } else if meta.path.is_ident("version") {
                parsed.version = Some(version(&meta.value()?.parse()?)?);
            } else if meta.path.is_ident("write") {
                parsed.write = Some(version(&meta.value()?.parse()?)?);
            } else if meta.path.is_ident("from") {
                parsed.upcasters = upcasters(meta)?;
            } else if meta.path.is_ident("status") {
                parsed.status = Some(status(&meta.value()?.parse()?)?);
            } else if meta.path.is_ident("internal") {
                parsed.internal = true;
            } else if meta.path.is_ident("other") {
                parsed.other = true;
            } else if meta.path.is_ident("reply") {
                parsed.reply = true;
            } else if meta.path.is_ident("answer") {
                parsed.answer = true;
            } else {
                let keys = "`name = \"…\"`, `version = N`, `from(1 = OldShape, …)`, \
                            `write = N`, `internal`, `status = 4xx`, `other`, `reply`, `answer`";
                return Err(unknown(meta, "a variant", keys));
            }
            Ok(())
        });
        parsed
    }
}

impl FieldAttributes {
    pub(crate) fn parse(attributes: &[Attribute], errors: &mut Errors) -> Self {
        let mut parsed = Self::default();
        each(attributes, errors, |meta| {
            if meta.path.is_ident("opaque") {
                let text = text(meta)?;
                if text.value().trim().is_empty() {
                    return Err(Error::new(text.span(), "say what it is, such as \"uuid 1\""));
                }
                parsed.opaque = Some(text);
                Ok(())
            } else {
                Err(unknown(meta, "a field", "`opaque = \"name 1\"`"))
            }
        });
        parsed
    }
}

/// Calls `key` for each key of each `#[message(…)]`. An error ends its attribute, not the others,
/// so that one compilation reports them all.
fn each(
    attributes: &[Attribute],
    errors: &mut Errors,
    mut key: impl FnMut(&ParseNestedMeta) -> Result<()>,
) {
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("message")) {
        if let Err(error) = attribute.parse_nested_meta(|meta| key(&meta)) {
            errors.push(error);
        }
    }
}

fn text(meta: &ParseNestedMeta) -> Result<LitStr> {
    meta.value()?.parse()
}

fn unknown(meta: &ParseNestedMeta, place: &str, keys: &str) -> Error {
    let key = meta.path.get_ident().map_or_else(|| "this".to_owned(), |key| format!("`{key}`"));
    meta.error(format!("{key} is not a key of #[message(…)] on {place}; the keys are {keys}"))
}

fn check_name(text: &LitStr) -> Result<()> {
    let name = text.value();
    if name.is_empty() || name.starts_with('$') || name.contains('\0') {
        let message = "a stored name is not empty, does not begin with `$` and holds no NUL";
        return Err(Error::new(text.span(), message));
    }
    Ok(())
}

fn version(literal: &LitInt) -> Result<(u16, LitInt)> {
    match literal.base10_parse::<u16>() {
        Ok(version) if version > 0 => Ok((version, literal.clone())),
        _ => Err(Error::new(literal.span(), "a version is a number from 1 to 65535")),
    }
}

fn status(literal: &LitInt) -> Result<u16> {
    match literal.base10_parse::<u16>() {
        Ok(status @ 400..=599) => Ok(status),
        _ => Err(Error::new(literal.span(), "the status of a rejection is from 400 to 599")),
    }
}

fn upcasters(meta: &ParseNestedMeta) -> Result<Vec<Upcaster>> {
    let content;
    syn::parenthesized!(content in meta.input);
    let list = Punctuated::<Upcaster, Token![,]>::parse_terminated(&content)?;
    if list.is_empty() {
        return Err(Error::new(meta.path.span(), "name the old shapes: `from(1 = OldShape, …)`"));
    }
    Ok(list.into_iter().collect())
}

impl syn::parse::Parse for Upcaster {
    fn parse(input: syn::parse::ParseStream) -> Result<Self> {
        let (version, literal) = version(&input.parse()?)?;
        input.parse::<Token![=]>()?;
        Ok(Self { version, literal, shape: input.parse()? })
    }
}
