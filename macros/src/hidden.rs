//! The hidden structs that serde encodes a variant's content from, and decodes it into.
//!
//! `__Write…` borrows the fields, `__Read…` owns them. If a field has `skip_serializing_if`,
//! `__Pack…` replaces `__Write…` in the binary format, which cannot leave a field out. If a field
//! is opaque, `__Trace…` replaces `__Read…` in the schema.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::LitStr;
use syn::spanned::Spanned;

use crate::expand::text;
use crate::model::{Message, MessageField, MessageVariant, Shape};
use crate::serde_attributes::SerializeWith;

/// Returns the structs of all variants, with the functions that their attributes name.
pub(crate) fn structs(message: &Message) -> TokenStream {
    let mut tokens = checks(message);
    tokens.extend(empty(message));
    for (i, variant) in message.variants.iter().enumerate() {
        if variant.shape != Shape::Unit && !variant.is_bare() {
            tokens.extend(read(message, variant));
            let is_written = variant.write.is_none();
            if is_written && written(variant).next().is_some() {
                tokens.extend(write(message, i, variant, "Write"));
                if packs(variant) {
                    tokens.extend(write(message, i, variant, "Pack"));
                }
            }
            if is_written {
                tokens.extend(functions(message, i, variant));
            }
        }
        if variant.has_opaque_fields() {
            tokens.extend(trace(message, i, variant));
        }
    }
    tokens
}

