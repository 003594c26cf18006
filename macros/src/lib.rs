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

/// Derives `Message` for an enum: a stable name, a version and a content of its own for each
/// variant.
///
/// The enum also derives `Debug`, `Clone` and `PartialEq`; it needs nothing of serde. The types in
/// its fields derive serde's `Serialize` and `Deserialize`.
///
/// # Names
///
/// A variant is stored as the enum's name less `Event`, `Command`, `Rejection` or `Error` (the
/// whole name if nothing is left), a dot, and the variant's name, both in snake case:
/// `OrderEvent::Placed` is `order.placed`. Two variants of one name and version are refused.
///
/// # Content
///
/// | Variant | Content | JSON | Binary |
/// |---|---|---|---|
/// | `Shipped` | nothing | `{}` | no bytes |
/// | `Placed { sku: String }` | a struct with these fields | `{"sku":"a"}` | the fields in order |
/// | `Noted(String)` | that field, without anything around it | `"a"` | the field |
/// | `Moved(u8, u8)` | a struct with fields `0`, `1`, … | `{"0":1,"1":2}` | the fields in order |
///
/// serde's attributes on fields are honoured (`rename`, `default`, `alias`, `with`, `skip` and so
/// on), and on a variant `rename_all` and `deny_unknown_fields`. `default` helps JSON only: the
/// binary format does not mark a missing field. For the same reason `skip_serializing_if` leaves
/// a field out in JSON and never in binary. Types that need a self-describing format cannot be
/// read in binary: `flatten`, and untagged or internally tagged enums in a field.
///
/// # Attributes
///
/// On the enum, in `#[message(…)]`:
///
/// - `prefix = "…"`: the part of the names before the dot, where two enums would clash.
/// - `crate = "…"`: the path of the framework, where another crate re-exports it.
///
/// On a variant:
///
/// - `name = "…"`: the whole stored name. Keeps the name when the variant is renamed.
/// - `version = N`: the version of the content's shape. Default: 1.
/// - `from(1 = PlacedV1, 2 = PlacedV2)`: the shapes of older versions, as structs that implement
///   `Deserialize`. Each is made into the next with `From`, the last into the enum:
///   `PlacedV2: From<PlacedV1>`, `OrderEvent: From<PlacedV2>`. The chain has no gap.
/// - `write = N`: the older version, one of those in `from`, that is written for now, while both
///   versions are read: for the release in which processes that do not know the current version
///   still run. Its shape implements `Serialize` and is made from the enum:
///   `PlacedV1: From<&OrderEvent>`. A message that the older shape cannot express is refused when
///   it is stored, since it does not read back equal.
/// - `internal`: only the runtime may deliver the variant. Required for the messages that `after`
///   and `at` take; reply and answer variants are always internal.
/// - `reply`, `answer`: the last field is a `Reply` or `CallOutcome` under the name of a type
///   alias.
///
/// On a field:
///
/// - `opaque = "uuid 1"`: the schema shows this text instead of the traced type, for a type that
///   cannot be traced. Raise the number when the type's encoding changes.
///
/// # Replies and answers
///
/// A variant whose last field is a `Reply<T>` takes the replies of `T` and makes `dispatch` to `T`
/// possible; a variant whose last field is a `CallOutcome<G>` takes the answers of the gateway `G`
/// and makes `call` possible. The fields before the last are the tag, which travels with the
/// request and returns with every reply: `()`, the only field's type, or a tuple. An enum has one
/// such variant for each target.
///
/// A request stores the variant's name and version. When the tag changes, raise the version: the
/// shape of the older one is a struct of its tag's fields and the reply, in their order.
///
/// # Example: a variant that has changed twice
///
/// ```
/// use composable_rust_core::Message;
/// use composable_rust_core::codec::Format;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
/// struct Item {
///     sku: String,
///     count: u32,
/// }
///
/// #[derive(Debug, Clone, PartialEq, Message)]
/// enum OrderEvent {
///     #[message(version = 3, from(1 = PlacedV1, 2 = PlacedV2))]
///     Placed {
///         items: Vec<Item>,
///         #[serde(default)]
///         express: bool,
///     },
///     /// Formerly `Shipped`.
///     #[message(name = "order.shipped")]
///     HandedOver { tracking: String },
///     Cancelled,
/// }
///
/// #[derive(Deserialize)]
/// struct PlacedV1 {
///     sku: String,
/// }
///
/// #[derive(Deserialize)]
/// struct PlacedV2 {
///     items: Vec<Item>,
/// }
///
/// impl From<PlacedV1> for PlacedV2 {
///     fn from(old: PlacedV1) -> Self {
///         Self { items: vec![Item { sku: old.sku, count: 1 }] }
///     }
/// }
///
/// impl From<PlacedV2> for OrderEvent {
///     fn from(old: PlacedV2) -> Self {
///         Self::Placed { items: old.items, express: false }
///     }
/// }
///
/// let event = OrderEvent::HandedOver { tracking: "17".to_owned() };
/// assert_eq!((event.kind().name, event.kind().version), ("order.shipped", 1));
/// assert_eq!(event.encode(Format::Json)?, br#"{"tracking":"17"}"#);
///
/// let first = OrderEvent::decode("order.placed", 1, Format::Json, br#"{"sku":"a"}"#)?;
/// let item = Item { sku: "a".to_owned(), count: 1 };
/// assert_eq!(first, OrderEvent::Placed { items: vec![item], express: false });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[proc_macro_derive(Message, attributes(message, serde))]
pub fn derive_message(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    match model::Message::parse(&input) {
        Ok(message) => expand::message(&message).into(),
        Err(errors) => errors.into(),
    }
}
