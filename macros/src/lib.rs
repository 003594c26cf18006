//! The `Message` derive of Composable Rust. Use it through `composable-rust`.

use proc_macro::TokenStream;

mod attributes;
mod errors;
mod expand;
mod hidden;
mod model;
mod name;
mod root;
mod serde_attributes;

/// Derives `Message` for an enum.
#[proc_macro_derive(Message, attributes(message, serde))]
pub fn derive_message(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    match model::Message::parse(&input) {
        Ok(message) => expand::message(&message).into(),
        Err(errors) => errors.into(),
    }
}
