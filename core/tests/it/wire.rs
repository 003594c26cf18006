//! Tests of the binary format against its specification: golden bytes and a second implementation.

use composable_rust_core::Message;
use composable_rust_core::codec::Format;
use serde::{Deserialize, Serialize};
use wincode::config::Configuration;
use wincode::{SchemaRead, SchemaWrite};

#[derive(Debug, Clone, PartialEq, Message)]
enum GoldenEvent {
    Unit,
    Ints { small: u8, word: u16, long: u64, signed: i64, wide: u128 },
    Texts(Vec<String>, Option<char>),
    Nested(Nested),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, SchemaRead, SchemaWrite)]
enum Nested {
    Unit,
    Pair(u8, i32),
    Named { text: String, list: Vec<u64>, maybe: Option<bool> },
}

fn binary(event: &GoldenEvent) -> Vec<u8> {
    event.encode(Format::Binary).unwrap()
}

fn nested() -> [Nested; 4] {
    let (text, list) = ("ä".to_owned(), vec![0, 250, 251, 65_535, 65_536, u64::MAX]);
    [
        Nested::Unit,
        Nested::Pair(255, -1),
        Nested::Pair(0, i32::MIN),
        Nested::Named { text, list, maybe: Some(true) },
    ]
}

#[test]
fn golden_bytes() {
    assert!(binary(&GoldenEvent::Unit).is_empty());
    let ints =
        GoldenEvent::Ints { small: 255, word: 251, long: 70_000, signed: -2, wide: u128::MAX };
    let mut golden = vec![255, 251, 251, 0, 252, 0x70, 0x11, 1, 0, 3, 254];
    golden.extend([255; 16]);
    assert_eq!(binary(&ints), golden);
    let texts = GoldenEvent::Texts(vec!["ä".into(), String::new()], Some('€'));
    assert_eq!(binary(&texts), [2, 2, 0xc3, 0xa4, 0, 1, 0xe2, 0x82, 0xac]);
    let nested = GoldenEvent::Nested(Nested::Pair(7, 1));
    assert_eq!(binary(&nested), [1, 7, 2]);
}

#[test]
fn another_implementation_of_the_format_agrees() {
    let config = Configuration::default().with_varint_encoding();
    for value in nested() {
        let bytes = binary(&GoldenEvent::Nested(value.clone()));
        let theirs = wincode::config::serialize(&value, config).unwrap();
        assert_eq!(theirs, bytes);
        let read: Nested = wincode::config::deserialize(&bytes, config).unwrap();
        assert_eq!(read, value);
        let read = GoldenEvent::decode("golden.nested", 1, Format::Binary, &theirs);
        assert_eq!(read.unwrap(), GoldenEvent::Nested(value));
    }
}
