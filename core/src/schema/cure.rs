//! The texts about types that the binary format cannot read, with what to do instead.

/// The text about a type that calls `deserialize_ignored_any`.
pub(super) const SKIPS_A_VALUE: &str = "it skips over a value (`deserialize_ignored_any`), whose end the binary format does not mark: \
     read the value into its type";

/// The text about a type that calls `deserialize_identifier` on a map: a flattened field.
pub(super) const FINDS_FIELDS_BY_NAME: &str = "it finds fields by their names, which the binary format does not write: make the field with \
     `#[serde(flatten)]` one like the others";

/// Returns the text about a type that calls `deserialize_any` with this visitor.
pub(super) fn asks_for_its_type(visitor: &str) -> String {
    let cure = cure_of(visitor);
    format!(
        "it asks the input for its type (`deserialize_any`), which the binary format does not \
         write: {cure}"
    )
}

fn cure_of(visitor: &str) -> String {
    // serde's own types read the content of such enums before they know what it is.
    if visitor.contains("ContentVisitor") || visitor.contains("TagOrContent") {
        return "remove `untagged` or `tag = \"…\"` from its enum".to_owned();
    }
    let name = visitor.trim_start_matches(['<', '&']).split("::").next().unwrap_or_default();
    match name {
        "rust_decimal" => "for `rust_decimal`, use its feature `serde-str`".to_owned(),
        "serde_json" => {
            "keep a `serde_json::Value` as a text, with `#[serde(with = \"…\")]` or in \
                         a `String`"
                .to_owned()
        }
        name => format!(
            "write it as a text or a number with `#[serde(with = \"…\")]`; some types have a \
             feature of `{name}` for that"
        ),
    }
}
