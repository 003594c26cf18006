//! The bincode wire format, and the only module that uses the crate.
//!
//! The format is that of bincode 2 with its standard configuration (little endian, variable-length
//! integers), through serde. It is frozen and specified; golden bytes in this module's tests pin
//! it. Nothing else in the workspace names the crate, so another implementation of the same format
//! can take its place here.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::bounded::{Bounded, Bounds};
use crate::limits::MAX_PAYLOAD_BYTES;

/// The limit of bincode, which counts an integer at its full width: up to 16 times its bytes on the
/// wire. Without a limit the decoder would allocate for a length before it has seen the bytes.
const LIMIT: usize = 16 * MAX_PAYLOAD_BYTES;

type Config = Configuration<LittleEndian, Varint, Limit<LIMIT>>;

const CONFIG: Config = bincode::config::standard().with_limit::<LIMIT>();

pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, Error> {
    bincode::serde::encode_to_vec(value, CONFIG).map_err(Into::into)
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let bounds = Bounds::of(bytes.len());
    let seed = Bounded::<PhantomData<T>>::seed(&bounds);
    let (value, read) = bincode::serde::seed_decode_from_slice(seed, bytes, CONFIG)?;
    if read == bytes.len() {
        Ok(value)
    } else {
        Err(format!("{} bytes are left after the value", bytes.len() - read).into())
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Shape {
        Unit,
        Pair(u8, i32),
        Named { text: String, list: Vec<u64>, maybe: Option<bool> },
    }

    #[test]
    fn golden_bytes() {
        let named =
            Shape::Named { text: "ä".into(), list: vec![1, 250, 251, 70_000], maybe: Some(true) };
        let golden: [(Shape, &[u8]); 3] = [
            (Shape::Unit, &[0]),
            (Shape::Pair(255, -1), &[1, 255, 1]),
            (named, &[2, 2, 0xc3, 0xa4, 4, 1, 250, 251, 251, 0, 252, 0x70, 0x11, 1, 0, 1, 1]),
        ];
        for (value, bytes) in golden {
            assert_eq!(encode(&value).unwrap(), bytes);
            assert_eq!(decode::<Shape>(bytes).unwrap(), value);
        }
    }

    #[test]
    fn small_numbers_do_not_count_at_their_full_width() {
        let numbers = vec![1_u64; MAX_PAYLOAD_BYTES - 16];
        let bytes = encode(&numbers).unwrap();
        assert!(bytes.len() <= MAX_PAYLOAD_BYTES);
        assert_eq!(decode::<Vec<u64>>(&bytes).unwrap(), numbers);
    }

    #[test]
    fn refuses_what_is_left_over_and_what_is_too_long() {
        assert!(decode::<u8>(&[1, 2]).is_err());
        // A length of 2^40 must not be believed.
        assert!(decode::<Vec<u8>>(&[253, 0, 0, 0, 0, 0, 1, 0, 0]).is_err());
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Link(Option<Box<Link>>);

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Node {
        name: u8,
        next: Option<Box<Node>>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Tree {
        Leaf,
        Branch(Vec<Tree>),
    }

    fn chain(length: usize) -> Option<Box<Node>> {
        (0..length).fold(None, |next, _| Some(Box::new(Node { name: 1, next })))
    }

    #[test]
    fn refuses_what_would_overflow_the_stack() {
        let deep = vec![1; 1_000_000];
        let nested = |error: Error| error.to_string().contains("nests too deeply");
        assert!(decode::<Link>(&deep).is_err_and(nested));
        assert!(decode::<Node>(&deep).is_err_and(nested));
        assert!(decode::<Tree>(&deep).is_err_and(nested));
        // The deepest nesting that `serde_json` accepts.
        let deepest = Node { name: 0, next: chain(126) };
        let json = serde_json::to_string(&deepest).unwrap();
        assert_eq!(serde_json::from_str::<Node>(&json).unwrap(), deepest);
        assert_eq!(decode::<Node>(&encode(&deepest).unwrap()).unwrap(), deepest);
        let deeper = encode(&Node { name: 0, next: chain(127) }).unwrap();
        assert!(decode::<Node>(&deeper).is_err_and(nested));
        let wide = Tree::Branch((0..1_000).map(|_| Tree::Branch(vec![Tree::Leaf])).collect());
        assert_eq!(decode::<Tree>(&encode(&wide).unwrap()).unwrap(), wide);
    }

    #[test]
    fn refuses_elements_without_end() {
        let many = vec![(); 60_000];
        assert_eq!(decode::<Vec<()>>(&encode(&many).unwrap()).unwrap(), many);
        let endless = [253, 0, 0, 0, 0, 0, 0, 0, 16];
        assert!(decode::<Vec<()>>(&endless).is_err());
        assert!(decode::<Vec<[(); 2]>>(&endless).is_err());
    }
}
