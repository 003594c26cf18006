//! The typed id of an instance.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::Arc;

use hmac::{Hmac, Mac};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::Sha256;

use crate::stream::check_id;
use crate::{InvalidId, StreamId, Target};

/// The id of an instance of `T`.
///
/// It has no default, is never empty, has at most 1,024 bytes and contains no NUL. Ids are
/// permanent and public: they appear in stream names, topics and logs, and erasing a stream's
/// payloads does not erase its name. Use [`Id::keyed`] where the natural id is personal data.
///
/// # Example: an id from a request
///
/// ```
/// # use composable_rust_core::{Id, Target};
/// # fn f<Order: Target>() {
/// let id: Result<Id<Order>, _> = "2024-17".parse();
/// assert_eq!(id.unwrap().as_str(), "2024-17");
/// assert!("".parse::<Id<Order>>().is_err());
/// # }
/// ```
pub struct Id<T>(Arc<str>, PhantomData<fn() -> T>);

impl<T> Id<T> {
    /// Parses an id, as from a request.
    ///
    /// # Errors
    ///
    /// [`InvalidId`] says which rule is broken; ask the sender for another id.
    pub fn parse(text: impl Into<Arc<str>>) -> Result<Self, InvalidId> {
        let text = text.into();
        check_id(&text)?;
        Ok(Self(text, PhantomData))
    }

    /// Derives the id of an instance from a value that the id must not reveal, such as an e-mail
    /// address: HMAC-SHA-256 of the value under `secret`, in hexadecimal.
    ///
    /// The same secret and value always give the same id. An attacker who has the secret can test
    /// guesses, so keep it like a password and never change it.
    pub fn keyed(secret: &[u8], value: &str) -> Self {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret)
            .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
        mac.update(value.as_bytes());
        Self(hex(&mac.finalize().into_bytes()).into(), PhantomData)
    }

    /// Returns the text of the id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the shared text of the id.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl<T: Target> Id<T> {
    /// Returns the instance's stream, `NAME-id`.
    pub fn stream(&self) -> StreamId {
        const {
            assert!(
                crate::stream::is_category(T::NAME),
                "NAME must match [a-z][a-z0-9_]* and have at most 64 bytes: it is the streams' category"
            );
        }
        StreamId::new(T::NAME, &self.0).unwrap_or_else(|_| unreachable!("both parts are checked"))
    }

    /// Returns the id of the instance of `stream`; `None` if the stream has another category.
    pub fn of_stream(stream: &StreamId) -> Option<Self> {
        (stream.category() == T::NAME).then(|| Self(stream.id().into(), PhantomData))
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl<T> FromStr for Id<T> {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Self::parse(text)
    }
}

impl<T> Clone for Id<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0), PhantomData)
    }
}

impl<T> PartialEq for Id<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T> Eq for Id<T> {}

impl<T> PartialOrd for Id<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Id<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}

impl<T> Hash for Id<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl<T> fmt::Display for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<T> fmt::Debug for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<T> Serialize for Id<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct("Id", &*self.0)
    }
}

impl<'de, T> Deserialize<'de> for Id<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename = "Id")]
        struct Text(String);
        let Text(text) = Text::deserialize(deserializer)?;
        Self::parse(text).map_err(de::Error::custom)
    }
}
