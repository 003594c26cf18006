//! Pages of long lists.

use serde::Serialize;

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Page<T, C> {
    /// The entries.
    pub entries: Vec<T>,
    /// The place at which the next page begins; `None` if this is the last page. A page may have
    /// few entries or none and still be followed by others: a search examines a limited number of
    /// rows for each.
    pub next: Option<C>,
}

impl<T, C> Page<T, C> {
    pub(crate) fn last(entries: Vec<T>) -> Self {
        Self { entries, next: None }
    }
}

/// The result of a search that examines a limited number of rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Examined<T> {
    /// The entries.
    pub entries: Vec<T>,
    /// `true` if there are rows that were not examined.
    pub is_cut: bool,
}
