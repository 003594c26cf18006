//! The hidden structs that serde encodes a variant's content from, and decodes it into.
//!
//! `__Write…` borrows the fields, `__Read…` owns them. If a field has `skip_serializing_if`,
//! `__Pack…` replaces `__Write…` in the binary format, which cannot leave a field out. If a field
//! is opaque, `__Trace…` replaces `__Read…` in the schema. The structs of an older version that
//! follows from `since` and `removed(…)` have its number in their names.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::LitStr;
use syn::spanned::Spanned;

use crate::expand::text;
use crate::model::{Content, Message, MessageField, MessageVariant, Shape};
use crate::serde_attributes::SerializeWith;

/// Returns the structs of all variants, with the functions that their attributes name.
pub(crate) fn structs(message: &Message) -> TokenStream {
    let mut tokens = checks(message);
    tokens.extend(empty(message));
    for (i, variant) in message.variants.iter().enumerate() {
        for content in variant.contents() {
            tokens.extend(structs_of(&Hidden { message, i, variant, content }));
        }
    }
    tokens
}

/// A content with its place.
struct Hidden<'m> {
    message: &'m Message,
    /// The index of the variant.
    i: usize,
    variant: &'m MessageVariant,
    content: Content<'m>,
}

fn structs_of(hidden: &Hidden<'_>) -> TokenStream {
    let Hidden { variant, content, .. } = hidden;
    let mut tokens = TokenStream::new();
    if content.shape != Shape::Unit && !content.is_bare() {
        tokens.extend(read(hidden));
        let is_written = variant.write == content.version;
        if is_written && written(*content).next().is_some() {
            tokens.extend(write(hidden, "Write"));
            if packs(*content) {
                tokens.extend(write(hidden, "Pack"));
            }
        }
        if is_written {
            tokens.extend(functions(hidden));
        }
    }
    if content.has_opaque_fields() {
        tokens.extend(trace(hidden));
    }
    tokens
}

