//! The derive's model of an enum.

use std::collections::BTreeMap;

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{
    Attribute, Data, DeriveInput, Expr, ExprLit, Field, Fields, Ident, Lit, LitInt, Meta,
    PathArguments, PathSegment, Type, Variant,
};

use crate::attributes::{EnumAttributes, FieldAttributes, Upcaster, VariantAttributes};
use crate::errors::Errors;
use crate::serde_attributes::{self, SerdeField};
use crate::{evolution, heard, name, other, root};

/// Largest number of fields in a tag. The standard library compares and prints tuples of at most
/// 12 elements.
const MAX_TAG_FIELDS: usize = 12;

/// An enum that derives `Message`.
pub(crate) struct Message {
    pub(crate) ident: Ident,
    /// The path of `composable-rust` or `composable-rust-core`.
    pub(crate) root: TokenStream,
    /// The variants that are stored.
    pub(crate) variants: Vec<MessageVariant>,
    /// The variant `#[message(other)]`.
    pub(crate) other: Option<Ident>,
}

pub(crate) struct MessageVariant {
    pub(crate) ident: Ident,
    pub(crate) name: String,
    pub(crate) version: u16,
    pub(crate) internal: bool,
    /// The HTTP status of a rejection.
    pub(crate) status: Option<u16>,
    /// The first paragraph of the doc comment, in one line.
    pub(crate) summary: String,
    /// The older shapes that `from(…)` names, in the order of their versions.
    pub(crate) upcasters: Vec<Upcaster>,
    /// The contents of the older versions that follow from `since` and `removed(…)`, in the order
    /// of their versions, which are newer than those of `upcasters`.
    pub(crate) derived: Vec<DerivedVersion>,
    /// The older version to write; `None` if the current version is written.
    pub(crate) write: Option<u16>,
    pub(crate) shape: Shape,
    pub(crate) fields: Vec<MessageField>,
    pub(crate) role: Role,
    /// The `T` of a last field spelled `Reply<T>` or `CallOutcome<T>`; `None` for a type alias.
    pub(crate) target: Option<TokenStream>,
    /// serde's attributes for the whole content.
    pub(crate) serde: Vec<Meta>,
}

/// The content of an older version, which differs from the current one in the presence of fields.
pub(crate) struct DerivedVersion {
    pub(crate) version: u16,
    pub(crate) shape: Shape,
    pub(crate) fields: Vec<MessageField>,
}

/// The content of one version of a variant.
#[derive(Clone, Copy)]
pub(crate) struct Content<'m> {
    /// The version; `None` for the current one.
    pub(crate) version: Option<u16>,
    pub(crate) shape: Shape,
    pub(crate) fields: &'m [MessageField],
}

/// The shape of a variant's content.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// No content.
    Unit,
    /// The only field.
    Transparent,
    /// A struct with named fields.
    Struct,
}

/// The role of a variant: plain, or the receiver of replies, outcomes or events.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Plain,
    Reply,
    CallOutcome,
    Heard,
}

#[derive(Clone)]
pub(crate) struct MessageField {
    /// The field's name; `None` in a tuple variant.
    pub(crate) ident: Option<Ident>,
    /// The position in the content that the field is part of.
    pub(crate) position: usize,
    /// The position in the variant; `None` for a field that was removed.
    pub(crate) index: Option<usize>,
    /// The field's type, with `Self` replaced by the enum.
    pub(crate) ty: TokenStream,
    pub(crate) opaque: Option<String>,
    /// The first version with the field.
    pub(crate) since: Option<(u16, LitInt)>,
    /// The field's value where a version lacks it. Default: that of its type.
    pub(crate) default: Option<Expr>,
    pub(crate) serde: SerdeField,
}

impl Message {
    /// Reads the enum, or returns its errors as tokens.
    pub(crate) fn parse(input: &DeriveInput) -> Result<Self, TokenStream> {
        let mut errors = Errors::default();
        let message = Self::read(input, &mut errors);
        match (errors.into_tokens(), message) {
            (None, Some(message)) => Ok(message),
            (tokens, _) => Err(tokens.unwrap_or_default()),
        }
    }

