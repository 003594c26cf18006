//! The `Message` derive of Composable Rust. Programs use it through the `composable-rust` crate.

use proc_macro::TokenStream;

mod attributes;
mod errors;
mod event_set;
mod evolution;
mod expand;
mod heard;
mod hidden;
mod model;
mod name;
mod other;
mod root;
mod serde_attributes;

/// Derives `Message` for an enum: a stable name, a version and a content of its own for each
/// variant.
///
/// The enum needs `Debug`, `Clone` and `PartialEq` as well, but not serde's derives. The types of
/// its fields need serde's `Serialize` and `Deserialize`.
///
/// # Names
///
/// The stored name of a variant is the enum's name without the ending `Event`, `Command`,
/// `Rejection` or `Error` (the whole name if nothing would be left), a dot, and the variant's name,
/// both in snake case: `OrderEvent::Placed` is `order.placed`. An enum does not compile if two of
/// its variants have the same name and version.
///
/// # Content
///
/// | Variant | Content | JSON | Binary |
/// |---|---|---|---|
/// | `Shipped` | nothing | `{}` | no bytes |
/// | `Placed { sku: String }` | a struct with these fields | `{"sku":"a"}` | the fields in order |
/// | `Noted(String)` | the field itself | `"a"` | the field |
/// | `Moved(u8, u8)` | a struct with fields `0`, `1`, … | `{"0":1,"1":2}` | the fields in order |
///
/// serde's attributes on fields are honoured (`rename`, `alias`, `with`, `skip` and so on), and on
/// a variant `rename_all` and `deny_unknown_fields`. The binary format writes no names and marks
/// no missing field, so `default` and `skip_serializing_if` concern JSON only. A field with one of
/// them does not compile unless `#[message(json)]` on it says that JSON from outside is meant; in
/// binary, the field is then written like the others. A field that was added to stored messages
/// says `since` instead. Fields that need a self-describing format cannot be decoded from binary:
/// those with `flatten`, and untagged or internally tagged enums.
///
/// # Attributes
///
/// On the enum, in `#[message(…)]`:
///
/// - `prefix = "…"`: the part of the stored names before the dot. Required if the names of two
///   enums would clash.
/// - `crate = "…"`: the path of the framework. Required if another crate re-exports it.
///
/// On a variant:
///
/// - `name = "…"`: the whole stored name. Keeps the name when the variant is renamed.
/// - `version = N`: the version of the content's shape. Default: 1.
/// - `from(1 = PlacedV1, 2 = PlacedV2)`: the shapes of older versions, as structs that implement
///   `Deserialize`. Each is converted into the next with `From`, the last into the enum:
///   `PlacedV2: From<PlacedV1>`, `OrderEvent: From<PlacedV2>`. The versions have no gap.
/// - `removed(discount: u32, since = 3, before = why)`: a field that older versions have and this
///   one lacks, with the first version without it. `before` names the current field that it stood
///   before, for the order in the binary format. Default: it stood last. `added = 2` is the first
///   version with it, if that is not version 1; `default = value` is the value that `write` gives
///   it.
/// - `write = N`: the older version that is written for now, while both versions are read: for the
///   release in which processes that do not know the current version still run. If `from` names the
///   version, its shape implements `Serialize` and is made from the enum:
///   `PlacedV1: From<&OrderEvent>`. A message that the older version cannot express is refused when
///   it is stored, since it does not read back equal.
/// - `internal`: only the runtime may deliver the variant. Required for the messages that `after`
///   and `at` take; variants that take replies, outcomes or events are always
///   internal.
/// - `status = 404`: the HTTP status of a rejection, from 400 to 599, for the responses of an HTTP
///   adapter. It is not stored.
/// - `other`: the unit variant stands for all messages whose names no other variant has. It is
///   internal, and never encoded. A newer version of a declared name is not among them: only newer
///   code can read it. For enums that read a part of what others store, such as some events of an
///   [`EventSet`](derive@EventSet); an app rejects it in the messages of its aggregates.
/// - `reply`, `outcome`: the last field is a `Reply` or a `CallOutcome`, although the derive cannot
///   see it, because the field's type is an alias.
///
/// On a field:
///
/// - `since = N`: the first version with the field; the version of the variant is `N` or above.
///   Older messages are read with `default = value`, which is any expression. Default:
///   `Default::default()`. The older shapes need no struct and no `from`. They may follow versions
///   in `from`, for changes that are not just a field more or less.
/// - `json`: serde's `default` or `skip_serializing_if` on the field is for JSON only.
/// - `opaque = "uuid 1"`: the schema shows this text instead of the traced type, for a type that
///   cannot be traced. Raise the number in the text when the type's encoding changes.
///
/// # Replies and outcomes
///
/// A variant whose last field is a `Reply<T>` receives the replies of `T`, and lets the aggregate
/// `dispatch` to `T`; a variant whose last field is a `CallOutcome<G>` receives the outcomes of the
/// gateway `G`, and lets it `call` `G`. The fields before the last are the tag, which travels with
/// the request and returns with every reply. The tag's type is `()`, the type of the only field, or
/// a tuple. An enum has one such variant for each target.
///
/// A variant whose only field is a `Heard<T>` receives the events of `T`, for an app's followers.
/// It is always internal.
///
/// A request stores the variant's name and version. When the tag changes, raise the version; the
/// older shape in `from` is a struct of the old tag's fields and the reply, in this order.
///
/// # Example: a field that was added, and one that was removed
///
/// ```
/// use composable_rust_core::Message;
/// use composable_rust_core::codec::Format;
///
/// #[derive(Debug, Clone, PartialEq, Message)]
/// enum OrderEvent {
///     #[message(version = 3, removed(discount: u32, since = 3, before = why))]
///     Cancelled {
///         why: String,
///         #[message(since = 2, default = true)]
///         win_back: bool,
///     },
/// }
///
/// let first = br#"{"discount":10,"why":"price"}"#;
/// let read = OrderEvent::decode("order.cancelled", 1, Format::Json, first)?;
/// assert_eq!(read, OrderEvent::Cancelled { why: "price".to_owned(), win_back: true });
///
/// let second = br#"{"discount":10,"why":"price","win_back":false}"#;
/// let read = OrderEvent::decode("order.cancelled", 2, Format::Json, second)?;
/// assert_eq!(read, OrderEvent::Cancelled { why: "price".to_owned(), win_back: false });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
///     Placed { items: Vec<Item>, express: bool },
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

/// Derives `EventSet` for an enum: the events of several aggregates, read together.
///
/// The enum also derives `Debug`, `Clone` and `PartialEq`.
///
/// - All events: a variant is named after an aggregate in scope and holds its events, such as
///   `Order(OrderEvent)`. `#[event_set(of = path::To::Order)]` names the aggregate where the
///   variant's name does not.
/// - Some events: the enum derives `Message` too, and `#[event_set(Order, Invoice)]` on it names
///   the aggregates. `#[message(other)]` on a unit variant stands for all events that no variant
///   declares.
#[proc_macro_derive(EventSet, attributes(event_set, message))]
pub fn derive_event_set(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    event_set::event_set(&input).into()
}
