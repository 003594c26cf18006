//! Variants that take the events of a target: `Heard(Heard<Subscription>)`.

use proc_macro2::{Ident, TokenStream};
use quote::quote;
use syn::{PathArguments, Variant};

use crate::errors::Errors;
use crate::model::{Message, MessageVariant, Role, segment_of};

/// Returns `true` if a variant holds a `Heard<…>`, which must be its only field.
pub(crate) fn takes_events(variant: &Variant, errors: &mut Errors) -> bool {
    let is_heard = |ty| {
        segment_of(ty).is_some_and(|segment| {
            let is_generic = matches!(segment.arguments, PathArguments::AngleBracketed(_));
            segment.ident == "Heard" && is_generic
        })
    };
    let Some(field) = variant.fields.iter().find(|field| is_heard(&field.ty)) else { return false };
    let is_alone = variant.fields.len() == 1 && field.ident.is_none();
    if !is_alone {
        let message =
            format!("a variant that takes events has nothing else: `{}(…)`", variant.ident);
        errors.at(field, message);
    }
    is_alone
}

/// Returns the end of the error message about two variants that take the same.
pub(crate) fn one_variant_for(role: Role, first: &Ident, ty: &TokenStream) -> String {
    if role == Role::Heard {
        return "events of a target".to_owned();
    }
    let ty = ty.to_string().replace(' ', "");
    let what =
        if role == Role::CallOutcome { "outcomes of a gateway" } else { "replies of a target" };
    format!(
        "{what}; tell requests apart with a tag before it, such as `{first}(Step, \
         {ty})`"
    )
}

/// Returns the implementation of `Hears` for a variant that takes events.
pub(crate) fn hears(message: &Message, variant: &MessageVariant) -> Option<TokenStream> {
    let Message { ident, root, .. } = message;
    let (name, target) = (&variant.ident, target(variant)?);
    Some(quote! {
        #[automatically_derived]
        impl #root::__private::Hears<#target> for #ident {
            fn hear(heard: #root::Heard<#target>) -> Self {
                Self::#name(heard)
            }
        }
    })
}

/// Returns the target whose events a variant takes; `None` for every other variant.
pub(crate) fn target(variant: &MessageVariant) -> Option<&TokenStream> {
    variant.target.as_ref().filter(|_| variant.role == Role::Heard)
}