    fn read(input: &DeriveInput, errors: &mut Errors) -> Option<Self> {
        let Data::Enum(data) = &input.data else {
            errors.at(
                &input.ident,
                "a `Message` is an enum: each variant is stored under a name of its own",
            );
            return None;
        };
        if !input.generics.params.is_empty() {
            errors.at(
                &input.generics,
                "a `Message` has no generics and no lifetimes: what is stored has one shape, and \
                 owns it",
            );
            return None;
        }
        let attributes = EnumAttributes::parse(&input.attrs, errors);
        let root = attributes.root.map_or_else(root::find, |path| Ok(path.into_token_stream()));
        let root = match root {
            Ok(root) => root,
            Err(message) => {
                errors.at(&input.ident, message);
                return None;
            }
        };
        let enum_name = input.ident.unraw().to_string();
        let prefix = attributes.prefix.unwrap_or_else(|| name::prefix(&enum_name));
        let variants = data
            .variants
            .iter()
            .filter(|variant| !other::is_other(&variant.attrs))
            .map(|variant| MessageVariant::read(variant, &prefix, &input.ident, errors))
            .collect::<Vec<_>>();
        let other = other::find(data, &variants, errors);
        let message = Self { ident: input.ident.clone(), root, variants, other };
        message.refuse_duplicate_names(errors);
        message.refuse_duplicate_targets(errors);
        Some(message)
    }

    fn refuse_duplicate_names(&self, errors: &mut Errors) {
        let mut seen = BTreeMap::<(&str, u16), &Ident>::new();
        for variant in &self.variants {
            for version in variant.versions() {
                let first = seen.insert((&variant.name, version), &variant.ident);
                // `check_upcasters` reports a version that one variant names twice.
                let Some(first) = first.filter(|first| **first != variant.ident) else { continue };
                errors.at(
                    &variant.ident,
                    format!(
                        "`{first}` and `{second}` are both stored as `{name}` version {version}; \
                         give one of them another #[message(name = \"…\")]",
                        second = variant.ident,
                        name = variant.name,
                    ),
                );
            }
        }
    }

    fn refuse_duplicate_targets(&self, errors: &mut Errors) {
        let mut seen = BTreeMap::new();
        for variant in self.variants.iter().filter(|variant| variant.role != Role::Plain) {
            let Some(last) = variant.fields.last() else { continue };
            let Some(first) = seen.insert((variant.role, last.ty.to_string()), &variant.ident)
            else {
                continue;
            };
            errors.at(
                &variant.ident,
                format!(
                    "`{first}` and `{second}` both take `{ty}`: an enum has one variant for the \
                     {what}",
                    second = variant.ident,
                    ty = last.ty.to_string().replace(' ', ""),
                    what = heard::one_variant_for(variant.role, first, &last.ty),
                ),
            );
        }
    }
}

impl MessageVariant {
    fn read(variant: &Variant, prefix: &str, of: &Ident, errors: &mut Errors) -> Self {
        let attributes = VariantAttributes::parse(&variant.attrs, errors);
        let fields: Vec<MessageField> = variant
            .fields
            .iter()
            .enumerate()
            .map(|(position, field)| MessageField::read(field, position, of, errors))
            .collect();
        let role = role(variant, &attributes, errors);
        let snake = name::snake_case(&variant.ident.unraw().to_string());
        let is_named = attributes.name.is_some();
        let mut read = Self {
            ident: variant.ident.clone(),
            name: attributes.name.map_or(format!("{prefix}.{snake}"), |name| name.value()),
            version: attributes.version.as_ref().map_or(1, |(version, _)| *version),
            internal: attributes.internal || role != Role::Plain,
            status: attributes.status,
            summary: summary(&variant.attrs),
            upcasters: attributes.upcasters,
            derived: Vec::new(),
            write: attributes.write.as_ref().map(|(version, _)| *version),
            shape: shape(matches!(variant.fields, Fields::Unnamed(_)), &fields),
            fields,
            role,
            target: spelled_target(variant).filter(|_| role != Role::Plain),
            serde: serde_attributes::of_variant(&variant.attrs, is_named, errors),
        };
        read.upcasters.sort_by_key(|upcaster| upcaster.version);
        let is_tuple = match (&variant.fields, attributes.removed.first()) {
            (Fields::Unit, Some(removed)) => removed.field.ident.is_none(),
            (fields, _) => matches!(fields, Fields::Unnamed(_)),
        };
        read.derived = evolution::derive(&read, is_tuple, attributes.removed, of, errors);
        read.check_upcasters(errors);
        if let Some((version, literal)) = &attributes.write {
            read.check_write(*version, literal, errors);
        }
        read
    }

    fn check_upcasters(&self, errors: &mut Errors) {
        let current = self.version;
        let mut versions = BTreeMap::new();
        for upcaster in &self.upcasters {
            if upcaster.version >= current {
                let message = format!(
                    "`{}` has version {current}: an upcaster takes an older one; raise `version` \
                     when the content changes",
                    self.ident
                );
                errors.at(&upcaster.literal, message);
            }
            if versions.insert(upcaster.version, upcaster).is_some() {
                errors.at(&upcaster.literal, "this version is named twice");
            }
        }
        let Some((&oldest, first)) = versions.iter().next() else { return };
        let next = self.derived.first().map_or(current, |derived| derived.version);
        for version in oldest..next {
            if !versions.contains_key(&version) {
                let message = format!(
                    "the chain from version {oldest} to {current} lacks version {version}: add \
                     `{version} = ItsShape`"
                );
                errors.at(&first.literal, message);
            }
        }
    }

