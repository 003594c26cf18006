//! Statements of many rows, their arguments, and numbers on their way in and out.

use sqlx::Arguments as _;
use sqlx::encode::Encode;
use sqlx::sqlite::{Sqlite, SqliteArguments};
use sqlx::types::Type;

/// Rows of one `values` list: enough that the fixed cost of a statement does not show.
pub(crate) const CHUNK: usize = 256;

/// Rows that a statement for `rows` of them is written for: few sizes, so that statements stay
/// prepared. What is left over is filled with nulls, which the statement skips.
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

/// Appends `in (?, …)` to `sql`, for `count` values and what pads them.
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

/// A version, offset or count as SQLite keeps it. What is too large for it is larger than
/// everything stored, and stays so.
pub(crate) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A version, offset or count that SQLite kept.
pub(crate) fn uint(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// A fingerprint as SQLite keeps it: the same 64 bits.
pub(crate) fn bits(number: u64) -> i64 {
    i64::from_be_bytes(number.to_be_bytes())
}
