//! The list type of effects and reactions.

use std::fmt;

use smallvec::SmallVec;

/// A list of effects ([`Effects`](crate::Effects)) or of durable effects
/// ([`Reactions`](crate::Reactions)), written `effects![…]`.
///
/// Up to two effects need no allocation.
#[derive(Clone, PartialEq)]
#[must_use = "effects are values: they do nothing unless they are returned"]
pub struct EffectList<E>(SmallVec<[E; 2]>);

impl<E> EffectList<E> {
    /// Returns an empty list.
    #[inline]
    pub const fn none() -> Self {
        Self(SmallVec::new_const())
    }

    /// Appends the effects of `other`.
    pub fn merge(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Returns the number of effects.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns `true` if the list is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns an iterator over the effects, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, E> {
        self.0.iter()
    }

    pub(crate) fn push(&mut self, item: E) {
        self.0.push(item);
    }
}

impl<E> Default for EffectList<E> {
    fn default() -> Self {
        Self::none()
    }
}

impl<E: fmt::Debug> fmt::Debug for EffectList<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}

impl<E> IntoIterator for EffectList<E> {
    type Item = E;
    type IntoIter = smallvec::IntoIter<[E; 2]>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, E> IntoIterator for &'a EffectList<E> {
    type Item = &'a E;
    type IntoIter = std::slice::Iter<'a, E>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<E> FromIterator<E> for EffectList<E> {
    fn from_iter<I: IntoIterator<Item = E>>(items: I) -> Self {
        Self(items.into_iter().collect())
    }
}

/// A value that `effects![…]` accepts where a list of `E` is expected.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be returned as `{E}`",
    label = "not an effect that may stand here",
    note = "an aggregate's follow-ups are durable: `dispatch`, `tell`, `call`, `after`, `at` and \
            `cancel`, the delays with a command of its own; instead of a future, `call` a gateway; instead of publishing, let the relay \
            publish the event"
)]
pub trait IntoEffect<E> {
    /// Converts the value to an element of the list.
    fn into_effect(self) -> E;
}

/// Appends to a list. For the expansion of `effects![…]`.
#[doc(hidden)]
pub fn put<E, X: IntoEffect<E>>(mut list: EffectList<E>, item: X) -> EffectList<E> {
    list.push(item.into_effect());
    list
}

/// Creates a list of effects: `effects![dispatch(…), after(…)]`.
#[macro_export]
macro_rules! effects {
    () => { $crate::effect::EffectList::none() };
    ($($item:expr),+ $(,)?) => { $crate::effects!(@put $crate::effect::EffectList::none(); $($item),+) };
    (@put $list:expr; $item:expr $(, $rest:expr)*) => {
        $crate::effects!(@put $crate::__private::put($list, $item); $($rest),*)
    };
    (@put $list:expr;) => { $list };
}
