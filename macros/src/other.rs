//! The variant `#[message(other)]`, which stands for all messages of unknown names.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Attribute, DataEnum, Fields, Ident, Variant};

use crate::attributes::VariantAttributes;
use crate::errors::Errors;
use crate::model::{Message, MessageVariant, Role};

/// Returns `true` if a variant with these attributes is `#[message(other)]`.
pub(crate) fn is_other(attributes: &[Attribute]) -> bool {
    VariantAttributes::parse(attributes, &mut Errors::default()).other
}

/// Returns the variant `#[message(other)]` of an enum with these declared variants.
pub(crate) fn find(
    data: &DataEnum,
    declared: &[MessageVariant],
    errors: &mut Errors,
) -> Option<Ident> {
    let mut others = data.variants.iter().filter(|variant| is_other(&variant.attrs));
    let other = others.next()?;
    for second in others {
        errors.at(&second.ident, "an enum has one variant `#[message(other)]` at most");
    }
    check(other, errors);
    for variant in declared.iter().filter(|variant| variant.role != Role::Plain) {
        errors.at(
            &variant.ident,
            "an enum with `#[message(other)]` reads what others store, and takes no replies, \
             outcomes or events",
        );
    }
    Some(other.ident.clone())
}

fn check(other: &Variant, errors: &mut Errors) {
    if !matches!(other.fields, Fields::Unit) {
        errors.at(
            &other.fields,
            "`#[message(other)]` stands for messages of any content, so the variant has no fields",
        );
    }
    // The keys themselves are checked here.
    let parsed = VariantAttributes::parse(&other.attrs, errors);
    let is_stored = parsed.name.is_some()
        || parsed.version.is_some()
        || parsed.write.is_some()
        || !parsed.upcasters.is_empty()
        || !parsed.removed.is_empty();
    if is_stored || parsed.internal || parsed.reply || parsed.outcome {
        errors.at(&other.ident, "`#[message(other)]` is never stored, so it takes no other key");
    }
}

/// Returns the arm of a `match self` for the variant, if the enum has one.
pub(crate) fn arm(message: &Message, value: &TokenStream) -> Option<TokenStream> {
    let ident = message.other.as_ref()?;
    Some(quote!(Self::#ident => #value))
}

/// Returns the constant of an enum that has the variant.
pub(crate) fn has_other(message: &Message) -> Option<TokenStream> {
    message.other.as_ref().map(|_| {
        quote!(
            const HAS_OTHER: bool = true;
        )
    })
}

/// Returns the result of decoding an unknown name.
pub(crate) fn decoded(message: &Message, name: &Ident) -> TokenStream {
    let root = &message.root;
    if let Some(other) = &message.other {
        quote!(::core::result::Result::Ok(Self::#other))
    } else {
        quote! {
            ::core::result::Result::Err(#root::__private::DecodeError::UnknownName {
                name: ::std::string::String::from(#name),
            })
        }
    }
}