    fn check_write(&self, version: u16, literal: &LitInt, errors: &mut Errors) {
        if matches!(self.role, Role::Reply | Role::CallOutcome) {
            errors
                .at(literal, "replies and outcomes are not written, their tags are: leave it out");
        } else if version == self.version || !self.versions().any(|known| known == version) {
            let message = format!(
                "`write` names the older version that is written for now: one that `{}` reads by \
                 `from(…)`, or because a field says `since`",
                self.ident
            );
            errors.at(literal, message);
        }
    }

    /// Returns the version to write.
    pub(crate) fn written_version(&self) -> u16 {
        self.write.unwrap_or(self.version)
    }

    /// Returns the shape of the older version to write, if `from(…)` names it.
    pub(crate) fn written_shape(&self) -> Option<&Type> {
        let version = self.write?;
        self.upcasters.iter().find(|old| old.version == version).map(|old| &old.shape)
    }

    /// Returns the content to write, unless `from(…)` names its shape.
    pub(crate) fn written_content(&self) -> Option<Content<'_>> {
        self.contents().find(|content| content.version == self.write)
    }

    /// Returns every version that can be read.
    fn versions(&self) -> impl Iterator<Item = u16> {
        let derived = self.derived.iter().map(|derived| derived.version);
        self.upcasters.iter().map(|upcaster| upcaster.version).chain(derived).chain([self.version])
    }

    /// Returns the content of the current version.
    pub(crate) fn content(&self) -> Content<'_> {
        Content { version: None, shape: self.shape, fields: &self.fields }
    }

    /// Returns the contents of the current version and of the derived ones, oldest first.
    pub(crate) fn contents(&self) -> impl Iterator<Item = Content<'_>> {
        let derived = self.derived.iter().map(|DerivedVersion { version, shape, fields }| {
            Content { version: Some(*version), shape: *shape, fields }
        });
        derived.chain([self.content()])
    }
}

impl Content<'_> {
    /// Returns the name of the hidden struct `part` of the content of `variant`.
    pub(crate) fn hidden(&self, variant: &MessageVariant, part: &str) -> Ident {
        let version = self.version.map(|version| version.to_string()).unwrap_or_default();
        format_ident!("__{part}{version}{}", variant.ident.unraw())
    }

    pub(crate) fn has_opaque_fields(&self) -> bool {
        self.fields.iter().any(|field| field.opaque.is_some())
    }

    /// Returns `true` if the only field is encoded without a struct around it.
    pub(crate) fn is_bare(&self) -> bool {
        self.shape == Shape::Transparent && self.fields[0].serde.all.is_empty()
    }
}

impl MessageField {
    pub(crate) fn read(field: &Field, position: usize, of: &Ident, errors: &mut Errors) -> Self {
        if let Type::Reference(reference) = &field.ty {
            errors.at(
                reference,
                "what is stored owns its content: use `String`, `Vec<…>` or `Box<…>` here",
            );
        }
        let attributes = FieldAttributes::parse(&field.attrs, errors);
        if let (Some(default), None) = (&attributes.default, &attributes.since) {
            let message = "this is the value in versions without the field: name the first version \
                           with it, `since = 2`";
            errors.at(default, message);
        }
        Self {
            ident: field.ident.clone(),
            position,
            index: Some(position),
            ty: without_self(field.ty.to_token_stream(), of),
            opaque: attributes.opaque.map(|text| text.value()),
            since: attributes.since,
            default: attributes.default,
            serde: SerdeField::parse(&field.attrs, attributes.json.as_ref(), errors),
        }
    }

    /// Returns the field's name in the variant.
    pub(crate) fn member(&self) -> syn::Member {
        match &self.ident {
            Some(ident) => ident.clone().into(),
            None => self.index.unwrap_or(self.position).into(),
        }
    }

