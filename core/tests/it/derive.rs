//! Every form of variant, and every attribute.

use std::collections::BTreeMap;

use composable_rust_core::{DecodeError, Format, Kind, Message};
use serde::{Deserialize, Serialize};

/// As hexadecimal text.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(
        bytes: &[u8; 2],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:02x}{:02x}", bytes[0], bytes[1]))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<[u8; 2], D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = u16::from_str_radix(&text, 16).map_err(de::Error::custom)?;
        Ok(number.to_be_bytes())
    }
}

/// As text, for whatever prints and parses: generic over the value, so a reference would not do.
mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) trait Owned: 'static {}
    impl Owned for u32 {}

    pub(super) fn serialize<T: Display + Owned, S: Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, T: FromStr, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(|_| de::Error::custom("not a number"))
    }

    pub(super) fn is_zero<T: Owned + PartialEq<u32>>(value: &T) -> bool {
        *value == 0
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Item {
    sku: String,
    count: u32,
}

#[derive(Debug, Clone, PartialEq, Message)]
enum FormEvent {
    Unit,
    Braces {},
    Parens(),
    One(Item),
    Two(u8, String),
    Named {
        items: Vec<Item>,
        r#type: Option<bool>,
        format: u8,
        kind: u8,
        name: u8,
    },
    HTTPCall {
        by_name: BTreeMap<String, u64>,
    },
    #[message(name = "kept", version = 3)]
    Renamed {
        at: i64,
    },
    #[message(internal)]
    TimedOut,
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    Serde {
        #[serde(rename = "TYPE")]
        the_type: u8,
        #[serde(default = "seven")]
        or_seven: u8,
        #[serde(with = "hex")]
        as_hex: [u8; 2],
        #[serde(with = "text")]
        as_text: u32,
        #[serde(skip)]
        not_stored: u8,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        maybe: Option<u8>,
        #[serde(default, skip_serializing_if = "text::is_zero")]
        number: u32,
    },
    OneWith(#[serde(with = "hex")] [u8; 2]),
    TwoWith(#[serde(rename = "first")] u8, #[serde(with = "hex")] [u8; 2]),
    Skipped(#[serde(skip)] u8),
    Recursive(Box<Tree>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Tree {
    children: Vec<Tree>,
}

fn seven() -> u8 {
    7
}

fn forms() -> Vec<FormEvent> {
    let item = Item { sku: "a".into(), count: 1 };
    vec![
        FormEvent::Unit,
        FormEvent::Braces {},
        FormEvent::Parens(),
        FormEvent::One(item.clone()),
        FormEvent::Two(1, "ä".into()),
        FormEvent::Named { items: vec![item], r#type: Some(true), format: 1, kind: 2, name: 3 },
        FormEvent::HTTPCall { by_name: [("x".into(), 300)].into() },
        FormEvent::Renamed { at: -1 },
        FormEvent::TimedOut,
        FormEvent::Serde {
            the_type: 1,
            or_seven: 2,
            as_hex: [0xab, 0xcd],
            as_text: 42,
            not_stored: 0,
            maybe: None,
            number: 0,
        },
        FormEvent::OneWith([1, 2]),
        FormEvent::TwoWith(9, [1, 2]),
        FormEvent::Skipped(0),
        FormEvent::Recursive(Box::new(Tree { children: vec![Tree { children: vec![] }] })),
    ]
}

#[test]
fn round_trips() {
    for format in [Format::Binary, Format::Json] {
        for event in forms() {
            let Kind { name, version, .. } = *event.kind();
            let bytes = event.encode(format).unwrap();
            let read = FormEvent::decode(name, version, format, &bytes);
            assert_eq!(read.unwrap(), event, "{format:?}");
            assert!(matches!(
                FormEvent::decode(name, version + 1, format, &bytes),
                Err(DecodeError::UnknownVersion { known, .. }) if known == version
            ));
        }
    }
}
