//! Problems from the errors of queries.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use composable_rust_axum::Problem;
use sqlx::error::{DatabaseError, ErrorKind};

/// An error of a database that does not exist.
#[derive(Debug)]
struct Refused(&'static str);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("relation \"secrets\" is refused")
    }
}

impl Error for Refused {}

impl DatabaseError for Refused {
    fn message(&self) -> &'static str {
        "relation \"secrets\" is refused"
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        Some(self.0.into())
    }

    fn as_error(&self) -> &(dyn Error + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn Error + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn Error + Send + Sync + 'static> {
        self
    }

    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}

#[track_caller]
fn check(error: sqlx::Error, expected: (u16, &str)) {
    let text = format!("{error:?}");
    let problem = Problem::from(error);
    assert_eq!((problem.status().as_u16(), problem.code()), expected, "{text}");
    assert_eq!(problem.detail(), None, "{text}");
    let json = problem.to_json().to_string();
    assert!(!json.contains("secrets"), "{json}");
}

#[test]
fn a_database_without_time_for_a_query_is_503() {
    let gone = || std::io::Error::other("secrets.example.com is gone");
    for error in [
        sqlx::Error::PoolTimedOut,
        sqlx::Error::PoolClosed,
        sqlx::Error::WorkerCrashed,
        sqlx::Error::Io(gone()),
    ] {
        check(error, (503, "unavailable"));
    }
    // A stopping server, a statement timeout, a deadlock, too many connections; a busy file.
    for code in ["57P01", "57014", "40P01", "53300", "08006", "55P03", "5", "517", "6", "13"] {
        check(sqlx::Error::Database(Box::new(Refused(code))), (503, "unavailable"));
    }
}

#[test]
fn the_other_errors_of_a_query_are_500_without_their_text() {
    // A missing table, a constraint, a syntax error; the same of SQLite.
    for code in ["42P01", "23505", "42601", "1", "1555", "", "ä–"] {
        check(sqlx::Error::Database(Box::new(Refused(code))), (500, "internal"));
    }
    check(sqlx::Error::RowNotFound, (500, "internal"));
    check(sqlx::Error::ColumnNotFound("secrets".to_owned()), (500, "internal"));
}
