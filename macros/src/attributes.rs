//! Parses the keys of `#[message(…)]` on an enum, its variants and their fields.

use syn::ext::IdentExt;
use syn::meta::ParseNestedMeta;
use syn::parse::ParseStream;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Attribute, Error, Expr, Field, Ident, LitInt, LitStr, Path, Result, Token, Type};

use crate::errors::Errors;

/// The attributes of the enum.
#[derive(Default)]
pub(crate) struct EnumAttributes {
    pub(crate) prefix: Option<String>,
    pub(crate) root: Option<Path>,
}

/// The attributes of a variant.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of its own")]
pub(crate) struct VariantAttributes {
    pub(crate) name: Option<LitStr>,
    pub(crate) version: Option<(u16, LitInt)>,
    pub(crate) upcasters: Vec<Upcaster>,
    pub(crate) removed: Vec<RemovedField>,
    /// The older version that is written for now, from `write = N`.
    pub(crate) write: Option<(u16, LitInt)>,
    pub(crate) internal: bool,
    /// The HTTP status of a rejection.
    pub(crate) status: Option<u16>,
    pub(crate) other: bool,
    pub(crate) reply: bool,
    pub(crate) outcome: bool,
}

/// The shape of an older version: one `N = Type` of `from(…)`.
pub(crate) struct Upcaster {
    pub(crate) version: u16,
    pub(crate) literal: LitInt,
    pub(crate) shape: Type,
}

/// One `removed(name: Type, since = N, …)`.
pub(crate) struct RemovedField {
    pub(crate) field: Field,
    /// The first version with the field; `None` for version 1.
    pub(crate) added: Option<(u16, LitInt)>,
    /// The first version without the field.
    pub(crate) since: (u16, LitInt),
    /// The field's value when an older version is written.
    pub(crate) default: Option<Expr>,
    /// The current field that it stood before; `None` if it stood last.
    pub(crate) before: Option<syn::Member>,
}

/// The attributes of a field.
#[derive(Default)]
pub(crate) struct FieldAttributes {
    pub(crate) opaque: Option<LitStr>,
    /// The first version with the field.
    pub(crate) since: Option<(u16, LitInt)>,
    /// The field's value in messages of versions without it.
    pub(crate) default: Option<Expr>,
    /// `true` if serde's attributes on the field that concern JSON only are meant so.
    pub(crate) json: Option<Ident>,
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
            } else if meta.path.is_ident("removed") {
                parsed.removed.push(removed(meta)?);
            } else if meta.path.is_ident("internal") {
                parsed.internal = true;
            } else if meta.path.is_ident("other") {
                parsed.other = true;
            } else if meta.path.is_ident("reply") {
                parsed.reply = true;
            } else if meta.path.is_ident("outcome") {
                parsed.outcome = true;
            } else {
                let keys = "`name = \"…\"`, `version = N`, `from(1 = OldShape, …)`, \
                            `removed(field: Type, since = N)`, `write = N`, `internal`, \
                            `status = 4xx`, `other`, `reply`, `outcome`";
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
            } else if meta.path.is_ident("since") {
                parsed.since = Some(version(&meta.value()?.parse()?)?);
            } else if meta.path.is_ident("default") {
                parsed.default = Some(meta.value()?.parse()?);
            } else if meta.path.is_ident("json") {
                parsed.json = meta.path.get_ident().cloned();
            } else {
                let keys = "`since = N`, `default = value`, `json`, `opaque = \"name 1\"`";
                return Err(unknown(meta, "a field", keys));
            }
            Ok(())
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

fn removed(meta: &ParseNestedMeta) -> Result<RemovedField> {
    let content;
    syn::parenthesized!(content in meta.input);
    let attributes = content.call(Attribute::parse_outer)?;
    let is_named =
        content.peek(syn::Ident) && content.peek2(Token![:]) && !content.peek2(Token![::]);
    let parse: fn(ParseStream<'_>) -> Result<Field> =
        if is_named { Field::parse_named } else { Field::parse_unnamed };
    let mut field = content.call(parse)?;
    field.attrs = attributes;
    let (mut added, mut since, mut default, mut before) = (None, None, None, None);
    while !content.is_empty() {
        content.parse::<Token![,]>()?;
        if content.is_empty() {
            break;
        }
        let key = content.call(Ident::parse_any)?;
        content.parse::<Token![=]>()?;
        match key.to_string().as_str() {
            "added" => added = Some(version(&content.parse()?)?),
            "since" => since = Some(version(&content.parse()?)?),
            "default" => default = Some(content.parse()?),
            "before" => before = Some(content.parse()?),
            _ => {
                let message = "the keys of a removed field are `since = N`, `before = field`, \
                               `added = N` and `default = value`";
                return Err(Error::new(key.span(), message));
            }
        }
    }
    let since = since.ok_or_else(|| {
        let message = "name the first version without the field: \
                       `removed(field: Type, since = 2)`";
        Error::new(meta.path.span(), message)
    })?;
    Ok(RemovedField { field, added, since, default, before })
}

impl syn::parse::Parse for Upcaster {
    fn parse(input: ParseStream) -> Result<Self> {
        let (version, literal) = version(&input.parse()?)?;
        input.parse::<Token![=]>()?;
        Ok(Self { version, literal, shape: input.parse()? })
    }
}