    /// Returns the field's value where a version lacks it.
    pub(crate) fn missing(&self, root: &TokenStream) -> TokenStream {
        let ty = &self.ty;
        if let Some(default) = &self.default {
            quote!(#default)
        } else {
            quote_spanned!(ty.span()=> #root::__private::missing::<#ty>())
        }
    }

    /// Returns the field's name in the hidden structs.
    pub(crate) fn hidden(&self) -> Ident {
        self.ident.clone().unwrap_or_else(|| format_ident!("field_{}", self.position))
    }

    /// Returns the name to which a pattern binds the field: a removed field is not used.
    pub(crate) fn bound(&self) -> Ident {
        let local = self.local();
        if self.index.is_some() { local } else { format_ident!("_{}", local) }
    }

    /// Returns the local variable that holds the field. Its name is hygienic: it cannot clash with
    /// the user's names.
    pub(crate) fn local(&self) -> Ident {
        Ident::new(&format!("field_{}", self.position), Span::mixed_site())
    }
}

/// Returns the first paragraph of a doc comment, in one line.
fn summary(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(doc) if doc.path.is_ident("doc") => match &doc.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    });
    // An empty line is a text of no lines.
    let lines: Vec<String> = lines
        .flat_map(|text| text.split('\n').map(|line| line.trim().to_owned()).collect::<Vec<_>>())
        .collect();
    let paragraph =
        lines.iter().skip_while(|line| line.is_empty()).take_while(|line| !line.is_empty());
    paragraph.map(String::as_str).collect::<Vec<_>>().join(" ")
}

/// Returns the shape of content with these fields; `is_tuple` if they have no names.
pub(crate) fn shape(is_tuple: bool, fields: &[MessageField]) -> Shape {
    match (is_tuple, fields) {
        (_, []) => Shape::Unit,
        (true, [field]) if !field.serde.is_skipped() => Shape::Transparent,
        _ => Shape::Struct,
    }
}

/// Returns the last segment of the last field's type, such as `Reply<Payment>`.
fn last_segment(variant: &Variant) -> Option<&PathSegment> {
    segment_of(&variant.fields.iter().next_back()?.ty)
}

pub(crate) fn segment_of(ty: &Type) -> Option<&PathSegment> {
    match ty {
        Type::Path(path) => path.path.segments.last(),
        _ => None,
    }
}

fn spelled_target(variant: &Variant) -> Option<TokenStream> {
    let segment = last_segment(variant)?;
    if segment.ident != "Reply" && segment.ident != "CallOutcome" && segment.ident != "Heard" {
        return None;
    }
    match &segment.arguments {
        PathArguments::AngleBracketed(arguments) => Some(arguments.args.to_token_stream()),
        _ => None,
    }
}

fn role(variant: &Variant, attributes: &VariantAttributes, errors: &mut Errors) -> Role {
    let last = variant.fields.iter().next_back();
    let spelled = |name| last_segment(variant).is_some_and(|segment| segment.ident == name);
    let (reply, outcome) = match (attributes.reply, attributes.outcome) {
        (false, false) => (spelled("Reply"), spelled("CallOutcome")),
        said => said,
    };
    if (reply || outcome) && last.is_none() {
        errors.at(
            &variant.ident,
            "a variant for replies or outcomes ends with a `Reply` or a `CallOutcome`",
        );
    }
    if reply && outcome {
        errors.at(&variant.ident, "a variant takes replies or outcomes, not both");
    }
    if (reply || outcome) && variant.fields.len() > MAX_TAG_FIELDS + 1 {
        let message = format!("a tag has at most {MAX_TAG_FIELDS} fields: make it a struct");
        errors.at(&variant.ident, message);
    }
    if !(reply || outcome) && matches!(variant.fields, Fields::Unnamed(_)) {
        for field in &variant.fields {
            let Some(PathSegment { ident: name, arguments }) = segment_of(&field.ty) else {
                continue;
            };
            let is_generic = matches!(arguments, PathArguments::AngleBracketed(_));
            if is_generic && (name == "Reply" || name == "CallOutcome") {
                let message = format!(
                    "a variant that takes replies or outcomes ends with them: put the tag before \
                     the `{name}`"
                );
                errors.at(field, message);
            }
        }
    }
    match (reply, outcome) {
        (true, _) => Role::Reply,
        (_, true) => Role::CallOutcome,
        _ if heard::takes_events(variant, errors) => Role::Heard,
        _ => Role::Plain,
    }
}

/// Replaces `Self` by the enum's name: in a hidden struct `Self` would be that struct.
fn without_self(tokens: TokenStream, of: &Ident) -> TokenStream {
    tokens
        .into_iter()
        .map(|token| match token {
            TokenTree::Ident(ident) if ident == "Self" => {
                TokenTree::Ident(Ident::new(&of.to_string(), ident.span()))
            }
            TokenTree::Group(group) => {
                let inner = without_self(group.stream(), of);
                let mut replaced = proc_macro2::Group::new(group.delimiter(), inner);
                replaced.set_span(group.span());
                TokenTree::Group(replaced)
            }
            other => other,
        })
        .collect()
}
