//! Statements of many rows, their arguments, and conversions of numbers.

use sqlx::Arguments as _;
use sqlx::encode::Encode;
use sqlx::sqlite::{Sqlite, SqliteArguments};
use sqlx::types::Type;

/// The maximum number of rows of one `values` list: enough that the fixed cost of a statement is
/// negligible.
pub(crate) const CHUNK: usize = 256;

/// Returns the number of rows that a statement for `rows` rows has: few sizes, so that statements
/// stay prepared. The surplus is filled with nulls, which the statement skips.
pub(crate) fn padded(rows: usize) -> usize {
    rows.next_power_of_two()
}

/// Appends `(?, …), (?, …), …` to `sql`.
pub(crate) fn push_values(sql: &mut String, rows: usize, columns: usize) {
    for row in 0..rows {
        sql.push_str(if row == 0 { "(" } else { ", (" });
        for column in 0..columns {
            sql.push_str(if column == 0 { "?" } else { ", ?" });
        }
        sql.push(')');
    }
}

/// Appends `in (?, …)` to `sql`, for `count` values and their padding.
pub(crate) fn push_in(sql: &mut String, count: usize) {
    sql.push_str("in ");
    push_values(sql, 1, padded(count));
}

/// The arguments of a statement, in order.
#[derive(Default)]
pub(crate) struct Args<'q>(SqliteArguments<'q>);

impl<'q> Args<'q> {
    pub(crate) fn add<T: Encode<'q, Sqlite> + Type<Sqlite> + 'q>(&mut self, value: T) {
        // Encoding writes into memory; for the types used here it cannot fail.
        let _ = self.0.add(value);
    }

    pub(crate) fn add_nulls(&mut self, count: usize) {
        for _ in 0..count {
            self.add(None::<i64>);
        }
    }

    pub(crate) fn into_inner(self) -> SqliteArguments<'q> {
        self.0
    }
}

/// Converts a version, offset or count for SQLite. A number beyond SQLite's range becomes the
/// highest in it, which is still above every stored one.
pub(crate) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Converts a version, offset or count of SQLite.
pub(crate) fn uint(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// Converts a fingerprint to the same 64 bits as a signed number.
pub(crate) fn bits(number: u64) -> i64 {
    i64::from_be_bytes(number.to_be_bytes())
}
