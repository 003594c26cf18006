//! Codecs: messages and states as bytes.

mod binary;
mod bounded;
#[expect(clippy::module_inception, reason = "the file has the name of its trait")]
mod codec;
pub(crate) mod content;

pub use codec::{BincodeCodec, Codec, CodecError, Codecs, JsonCodec};
pub use content::{DecodeError, EncodeError, EncodedMessage, Format, decode_value, encode_value};
