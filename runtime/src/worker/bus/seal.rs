//! Seals: the proof that a reply of another service belongs to a request of this service.
//!
//! The nearest return address of a request is sealed when it leaves: with an authentication code of
//! the log's secret over the address, all addresses below it, the id of the message and its user.
//! Other services return the seal. A reply is accepted if its seal was made here for exactly that
//! instance, target and tag.

use composable_rust_core::message::{InReplyTo, ReturnAddress, Seal, Tag};
use composable_rust_core::store::LogInfo;
use composable_rust_core::{Metadata, StreamId};
use uuid::Uuid;

const ADDRESS: &str = "return address";

/// Seals the nearest return address of the request `message`, which belongs to this service.
pub(crate) fn seal(log: &LogInfo, message: Uuid, metadata: &mut Metadata) {
    let (user, user_from) = (metadata.user.clone(), metadata.user_from);
    let Some((nearest, below)) = metadata.return_addresses.split_last_mut() else { return };
    let mut seal = Seal { message, user, user_from, code: String::new() };
    let ReturnAddress { stream, target, tag, .. } = &*nearest;
    let code = log.secret.code(ADDRESS, &[&sealed(log, below, stream, target, tag, &seal)]);
    seal.code = format!("{:032x}", u128::from_be_bytes(code));
    nearest.seal = Some(seal);
}

/// Returns the seal of the return address of a reply, if this service has made it for `recipient`,
/// with the addresses `below`.
pub(crate) fn verified<'a>(
    log: &LogInfo,
    recipient: &StreamId,
    reply: &'a InReplyTo,
    below: &[ReturnAddress],
) -> Option<&'a Seal> {
    let seal = reply.seal.as_ref()?;
    let code = u128::from_str_radix(&seal.code, 16).ok()?.to_be_bytes();
    let sealed = sealed(log, below, recipient, &reply.from, &reply.tag, seal);
    log.secret.verifies(ADDRESS, &[&sealed], &code).then_some(seal)
}

/// Returns the bytes that are authenticated. Every address in them names its service, as on the
/// bus.
fn sealed(
    log: &LogInfo,
    below: &[ReturnAddress],
    stream: &StreamId,
    target: &str,
    tag: &Tag,
    seal: &Seal,
) -> Vec<u8> {
    let Seal { message, user, user_from, .. } = seal;
    serde_json::to_vec(&(log.id, below, stream, target, tag, message, user, user_from))
        .unwrap_or_else(|_| unreachable!("texts, numbers and ids are JSON"))
}