/// Returns the compile-time check that the type of each field can be stored. The check precedes
/// serde's derives, so that the compiler prints its error message first.
fn checks(message: &Message) -> TokenStream {
    let root = &message.root;
    let contents = message.variants.iter().flat_map(MessageVariant::contents);
    let fields = contents.flat_map(|content| {
        // The fields of derived versions are current ones, except for those that were removed.
        let is_current = content.version.is_none();
        content.fields.iter().filter(move |field| is_current || field.index.is_none())
    });
    let checks = fields.filter(|field| field.serde.is_plain()).map(|field| {
        let ty = &field.ty;
        quote_spanned!(ty.span()=> #root::__private::stored::<#ty>();)
    });
    let checks: Vec<_> = checks.collect();
    if checks.is_empty() {
        return TokenStream::new();
    }
    quote!(const _: () = { #(#checks)* };)
}

/// Returns the struct that encodes empty content: no bytes in binary, `{}` in JSON.
fn empty(message: &Message) -> TokenStream {
    let (serde, path) = serde(message);
    let contents = || message.variants.iter().flat_map(MessageVariant::contents);
    let read = contents().any(|content| content.shape == Shape::Unit);
    let used = read || contents().any(|content| written(content).next().is_none());
    let deserialize = read.then(|| quote!(, #serde::Deserialize));
    if !used {
        return TokenStream::new();
    }
    quote! {
        #[derive(#serde::Serialize #deserialize)]
        #[serde(crate = #path)]
        struct __Empty {}
    }
}

fn serde(message: &Message) -> (TokenStream, LitStr) {
    let root = &message.root;
    let serde = quote!(#root::__private::serde);
    let path = LitStr::new(&serde.to_string().replace(' ', ""), proc_macro2::Span::call_site());
    (serde, path)
}

/// Returns the fields that are encoded: those without `skip_serializing`.
pub(crate) fn written(content: Content<'_>) -> impl Iterator<Item = &MessageField> {
    content.fields.iter().filter(|field| !field.serde.skip_serializing)
}

/// Returns `true` if the content has a `__Pack…` struct.
pub(crate) fn packs(content: Content<'_>) -> bool {
    content.shape == Shape::Struct
        && written(content).any(|field| field.serde.skip_serializing_if.is_some())
}

/// The tokens that decode a content: its type, the pattern that binds its fields, and the
/// expression that builds the variant from them.
pub(crate) struct Decoded {
    pub(crate) ty: TokenStream,
    pub(crate) pattern: TokenStream,
    pub(crate) build: TokenStream,
}

pub(crate) fn decoded(
    message: &Message,
    variant: &MessageVariant,
    content: Content<'_>,
) -> Decoded {
    let ident = &variant.ident;
    let members = variant.fields.iter().map(MessageField::member);
    let values = variant.fields.iter().map(|field| {
        let stored = content.fields.iter().find(|stored| stored.index == field.index);
        match stored.map(MessageField::local) {
            Some(local) => quote!(#local),
            None => field.missing(&message.root),
        }
    });
    let build = quote!(Self::#ident { #(#members: #values),* });
    if content.shape == Shape::Unit {
        return Decoded { ty: quote!(__Empty), pattern: quote!(__Empty {}), build };
    }
    let locals: Vec<_> = content.fields.iter().map(MessageField::bound).collect();
    if content.is_bare() {
        let ty = &content.fields[0].ty;
        return Decoded { ty: quote!(#ty), pattern: quote!(#(#locals)*), build };
    }
    let ty = content.hidden(variant, "Read");
    let pattern = pattern(content, &ty, &locals);
    Decoded { ty: quote!(#ty), pattern, build }
}

fn pattern(content: Content<'_>, ty: &Ident, locals: &[Ident]) -> TokenStream {
    if content.shape == Shape::Transparent {
        return quote!(#ty(#(#locals),*));
    }
    let names = content.fields.iter().map(MessageField::hidden);
    quote!(#ty { #(#names: #locals),* })
}

/// Returns the type whose schema is traced, and a statement that mentions each field of a
/// `__Trace…` struct, because the compiler warns of fields that are never read.
pub(crate) fn traced(
    message: &Message,
    variant: &MessageVariant,
    content: Content<'_>,
) -> (TokenStream, TokenStream) {
    if !content.has_opaque_fields() {
        return (decoded(message, variant, content).ty, TokenStream::new());
    }
    let ty = content.hidden(variant, "Trace");
    let locals: Vec<_> =
        content.fields.iter().map(|field| format_ident!("_{}", field.local())).collect();
    let pattern = pattern(content, &ty, &locals);
    (quote!(#ty), quote!(let _ = |#pattern: #ty| {};))
}

fn read(hidden: &Hidden<'_>) -> TokenStream {
    let fields = hidden.content.fields.iter().map(|field| {
        let (attributes, ty) = (&field.serde.all, &field.ty);
        let attributes = quote!(#(#[serde(#attributes)])*);
        declare(hidden.content, field, &attributes, ty)
    });
    declare_struct(hidden, "Read", &quote!(Deserialize), &TokenStream::new(), fields)
}

fn write(hidden: &Hidden<'_>, part: &str) -> TokenStream {
    let content = hidden.content;
    let fields = written(content).map(|field| {
        let kept = field.serde.for_writing();
        let with = field.serde.serialize_with.as_ref().map(|_| {
            let function = text(&function(hidden, "with", field));
            quote!(#[serde(serialize_with = #function)])
        });
        let skips = part == "Write" && packs(content);
        let skip = field.serde.skip_serializing_if.as_ref().filter(|_| skips).map(|_| {
            let function = text(&function(hidden, "skip", field));
            quote!(#[serde(skip_serializing_if = #function)])
        });
        let ty = &field.ty;
        declare(content, field, &quote!(#(#[serde(#kept)])* #with #skip), &quote!(&'content #ty))
    });
    declare_struct(hidden, part, &quote!(Serialize), &quote!(<'content>), fields)
}

fn trace(hidden: &Hidden<'_>) -> TokenStream {
    let Hidden { message, content, .. } = *hidden;
    let (serde, _) = serde(message);
    let root = &message.root;
    let fields = content.fields.iter().map(|field| {
        if field.opaque.is_none() {
            let (attributes, ty) = (&field.serde.all, &field.ty);
            return declare(content, field, &quote!(#(#[serde(#attributes)])*), ty);
        }
        let attributes = field.serde.for_opaque();
        let opaque = text(&function(hidden, "opaque", field));
        let opaque = quote!(#(#[serde(#attributes)])* #[serde(deserialize_with = #opaque)]);
        declare(content, field, &opaque, &quote!(()))
    });
    let tokens = declare_struct(hidden, "Trace", &quote!(Deserialize), &TokenStream::new(), fields);
    let functions = content.fields.iter().filter_map(|field| {
        let shown = field.opaque.as_ref()?;
        let name = function(hidden, "opaque", field);
        Some(quote! {
            fn #name<'de, __D: #serde::Deserializer<'de>>(
                deserializer: __D,
            ) -> ::core::result::Result<(), __D::Error> {
                #root::schema::opaque(deserializer, &[#shown])
            }
        })
    });
    quote!(#tokens #(#functions)*)
}

fn declare_struct(
    hidden: &Hidden<'_>,
    part: &str,
    derived: &TokenStream,
    generics: &TokenStream,
    fields: impl Iterator<Item = TokenStream>,
) -> TokenStream {
    let Hidden { message, variant, content, .. } = *hidden;
    let (serde, path) = serde(message);
    let name = content.hidden(variant, part);
    let attributes = &variant.serde;
    let (attributes, body) = if content.shape == Shape::Transparent {
        (quote!(#[serde(transparent)]), quote!((#(#fields),*);))
    } else {
        (quote!(#(#[serde(#attributes)])*), quote!({ #(#fields),* }))
    };
    quote! {
        #[derive(#serde::#derived)]
        #[serde(crate = #path)]
        #attributes
        struct #name #generics #body
    }
}

/// Returns the declaration of a hidden struct's field. A field without a name is named by its
/// position, unless serde's attributes rename it.
fn declare(
    content: Content<'_>,
    field: &MessageField,
    attributes: &TokenStream,
    ty: &TokenStream,
) -> TokenStream {
    if content.shape == Shape::Transparent {
        return quote!(#attributes #ty);
    }
    let name = field.hidden();
    let number = field.position.to_string();
    let number = (field.ident.is_none() && !field.serde.is_renamed())
        .then(|| quote!(#[serde(rename = #number)]));
    quote!(#attributes #number #name: #ty)
}

/// Returns the adapters between serde, which passes references to references, and the user's
/// functions, which take references.
fn functions(hidden: &Hidden<'_>) -> TokenStream {
    let (serde, _) = serde(hidden.message);
    let content = hidden.content;
    let functions = written(content).map(|field| {
        let ty = &field.ty;
        let with = field.serde.serialize_with.as_ref().map(|with| {
            let name = function(hidden, "with", field);
            let path = match with {
                SerializeWith::Module(path) => quote!(#path::serialize),
                SerializeWith::Function(path) => quote!(#path),
            };
            quote! {
                fn #name<__S: #serde::Serializer>(
                    value: &&#ty,
                    serializer: __S,
                ) -> ::core::result::Result<__S::Ok, __S::Error> {
                    #path(*value, serializer)
                }
            }
        });
        let skip =
            field.serde.skip_serializing_if.as_ref().filter(|_| packs(content)).map(|path| {
                let name = function(hidden, "skip", field);
                quote! {
                    fn #name(value: &&#ty) -> bool {
                        #path(*value)
                    }
                }
            });
        quote!(#with #skip)
    });
    quote!(#(#functions)*)
}

fn function(hidden: &Hidden<'_>, part: &str, field: &MessageField) -> Ident {
    let (i, version) = (hidden.i, hidden.content.version.unwrap_or(0));
    format_ident!("__{part}_{i}_{version}_{}", field.position)
}
