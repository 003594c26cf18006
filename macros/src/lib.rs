//! The `Message` derive of Composable Rust. Use it through `composable-rust`.

use proc_macro::TokenStream;

/// Derives `Message` for an enum.
#[proc_macro_derive(Message, attributes(message))]
pub fn derive_message(_: TokenStream) -> TokenStream {
    TokenStream::new()
}
