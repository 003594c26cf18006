//! Several statements in one round trip.

use composable_rust_core::codec::EncodedMessage;

use crate::connection::Transaction;
use crate::sql::{Args, CHUNK, padded, push_values};

/// Runs the statements, each given with the number of rows that it writes, and commits.
pub(crate) async fn commit_all(
    mut transaction: Transaction<'_>,
    statements: Vec<(Statement<'_>, usize)>,
) -> Result<(), sqlx::Error> {
    let mut batch = StatementBatch::default();
    for (statement, rows) in statements {
        if batch.rows > 0 && batch.rows + rows > BATCH_ROWS {
            let full = std::mem::take(&mut batch);
            transaction.fetch(&full.sql, full.args).await?;
        }
        batch.rows += rows;
        statement(&mut batch);
    }
    if batch.rows == 0 {
        return transaction.rollback().await;
    }
    batch.sql.push_str("commit");
    transaction.commit_with(&batch.sql, batch.args).await
}

/// Adds name, schema version, codec and bytes.
pub(crate) fn add_content<'q>(args: &mut Args<'q>, content: &'q EncodedMessage) {
    args.add(&*content.name);
    args.add(i64::from(content.version));
    args.add(&*content.codec);
    args.add(content.bytes.as_slice());
}

/// A statement of a batch.
pub(crate) type Statement<'s> = Box<dyn Fn(&mut StatementBatch<'s>) + Send + 's>;

/// Adds a statement for each chunk of `rows`.
pub(crate) fn push_chunks<'s, R: Sync>(
    statements: &mut Vec<(Statement<'s>, usize)>,
    rows: &'s [R],
    write: impl Fn(&mut StatementBatch<'s>, &'s [R]) + Copy + Send + 's,
) {
    for chunk in rows.chunks(CHUNK) {
        statements.push((Box::new(move |batch| write(batch, chunk)), padded(chunk.len())));
    }
}

/// The maximum number of rows of statements that are sent in one round trip. Larger statements gain
/// nothing from it, and every combination of sizes is another text to prepare.
const BATCH_ROWS: usize = 16;

/// Statements that are sent in one round trip.
#[derive(Default)]
pub(crate) struct StatementBatch<'q> {
    pub(crate) sql: String,
    pub(crate) args: Args<'q>,
    rows: usize,
}

impl<'q> StatementBatch<'q> {
    /// Adds a statement around a `values` list of `columns` by `rows`.
    pub(crate) fn values(
        &mut self,
        (before, after): (&str, &str),
        (columns, rows): (usize, usize),
        bind_first: impl FnOnce(&mut Args<'q>),
        bind_rows: impl FnOnce(&mut Args<'q>),
    ) {
        self.sql.push_str(before);
        push_values(&mut self.sql, padded(rows), columns);
        self.sql.push_str(after);
        bind_first(&mut self.args);
        bind_rows(&mut self.args);
        self.args.add_nulls((padded(rows) - rows) * columns);
    }
}
