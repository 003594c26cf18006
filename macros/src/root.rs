//! The path of the framework in the user's crate.

use proc_macro_crate::{FoundCrate, crate_name};
use proc_macro2::TokenStream;
use quote::{format_ident, quote};

/// Returns the path to the items of core: core's own if the crate depends on it, else the facade's,
/// whose root has the same items.
pub(crate) fn find() -> Result<TokenStream, &'static str> {
    for package in ["composable-rust-core", "composable-rust"] {
        let name = match crate_name(package) {
            Ok(FoundCrate::Itself) => package.replace('-', "_"),
            Ok(FoundCrate::Name(name)) => name,
            Err(_) => continue,
        };
        let ident = format_ident!("{name}");
        return Ok(quote!(::#ident));
    }
    Err("`composable-rust` is not among the dependencies; if it is re-exported by another crate, \
         say where with #[message(crate = \"path::to::composable_rust\")]")
}