/// Returns the compile-time check that the type of each field can be stored. The check precedes
/// serde's derives, so that the compiler prints its error message first.
fn checks(message: &Message) -> TokenStream {
    let root = &message.root;
    let plain = message.variants.iter().flat_map(|variant| &variant.fields);
    let checks = plain.filter(|field| field.serde.is_plain()).map(|field| {
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
    let used = message
        .variants
        .iter()
        .any(|variant| variant.shape == Shape::Unit || written(variant).next().is_none());
    let read = message.variants.iter().any(|variant| variant.shape == Shape::Unit);
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
pub(crate) fn written(variant: &MessageVariant) -> impl Iterator<Item = &MessageField> {
    variant.fields.iter().filter(|field| !field.serde.skip_serializing)
}

/// Returns `true` if the variant has a `__Pack…` struct.
pub(crate) fn packs(variant: &MessageVariant) -> bool {
    variant.shape == Shape::Struct
        && written(variant).any(|field| field.serde.skip_serializing_if.is_some())
}

/// The tokens that decode a variant: the type of its content, the pattern that binds the content's
/// fields, and the expression that builds the variant from them.
pub(crate) struct Content {
    pub(crate) ty: TokenStream,
    pub(crate) pattern: TokenStream,
    pub(crate) build: TokenStream,
}

pub(crate) fn content(variant: &MessageVariant) -> Content {
    let ident = &variant.ident;
    let locals: Vec<_> = variant.fields.iter().map(MessageField::local).collect();
    let members = variant.fields.iter().map(MessageField::member);
    let build = quote!(Self::#ident { #(#members: #locals),* });
    if variant.shape == Shape::Unit {
        return Content { ty: quote!(__Empty), pattern: quote!(__Empty {}), build };
    }
    if variant.is_bare() {
        let ty = &variant.fields[0].ty;
        return Content { ty: quote!(#ty), pattern: quote!(#(#locals)*), build };
    }
    let ty = variant.hidden("Read");
    let pattern = pattern(variant, &ty, &locals);
    Content { ty: quote!(#ty), pattern, build }
}

fn pattern(variant: &MessageVariant, ty: &Ident, locals: &[Ident]) -> TokenStream {
    if variant.shape == Shape::Transparent {
        return quote!(#ty(#(#locals),*));
    }
    let names = variant.fields.iter().map(MessageField::hidden);
    quote!(#ty { #(#names: #locals),* })
}

/// Returns the type whose schema is traced, and a statement that mentions each field of a
/// `__Trace…` struct, because the compiler warns of fields that are never read.
pub(crate) fn traced(variant: &MessageVariant) -> (TokenStream, TokenStream) {
    if !variant.has_opaque_fields() {
        return (content(variant).ty, TokenStream::new());
    }
    let ty = variant.hidden("Trace");
    let locals: Vec<_> =
        variant.fields.iter().map(|field| format_ident!("_{}", field.local())).collect();
    let pattern = pattern(variant, &ty, &locals);
    (quote!(#ty), quote!(let _ = |#pattern: #ty| {};))
}

fn read(message: &Message, variant: &MessageVariant) -> TokenStream {
    let fields = variant.fields.iter().map(|field| {
        let (attributes, ty) = (&field.serde.all, &field.ty);
        let attributes = quote!(#(#[serde(#attributes)])*);
        declare(variant, field, &attributes, ty)
    });
    declare_struct(message, variant, "Read", &quote!(Deserialize), &TokenStream::new(), fields)
}

fn write(message: &Message, i: usize, variant: &MessageVariant, part: &str) -> TokenStream {
    let fields = written(variant).map(|field| {
        let kept = field.serde.for_writing();
        let with = field.serde.serialize_with.as_ref().map(|_| {
            let function = text(&function("with", i, field));
            quote!(#[serde(serialize_with = #function)])
        });
        let skips = part == "Write" && packs(variant);
        let skip = field.serde.skip_serializing_if.as_ref().filter(|_| skips).map(|_| {
            let function = text(&function("skip", i, field));
            quote!(#[serde(skip_serializing_if = #function)])
        });
        let ty = &field.ty;
        declare(variant, field, &quote!(#(#[serde(#kept)])* #with #skip), &quote!(&'content #ty))
    });
    declare_struct(message, variant, part, &quote!(Serialize), &quote!(<'content>), fields)
}

fn trace(message: &Message, i: usize, variant: &MessageVariant) -> TokenStream {
    let (serde, _) = serde(message);
    let root = &message.root;
    let fields = variant.fields.iter().map(|field| {
        if field.opaque.is_none() {
            let (attributes, ty) = (&field.serde.all, &field.ty);
            return declare(variant, field, &quote!(#(#[serde(#attributes)])*), ty);
        }
        let attributes = field.serde.for_opaque();
        let opaque = text(&function("opaque", i, field));
        let opaque = quote!(#(#[serde(#attributes)])* #[serde(deserialize_with = #opaque)]);
        declare(variant, field, &opaque, &quote!(()))
    });
    let tokens = declare_struct(
        message,
        variant,
        "Trace",
        &quote!(Deserialize),
        &TokenStream::new(),
        fields,
    );
    let functions = variant.fields.iter().filter_map(|field| {
        let shown = field.opaque.as_ref()?;
        let name = function("opaque", i, field);
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
    message: &Message,
    variant: &MessageVariant,
    part: &str,
    derived: &TokenStream,
    generics: &TokenStream,
    fields: impl Iterator<Item = TokenStream>,
) -> TokenStream {
    let (serde, path) = serde(message);
    let name = variant.hidden(part);
    let attributes = &variant.serde;
    let (attributes, body) = if variant.shape == Shape::Transparent {
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
    variant: &MessageVariant,
    field: &MessageField,
    attributes: &TokenStream,
    ty: &TokenStream,
) -> TokenStream {
    if variant.shape == Shape::Transparent {
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
fn functions(message: &Message, i: usize, variant: &MessageVariant) -> TokenStream {
    let (serde, _) = serde(message);
    let functions = written(variant).map(|field| {
        let ty = &field.ty;
        let with = field.serde.serialize_with.as_ref().map(|with| {
            let name = function("with", i, field);
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
            field.serde.skip_serializing_if.as_ref().filter(|_| packs(variant)).map(|path| {
                let name = function("skip", i, field);
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

fn function(part: &str, variant: usize, field: &MessageField) -> Ident {
    format_ident!("__{part}_{variant}_{}", field.position)
}
