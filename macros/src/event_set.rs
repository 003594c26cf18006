//! `derive(EventSet)`.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Attribute, Data, DataEnum, DeriveInput, Fields, Ident, Path, Token, Type, Variant};

use crate::attributes::EnumAttributes;
use crate::errors::Errors;
use crate::{other, root};

/// Returns the expansion of the derive, or its errors.
pub(crate) fn event_set(input: &DeriveInput) -> TokenStream {
    let mut errors = Errors::default();
    let tokens = read(input, &mut errors);
    errors.into_tokens().unwrap_or_else(|| tokens.unwrap_or_default())
}

fn read(input: &DeriveInput, errors: &mut Errors) -> Option<TokenStream> {
    let Data::Enum(data) = &input.data else {
        errors.at(&input.ident, "an `EventSet` is an enum: a variant for each aggregate");
        return None;
    };
    if !input.generics.params.is_empty() {
        errors.at(&input.generics, "an `EventSet` has no generics");
        return None;
    }
    // `crate = "…"` is that of the derive of `Message`, which reports errors in it.
    let path = EnumAttributes::parse(&input.attrs, &mut Errors::default()).root;
    let root = match path.map_or_else(root::find, |path| Ok(path.into_token_stream())) {
        Ok(root) => root,
        Err(message) => {
            errors.at(&input.ident, message);
            return None;
        }
    };
    match targets(&input.attrs, errors) {
        Some(targets) => partial(&input.ident, data, &root, &targets, errors),
        None => complete(&input.ident, data, &root, errors),
    }
}

/// Returns the targets that `#[event_set(A, B)]` on the enum names.
fn targets(attributes: &[Attribute], errors: &mut Errors) -> Option<Vec<Path>> {
    let attribute = attributes.iter().find(|attribute| attribute.path().is_ident("event_set"))?;
    match attribute.parse_args_with(Punctuated::<Path, Token![,]>::parse_terminated) {
        Ok(paths) if !paths.is_empty() => Some(paths.into_iter().collect()),
        Ok(_) => {
            errors.at(attribute, "name the aggregates: `#[event_set(Order, Invoice)]`");
            Some(Vec::new())
        }
        Err(error) => {
            errors.push(error);
            Some(Vec::new())
        }
    }
}

/// A variant of a set of all events.
struct Member<'a> {
    ident: &'a Ident,
    target: Path,
    events: &'a Type,
}

impl<'a> Member<'a> {
    fn read(variant: &'a Variant, errors: &mut Errors) -> Option<Self> {
        let events = match &variant.fields {
            Fields::Unnamed(fields) if fields.unnamed.len() == 1 => &fields.unnamed[0].ty,
            _ => {
                let name = variant.ident.unraw();
                let message = format!(
                    "a variant holds the events of an aggregate, and is named after it: \
                     `{name}({name}Event)`; for some events of several aggregates, derive \
                     `Message` too and name the aggregates with `#[event_set(Order, Invoice)]` on \
                     the enum"
                );
                errors.at(variant, message);
                return None;
            }
        };
        let mut target = Path::from(variant.ident.clone());
        for attribute in variant.attrs.iter().filter(|of| of.path().is_ident("event_set")) {
            let parsed = attribute.parse_nested_meta(|meta| {
                if !meta.path.is_ident("of") {
                    return Err(
                        meta.error("the key of #[event_set(…)] on a variant is `of = path`")
                    );
                }
                target = meta.value()?.parse()?;
                Ok(())
            });
            if let Err(error) = parsed {
                errors.push(error);
            }
        }
        Some(Self { ident: &variant.ident, target, events })
    }
}

fn complete(
    ident: &Ident,
    data: &DataEnum,
    root: &TokenStream,
    errors: &mut Errors,
) -> Option<TokenStream> {
    if data.variants.is_empty() {
        errors.at(ident, "an `EventSet` has a variant for each aggregate: `Order(OrderEvent)`");
        return None;
    }
    let members: Vec<_> =
        data.variants.iter().filter_map(|variant| Member::read(variant, errors)).collect();
    let checks = members.iter().map(|Member { target, events, .. }| {
        quote_spanned!(events.span()=> #root::__private::event_of::<#target, #events>();)
    });
    let arms = members.iter().map(|Member { ident, target, events }| {
        quote! {
            if category == <#target as #root::Target>::NAME {
                return <#events as #root::Message>::decode(name, version, format, bytes)
                    .map(Self::#ident);
            }
        }
    });
    let body = quote! {
        #(#arms)*
        ::core::result::Result::Err(#root::__private::DecodeError::UnknownName {
            name: ::std::string::String::from(name),
        })
    };
    let targets: Vec<_> = members.iter().map(|member| &member.target).collect();
    let set = implementation(ident, root, &targets, &body);
    Some(quote!(const _: () = { const _: () = { #(#checks)* }; #set };))
}

fn partial(
    ident: &Ident,
    data: &DataEnum,
    root: &TokenStream,
    targets: &[Path],
    errors: &mut Errors,
) -> Option<TokenStream> {
    let named = data.variants.iter().flat_map(|variant| &variant.attrs);
    for attribute in named.filter(|attribute| attribute.path().is_ident("event_set")) {
        errors.at(attribute, "the enum names the aggregates already");
    }
    let targets: Vec<_> = targets.iter().collect();
    if targets.is_empty() {
        return None;
    }
    let declared = data.variants.iter().filter(|variant| !other::is_other(&variant.attrs));
    let checks = declared.enumerate().map(|(i, variant)| {
        let span = variant.ident.span();
        // The error of a constant is shown at its call, which begins with this path.
        let root: TokenStream = root.clone().into_iter().map(|token| at(token, span)).collect();
        quote_spanned! {span=>
            const _: () = #root::__private::declared(
                &<#ident as #root::Message>::KINDS[#i],
                &[#(<<#targets as #root::Target>::Event as #root::Message>::KINDS),*],
            );
        }
    });
    let body = quote! {
        let _ = category;
        <Self as #root::Message>::decode(name, version, format, bytes)
    };
    let set = implementation(ident, root, &targets, &body);
    Some(quote!(const _: () = { #(#checks)* #set };))
}

fn at(mut token: TokenTree, span: Span) -> TokenTree {
    token.set_span(span);
    token
}

fn implementation(
    ident: &Ident,
    root: &TokenStream,
    targets: &[&Path],
    body: &TokenStream,
) -> TokenStream {
    quote! {
        const _: () = #root::__private::distinct(<#ident as #root::EventSet>::CATEGORIES);

        #[automatically_derived]
        impl #root::EventSet for #ident {
            type Event = Self;
            const CATEGORIES: &'static [&'static str] =
                &[#(<#targets as #root::Target>::NAME),*];

            fn decode_event(
                category: &str,
                name: &str,
                version: u16,
                format: #root::__private::Format,
                bytes: &[u8],
            ) -> ::core::result::Result<Self, #root::__private::DecodeError> {
                #body
            }
        }
    }
}
